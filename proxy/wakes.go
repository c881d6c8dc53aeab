package proxy

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// WakeMetrics counts and times how sessions are woken. Its methods are what a
// sessions.Waker wants as Staged and Woken.
type WakeMetrics struct {
	stages *prometheus.HistogramVec
	wakes  *prometheus.HistogramVec
}

// wakeBuckets reach from a probe to a Spark on a slow machine, in seconds.
var wakeBuckets = []float64{0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300}

// NewWakeMetrics registers the metrics.
func NewWakeMetrics(r prometheus.Registerer) *WakeMetrics {
	m := &WakeMetrics{
		stages: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sconce_wake_stage_seconds", Buckets: wakeBuckets,
			Help: "Time that each stage of waking a session took.",
		}, []string{"cluster", "stage"}),
		wakes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sconce_wake_seconds", Buckets: wakeBuckets,
			Help: "Time that waking a session took on this replica, and how it ended: done or failed.",
		}, []string{"cluster", "outcome"}),
	}
	r.MustRegister(m.stages, m.wakes)
	return m
}

// Staged notes one stage.
func (m *WakeMetrics) Staged(cluster, stage string, took time.Duration) {
	m.stages.WithLabelValues(cluster, stage).Observe(took.Seconds())
}

// Woken notes one wake.
func (m *WakeMetrics) Woken(cluster, outcome string, took time.Duration) {
	m.wakes.WithLabelValues(cluster, outcome).Observe(took.Seconds())
}

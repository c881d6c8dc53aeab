package proxy

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Why a connection was not served.
const (
	portTotal = iota
	portPerIP
	portFiles
	portSilent
	portHandshake
	portTongue
	portPlain
	portReasons
)

// portReason are the label values of the above.
var portReason = [portReasons]string{
	"too_many", "too_many_per_ip", "no_file_descriptors", "silent", "tls_handshake", "unknown_protocol", "plaintext",
}

// portTally counts connections.
type portTally struct {
	refused  [portReasons]atomic.Uint64
	accepted [2][2]atomic.Uint64 // [HTTP/1.1, HTTP/2][plaintext, TLS]
}

func (t *portTally) accept(spoken tongue, secure bool) {
	protocol, tls := 0, 0
	if spoken == tongueHTTP2 {
		protocol = 1
	}
	if secure {
		tls = 1
	}
	if spoken == tongueHTTP1 || spoken == tongueHTTP2 {
		t.accepted[protocol][tls].Add(1)
	}
}

var (
	connsDesc = prometheus.NewDesc("sconce_connections_total",
		"Client connections that were served.", []string{"protocol", "tls"}, nil)
	connsOpenDesc = prometheus.NewDesc("sconce_connections_open",
		"Client connections that are open.", nil, nil)
	connsRefusedDesc = prometheus.NewDesc("sconce_connections_refused_total",
		"Client connections that were not served.", []string{"reason"}, nil)
)

// Describe is part of prometheus.Collector.
func (p *Port) Describe(ch chan<- *prometheus.Desc) {
	ch <- connsDesc
	ch <- connsOpenDesc
	ch <- connsRefusedDesc
}

// Collect is part of prometheus.Collector.
func (p *Port) Collect(ch chan<- prometheus.Metric) {
	for i, protocol := range []string{"http1", "http2"} {
		for j, tls := range []string{"false", "true"} {
			n := float64(p.tally.accepted[i][j].Load())
			ch <- prometheus.MustNewConstMetric(connsDesc, prometheus.CounterValue, n, protocol, tls)
		}
	}
	for i, reason := range portReason {
		n := float64(p.tally.refused[i].Load())
		ch <- prometheus.MustNewConstMetric(connsRefusedDesc, prometheus.CounterValue, n, reason)
	}
	p.mu.Lock()
	open := p.open
	p.mu.Unlock()
	ch <- prometheus.MustNewConstMetric(connsOpenDesc, prometheus.GaugeValue, float64(open))
}

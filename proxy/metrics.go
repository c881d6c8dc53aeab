package proxy

import (
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sconce-dev/sconce/proxy/relay"
	"google.golang.org/grpc/codes"
)

// How a stream ended, besides the gRPC codes 0 to 16.
const (
	endCut    = int(codes.Unauthenticated) + 1 + iota // reset or lost without a status
	endClient                                         // given up by the client
	endOther                                          // a status that gRPC does not have
	endCount
)

// tally counts the streams of the port. Its counters are plain atomics in
// arrays, found by number; names and labels are made only when somebody
// collects. Labels are bounded: methods and services are those that are known
// at the start, reasons those of the table.
type tally struct {
	methods []string // label values; the index is the method's number
	rows    []methodTally
	refused map[string]*atomic.Uint64 // by reason; the map itself never changes
	held    atomic.Int64
	handed  atomic.Uint64
	process *meter
}

type methodTally struct {
	started  atomic.Uint64
	open     atomic.Int64
	in, out  atomic.Uint64
	finished [endCount]atomic.Uint64
}

var (
	startedDesc = prometheus.NewDesc("sconce_streams_started_total",
		"Streams forwarded to an engine or to a service of Sconce.", []string{"method"}, nil)
	finishedDesc = prometheus.NewDesc("sconce_streams_finished_total",
		"Forwarded streams that ended, by the gRPC status the client read; RESET: none was sent; CLIENT: the client gave up.",
		[]string{"method", "code"}, nil)
	openDesc = prometheus.NewDesc("sconce_streams_open",
		"Forwarded streams that are open.", []string{"method"}, nil)
	bytesDesc = prometheus.NewDesc("sconce_stream_bytes_total",
		"Body bytes of finished streams: in from clients, out to clients.", []string{"method", "direction"}, nil)
	refusedDesc = prometheus.NewDesc("sconce_streams_refused_total",
		"Refusals, by the reason of docs/errors.md.", []string{"reason"}, nil)
	heldDesc = prometheus.NewDesc("sconce_streams_held",
		"Streams that wait for their session or for the registry.", nil, nil)
	inFlightDesc = prometheus.NewDesc("sconce_bytes_in_flight",
		"Body bytes that were read from one side and not yet written to the other, in steps of 64 KiB for each stream and direction.", nil, nil)
	handedDesc = prometheus.NewDesc("sconce_streams_handed_over_total",
		"Results that a drain ended between two messages, for their clients to take up on another replica.", nil, nil)
)

func newTally(methods []string, process *meter) *tally {
	t := &tally{methods: methods, process: process, rows: make([]methodTally, len(methods)), refused: make(map[string]*atomic.Uint64)}
	for _, r := range Refusals() {
		t.refused[r.Reason] = new(atomic.Uint64)
	}
	return t
}

func (t *tally) refuse(r Refusal) {
	if n := t.refused[r.Reason]; n != nil {
		n.Add(1)
	}
}

func (t *tally) start(method int) {
	t.rows[method].started.Add(1)
	t.rows[method].open.Add(1)
}

func (t *tally) finish(method int, st relay.Stats) {
	row := &t.rows[method]
	row.open.Add(-1)
	row.in.Add(st.In)
	row.out.Add(st.Out)
	row.finished[endOf(st)].Add(1)
}

// endOf is the index of finished that a stream counts under.
func endOf(st relay.Stats) int {
	switch {
	case st.Status == "" && st.Client:
		return endClient
	case st.Status == "":
		return endCut
	}
	if n, err := strconv.Atoi(st.Status); err == nil && n >= 0 && n < endCut {
		return n
	}
	return endOther
}

func endName(end int) string {
	switch end {
	case endCut:
		return "RESET"
	case endClient:
		return "CLIENT"
	case endOther:
		return "OTHER"
	}
	return codeName(codes.Code(end))
}

// Describe is part of prometheus.Collector.
func (t *tally) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{startedDesc, finishedDesc, openDesc, bytesDesc, inFlightDesc, refusedDesc, heldDesc, handedDesc} {
		ch <- d
	}
}

// Collect is part of prometheus.Collector. A series appears with its first
// event; those that say what is open are always there.
func (t *tally) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		if n > 0 {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
		}
	}
	for i := range t.rows {
		row, method := &t.rows[i], t.methods[i]
		count(startedDesc, row.started.Load(), method)
		count(bytesDesc, row.in.Load(), method, "in")
		count(bytesDesc, row.out.Load(), method, "out")
		for end := range row.finished {
			count(finishedDesc, row.finished[end].Load(), method, endName(end))
		}
		ch <- prometheus.MustNewConstMetric(openDesc, prometheus.GaugeValue, float64(row.open.Load()), method)
	}
	count(handedDesc, t.handed.Load())
	for reason, n := range t.refused {
		count(refusedDesc, n.Load(), reason)
	}
	ch <- prometheus.MustNewConstMetric(inFlightDesc, prometheus.GaugeValue, float64(t.process.inFlight.Load()))
	ch <- prometheus.MustNewConstMetric(heldDesc, prometheus.GaugeValue, float64(t.held.Load()))
}

package workload

import (
	"context"
	"time"

	"github.com/sconce-dev/sconce/bench/load"
	"github.com/sconce-dev/sconce/bench/table"
)

// Workload is one thing done to every proxy.
type Workload struct {
	// Name is how flags call it.
	Name string
	// Title and Text head the table.
	Title, Text string
	Columns     []table.Column
	// TLS says that clients speak TLS.
	TLS bool
	// Most is the largest number of repetitions that is worth its time; 0 = any.
	Most int
	// Scale says that it compares Sconce with itself, with more sessions, and
	// with no other peer.
	Scale bool
	// NoDirect says that there is nothing to learn from running it without a proxy.
	NoDirect bool
	// Run does it once.
	Run func(context.Context, Rig) (table.Values, error)
}

// Rig is one fresh proxy.
type Rig struct {
	Target load.Target
	// PID is the root of the proxy's process tree; 0 = there is no proxy.
	PID int
	// Quick does an eighth of the work, for a first look.
	Quick bool
	// Connections bounds the number of connections, as the machine's limit of
	// open files does.
	Connections int
	// Silence is how long a proxy is left alone before its idle memory is
	// read; 0 means 3 s.
	Silence time.Duration
	// Slow is how long slow readers read; 0 means 10 s, or less for a quick run.
	Slow time.Duration
}

// of returns n, or an eighth of it for a quick run, and at least one.
func (r Rig) of(n int) int {
	if r.Quick {
		return max(n/8, 1)
	}
	return n
}

const (
	mib = 1 << 20
	gib = 1 << 30
)

// rows is the message size in bytes of a result as Spark's servers send it.
const rows = 64 << 10

// All returns the catalogue in the order of the report.
func All() []Workload {
	return []Workload{
		unary("W1_1x1", "small RPCs, 1 connection, 1 at a time", 20_000, 1, 1),
		unary("W1_1x64", "small RPCs, 1 connection, 64 at a time", 150_000, 1, 64),
		unary("W1_8x8", "small RPCs, 8 connections, 8 at a time each", 100_000, 8, 8),
		download("W2", "download of 1 GiB in 64 KiB messages, 1 stream, three times in turn", 1, load.Ask{Size: rows, Messages: gib / rows}),
		download("W2b", "download of 1 GiB in 4 MiB messages, 1 stream, three times in turn", 1, load.Ask{Size: 4 * mib, Messages: 256}),
		oneMessage(),
		download("W3", "downloads of 128 MiB in 64 KiB messages, 8 connections at once, three times in turn", 8,
			load.Ask{Size: rows, Messages: 128 * mib / rows}),
		upload(),
		slow("W5_64x1", "64 slow readers (1 MB/s, 10 s), a connection each", 64, 1),
		slow("W5_1x64", "64 slow readers (1 MB/s, 10 s) on one connection", 1, 64),
		usedOnce(),
		openStreams(),
		overTLS(unary("W7_1x64", "TLS at the front: small RPCs, 1 connection, 64 at a time", 150_000, 1, 64)),
		overTLS(download("W7_W2", "TLS at the front: download of 1 GiB in 64 KiB messages, 1 stream, three times in turn", 1,
			load.Ask{Size: rows, Messages: gib / rows})),
		blocking(),
		scale(),
	}
}

func overTLS(w Workload) Workload {
	w.TLS = true
	w.NoDirect = true
	w.Text = "The floor is a Go TCP copy that ends TLS (TLS 1.3, ECDSA P-256, AES-128-GCM)."
	return w
}

// scale is W9: the RPC workload with one session in the registry and with many.
func scale() Workload {
	w := unary("W9", "the number of sessions in Redis: small RPCs, 1 connection, 64 at a time", 150_000, 1, 64)
	w.Text = "The second row has the many sessions (100,000 unless -sessions says otherwise), each active and with a Spark session bound; " +
		"÷ is to the first row, and all features are on in both."
	w.Scale = true
	w.NoDirect = true
	return w
}

// settle is how long a proxy is left alone before its idle memory is read.
func (r Rig) settle() {
	if r.Silence == 0 {
		r.Silence = idle
	}
	time.Sleep(r.Silence)
}

const idle = 3 * time.Second

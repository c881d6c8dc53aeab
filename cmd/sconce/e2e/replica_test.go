package e2e

import (
	"context"
	"errors"
	"io"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sconce-dev/sconce/sessions/storetest"
)

// drainRows are sent in many small partitions, so that the stream is long in
// messages and short in bytes.
const (
	drainRows  = 20_000_000
	drainQuery = "SELECT id FROM range(0, 20000000, 1, 400)"
)

// TestDrain ends a replica with SIGTERM while a client reads slowly: the stream
// goes on to its last row, nobody new gets in, and the process ends with 0.
func TestDrain(t *testing.T) {
	w := needs(t)
	for _, e := range []*engine{w.sail, w.spark} {
		t.Run(e.name, func(t *testing.T) {
			r := w.gate.replica(t)
			s := w.gate.open(t, "ada", e.cluster).through(r)
			ctx, cancel := context.WithTimeout(t.Context(), drainTimeout)
			defer cancel()
			stream, err := s.caller(t).open(ctx, "ExecutePlan", request(newUUID(), "ada").query(drainQuery))
			if err != nil {
				t.Fatal(err)
			}
			rows, err := countRows(stream, 20)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.child.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := r.child.ready(30*time.Second, refuses(r)); err != nil {
				t.Fatal(err)
			}
			rest, err := countRows(stream, 0)
			if err != nil || rows+rest != drainRows {
				t.Errorf("%d rows through the drain, want %d: %v", rows+rest, drainRows, err)
			}
			select {
			case <-r.child.done:
			case <-time.After(endsWithin):
				t.Fatal("the drained process does not end")
			}
			if code := r.child.cmd.ProcessState.ExitCode(); code != 0 {
				t.Errorf("the drained process ended with %d, want 0:\n%s", code, r.child.tail())
			}
		})
	}
}

// refuses is a probe: the gateway is not ready any more.
func refuses(g *gateway) func() error {
	ready := answers(g.admin + "/readyz")
	return func() error {
		if ready() == nil {
			return errors.New("still ready")
		}
		return nil
	}
}

// countRows reads so many messages (0 = to the end) and adds up their rows.
func countRows(stream grpc.ClientStream, messages int) (rows uint64, err error) {
	for n := 0; messages == 0 || n < messages; n++ {
		var raw []byte
		if err := stream.RecvMsg(&raw); err != nil {
			if errors.Is(err, io.EOF) {
				return rows, nil
			}
			return rows, err
		}
		rows += rowsOf(raw)
	}
	return rows, nil
}

// rowsOf is ExecutePlanResponse.arrow_batch.row_count, fields 2 and 1.
func rowsOf(response []byte) uint64 {
	var count uint64
	eachField(response, func(field protowire.Number, value []byte, _ uint64) {
		if field != 2 {
			return
		}
		eachField(value, func(field protowire.Number, _ []byte, number uint64) {
			if field == 1 {
				count = number
			}
		})
	})
	return count
}

// eachField visits the bytes and varint fields of a message that an engine made.
func eachField(message []byte, visit func(field protowire.Number, value []byte, number uint64)) {
	for len(message) > 0 {
		field, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return
		}
		message = message[n:]
		if n = protowire.ConsumeFieldValue(field, kind, message); n < 0 {
			return
		}
		switch kind {
		case protowire.BytesType:
			value, _ := protowire.ConsumeBytes(message)
			visit(field, value, 0)
		case protowire.VarintType:
			number, _ := protowire.ConsumeVarint(message)
			visit(field, nil, number)
		}
		message = message[n:]
	}
}

// TestCloseOnAnotherReplica: the stream runs on one replica, the session is
// closed on another. Several times, for two messages race: the close to the
// other replica, and the release to the engine, whose own end of the stream
// (Sail's is OK, without a row) must not be what the client reads.
func TestCloseOnAnotherReplica(t *testing.T) {
	w := needs(t)
	r := w.gate.replica(t)
	for range 5 {
		s := w.gate.open(t, "ada", w.sail.cluster)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		stream, err := s.through(r).caller(t).open(ctx, "ExecutePlan",
			request(newUUID(), "ada").query("SELECT sum(id % 7) FROM range(100000000000000)").operation(newUUID()))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond) // it computes; there is nothing to wait for
		type end struct {
			at  time.Time
			err error
		}
		ended := make(chan end, 1)
		go func() {
			err := drain(stream)
			ended <- end{time.Now(), err}
		}()
		s.close(t)
		stalls, closed := storetest.MeterStalls(t), time.Now()
		got := <-ended
		if took, stall := got.at.Sub(closed), stalls.Longest(); took > closeLimit+stall {
			t.Errorf("the stream ended %v after the close, %v of which the machine stood still; want at most %v", took, stall, closeLimit)
		}
		err = got.err
		refusal(t, err, codes.FailedPrecondition, "SESSION_CLOSED", "a closed session never reopens")
	}
}

// TestKilledReplica kills a replica with SIGKILL in the middle of a result. The
// client's next connection reaches another replica, where it takes the result
// up: every row, once. (PySpark 3.4 cannot, and nothing can be done for it.)
func TestKilledReplica(t *testing.T) {
	w := needs(t)
	for _, e := range []*engine{w.sail, w.spark} {
		for _, p := range []python{py35, py40, newest} {
			t.Run(e.name+"/"+p.name, func(t *testing.T) {
				victim := w.gate.replica(t)
				balancer, err := newLink(victim.host())
				if err != nil {
					t.Fatal(err)
				}
				defer balancer.close()
				balancer.onCut = func() {
					balancer.turn(w.gate.host())
					killGroup(victim.child.cmd.Process.Pid)
				}
				balancer.cutAfter(cutAfter)
				s := w.gate.open(t, "ada", e.cluster)
				got := p.run(t, w, job{URL: s.at(balancer.addr()), Cases: []string{"stream"}, Rows: cutRows}, 4*time.Minute)["stream"]
				if balancer.cuts.Load() != 1 {
					t.Errorf("the replica was not killed in the middle")
				}
				if problem := got.failed(); problem != "" {
					t.Errorf("after the kill: %s", problem)
				}
			})
		}
	}
}

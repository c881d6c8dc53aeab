package e2e

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// TestOtherReplica: an operation that began by way of one replica is taken up,
// interrupted and released by way of another, which knows of it by Redis alone.
func TestOtherReplica(t *testing.T) {
	w := needs(t)
	r := w.gate.replica(t)
	for _, e := range []*engine{w.sail, w.spark} {
		t.Run(e.name, func(t *testing.T) {
			s := w.gate.open(t, "ada", e.cluster)
			o := &elsewhere{here: s.caller(t), there: s.through(r).caller(t), spark: newUUID()}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			t.Run("reattach", func(t *testing.T) { o.reattach(ctx, t) })
			t.Run("interrupt", func(t *testing.T) { o.interrupt(ctx, t, e == w.sail) })
			t.Run("release", func(t *testing.T) { o.release(ctx, t) })
		})
	}
}

// elsewhere is one session by way of two replicas.
type elsewhere struct {
	here, there *caller
	spark       string
}

// begin starts a query here, and reads its first row.
func (o *elsewhere) begin(ctx context.Context, t *testing.T, sql string) (operation, last string, rows uint64, stream grpc.ClientStream) {
	t.Helper()
	operation = newUUID()
	stream, err := o.here.open(ctx, "ExecutePlan", request(o.spark, "ada").query(sql).operation(operation))
	if err != nil {
		t.Fatal(err)
	}
	for rows == 0 {
		var raw []byte
		if err := stream.RecvMsg(&raw); err != nil {
			t.Fatal(err)
		}
		rows, last = rows+rowsOf(raw), string(at(raw, 13))
	}
	return operation, last, rows, stream
}

// reattach leaves the stream here and reads the rest there.
func (o *elsewhere) reattach(ctx context.Context, t *testing.T) {
	leaving, leave := context.WithCancel(ctx)
	defer leave()
	operation, last, rows, _ := o.begin(leaving, t, drainQuery)
	leave()
	rest, err := o.there.open(ctx, "ReattachExecute", request(o.spark, "ada").text(3, operation).text(5, last))
	if err != nil {
		t.Fatal(err)
	}
	more, err := countRows(rest, 0)
	if err != nil || rows+more != drainRows {
		t.Errorf("%d rows here and %d there, want %d in all: %v", rows, more, drainRows, err)
	}
}

// interrupt ends there what runs here. silent: the engine then ends the stream as if it
// were complete.
func (o *elsewhere) interrupt(ctx context.Context, t *testing.T, silent bool) {
	operation, _, _, stream := o.begin(ctx, t, endlessRows)
	reply, err := o.there.call(ctx, "Interrupt", request(o.spark, "ada").varint(4, 3).text(6, operation))
	if err != nil || string(at(reply, 2)) != operation {
		t.Fatalf("interrupted %q, want %q: %v", at(reply, 2), operation, err)
	}
	if _, err = countRows(stream, 0); err == nil && !silent {
		t.Error("the query ended as if it were complete")
	}
}

// release has the engine forget there what began here.
func (o *elsewhere) release(ctx context.Context, t *testing.T) {
	leaving, leave := context.WithCancel(ctx)
	defer leave()
	operation, last, _, _ := o.begin(leaving, t, endlessRows)
	leave()
	if _, err := o.there.call(ctx, "ReleaseExecute", request(o.spark, "ada").text(3, operation).message(5, nil)); err != nil {
		t.Fatal(err)
	}
	_, err := o.here.call(ctx, "ReattachExecute", request(o.spark, "ada").text(3, operation).text(5, last))
	if said := strings.ToLower(status.Convert(err).Message()); !strings.Contains(said, "not found") && !strings.Contains(said, "abandoned") {
		t.Errorf("a released operation answers %v", errors.Join(err))
	}
}

// endlessRows goes on for far longer than any test, in small messages.
const endlessRows = "SELECT id FROM range(0, 1000000000, 1, 20000)"

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sconce-dev/sconce/proxy/proxytest"
)

// drawn is an engine that costs next to nothing: it answers as Apache Spark does,
// replays included, with rows that anybody can work out.
type drawn struct {
	*proxytest.Spark

	mu  sync.Mutex
	ops map[string]*drawnOp
}

// drawnOp is an operation that was not released.
type drawnOp struct {
	spark       string    // the Spark session that began it,
	begun       time.Time // and when
	batches     int       // negative = one, and then nothing until it is interrupted
	once        sync.Once // closes
	interrupted chan struct{}
}

const (
	// drawnServer is what it calls every Spark session, so that a drain hands over.
	drawnServer = "5e44e44e-0000-4000-8000-0000000050a4"
	drawnBytes  = 64 << 10 // of a batch
)

func startDrawn(t *testing.T) *drawn {
	d := &drawn{ops: map[string]*drawnOp{}, Spark: proxytest.StartSpark(t, proxytest.SparkConfig{Forget: true})}
	d.Script("Check", proxytest.Fail(status.New(codes.Unimplemented, "no health service"))) // Spark has none
	d.Script("ExecutePlan", d.execute)
	d.Script("ReattachExecute", d.reattach)
	d.Script("ReleaseExecute", d.release)
	d.Script("ReleaseSession", d.releaseSession)
	d.Script("Interrupt", d.interrupt)
	d.Script("AddArtifacts", d.artifacts)
	return d
}

// at is the text field at the end of this path.
func at(message []byte, path ...protowire.Number) (found []byte) {
	for _, want := range path {
		found = nil
		eachField(message, func(field protowire.Number, value []byte, _ uint64) {
			if field == want {
				found = value
			}
		})
		message = found
	}
	return found
}

func (d *drawn) execute(x *proxytest.Exchange) error {
	req, err := x.Recv()
	if err != nil {
		return err
	}
	sql := string(at(req, 3, 1, 10, 1))
	op := &drawnOp{spark: string(at(req, 1)), begun: time.Now(), batches: -1, interrupted: make(chan struct{})}
	if n, err := strconv.Atoi(sql); err == nil {
		op.batches = n
	}
	id := string(at(req, 6))
	d.mu.Lock()
	d.ops[id] = op
	d.mu.Unlock()
	return op.send(x, id, 0)
}

func (op *drawnOp) end() { op.once.Do(func() { close(op.interrupted) }) }

// send answers from this batch on.
func (op *drawnOp) send(x *proxytest.Exchange, id string, from int) error {
	about := func(i int) wire {
		return wire(nil).text(1, op.spark).text(12, id).text(13, strconv.Itoa(i)).text(15, drawnServer)
	}
	if op.batches < 0 {
		if from == 0 {
			if err := x.Send(drawnBatch(about(0), 0)); err != nil {
				return err
			}
		}
		select {
		case <-op.interrupted:
			return status.Error(codes.Internal, "[OPERATION_CANCELED] Operation has been canceled.")
		case <-x.Context().Done():
			return status.FromContextError(x.Context().Err()).Err()
		}
	}
	for i := from; i < op.batches; i++ {
		if err := x.Send(drawnBatch(about(i), i)); err != nil {
			return err
		}
	}
	return x.Send(about(op.batches).message(14, nil))
}

// drawnBatch has i+1 rows.
func drawnBatch(about wire, i int) []byte {
	return about.message(2, wire(nil).varint(1, uint64(i)+1).message(2, wire(proxytest.Pattern(i, drawnBytes))))
}

// drawnAnswer is what so many batches have to be.
func drawnAnswer(batches int) answer {
	sum := newTally()
	for i := range batches {
		sum.add(drawnBatch(nil, i))
	}
	return sum.answer()
}

func (d *drawn) reattach(x *proxytest.Exchange) error {
	req, err := x.Recv()
	if err != nil {
		return err
	}
	id, from := string(at(req, 3)), 0
	d.mu.Lock()
	op := d.ops[id]
	d.mu.Unlock()
	if op == nil || op.spark != string(at(req, 1)) {
		return proxytest.NotFound(id).Err()
	}
	if last := string(at(req, 5)); last != "" {
		n, err := strconv.Atoi(last)
		if err != nil {
			return status.Errorf(codes.Internal, "no response %q", last)
		}
		from = n + 1
	}
	return op.send(x, id, from)
}

func (d *drawn) release(x *proxytest.Exchange) error {
	req, err := x.Recv()
	if err != nil {
		return err
	}
	id := string(at(req, 3))
	d.mu.Lock()
	delete(d.ops, id)
	d.mu.Unlock()
	return x.Send(wire(nil).text(1, string(at(req, 1))).text(2, id).text(3, drawnServer))
}

func (d *drawn) releaseSession(x *proxytest.Exchange) error {
	req, err := x.Recv()
	if err != nil {
		return err
	}
	spark := string(at(req, 1))
	d.mu.Lock()
	for id, op := range d.ops {
		if op.spark == spark {
			delete(d.ops, id)
		}
	}
	d.mu.Unlock()
	return x.Send(wire(nil).text(1, spark).text(2, drawnServer))
}

func (d *drawn) interrupt(x *proxytest.Exchange) error {
	req, err := x.Recv()
	if err != nil {
		return err
	}
	id := string(at(req, 6))
	d.mu.Lock()
	defer d.mu.Unlock()
	answer := wire(nil).text(1, string(at(req, 1))).text(3, drawnServer)
	if op := d.ops[id]; op != nil {
		op.end()
		answer = answer.text(2, id)
	}
	return x.Send(answer)
}

// artifacts answers with the SHA-256 of the data that came.
func (d *drawn) artifacts(x *proxytest.Exchange) error {
	sum, spark := sha256.New(), ""
	for {
		req, err := x.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		spark = string(at(req, 1))
		sum.Write(at(req, 5, 1)) // chunk.data
	}
	name := hex.EncodeToString(sum.Sum(nil))
	return x.Send(wire(nil).text(2, spark).text(3, drawnServer).message(1, wire(nil).text(1, name).varint(2, 1)))
}

// forgets waits until nothing is left: Sconce tells an engine of a close two seconds
// later, and again for half a minute where that fails. What a replica had closed that
// was killed before, stays (docs/faults.md): lost says whether one was. A client that
// could not release an operation has left it to the close.
func (d *drawn) forgets(t *testing.T, ends *endLog, lost func(from, to time.Time) bool) {
	t.Helper()
	for begun := time.Now(); len(d.left()) > 0 && time.Since(begun) < 30*time.Second; {
		time.Sleep(100 * time.Millisecond)
	}
	for id, op := range d.left() {
		text := fmt.Sprintf("the engine still has operation %s of Spark session %s, begun at %s: %s", id, op.spark, op.begun.Format(time.StampMilli), ends.of(id, op.spark))
		if ends.end(op.spark).untold(lost) {
			t.Logf("%s; the replica that closed it may have been killed", text)
			continue
		}
		t.Error(text)
	}
}

// toldWithin is how long after the answer to a close an engine is told on a busy machine.
const toldWithin = 5 * time.Second

// endLog knows how what clients had on an engine ended.
type endLog struct {
	mu       sync.Mutex
	sessions map[string]end    // by the Spark session, those that are closed
	unfreed  map[string]string // by the operation, what its ReleaseExecute ended with
}

// end is a close: when it was first asked for, and answered.
type end struct{ asked, answered time.Time }

// untold says whether the engine may not have been told of it, since a replica was killed.
// One that was never asked for is long before every fault.
func (e end) untold(killed func(from, to time.Time) bool) bool {
	return killed(e.asked, e.answered.Add(toldWithin))
}

func newEndLog() *endLog { return &endLog{sessions: map[string]end{}, unfreed: map[string]string{}} }

func (l *endLog) closed(spark string, asked time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sessions[spark] = end{asked, time.Now()}
}

func (l *endLog) kept(operation string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unfreed[operation] = reasonOf(err)
}

func (l *endLog) end(spark string) end {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sessions[spark]
}

// of says how an operation and its session ended.
func (l *endLog) of(operation, spark string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := "its client released it"
	if reason := l.unfreed[operation]; reason != "" {
		text = "its ReleaseExecute ended with " + reason
	}
	if e, ok := l.sessions[spark]; ok {
		return fmt.Sprintf("%s, its session was closed from %s to %s", text, e.asked.Format(time.StampMilli), e.answered.Format(time.StampMilli))
	}
	return text + ", its session was not closed"
}

// unreleased is how many operations were left to the close of their session.
func (l *endLog) unreleased() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.unfreed)
}

// left are the operations that nobody released.
func (d *drawn) left() map[string]*drawnOp {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.ops)
}

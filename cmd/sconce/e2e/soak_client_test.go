package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
)

// answer is what a query brought: how many rows, and the SHA-256 of them.
type answer struct {
	rows uint64
	sum  string
}

// tally adds up the batches of an answer.
type tally struct {
	rows uint64
	hash hash.Hash
}

func newTally() *tally { return &tally{hash: sha256.New()} }

// add leaves out what has no rows: Sail sends the schema again to who reattaches.
func (a *tally) add(response []byte) {
	if n := rowsOf(response); n > 0 {
		a.rows += n
		a.hash.Write(at(response, 2, 2)) // arrow_batch.data
	}
}

func (a *tally) answer() answer { return answer{a.rows, hex.EncodeToString(a.hash.Sum(nil))} }

// patient does what PySpark does, by hand: a result that ends before it is complete,
// or breaks, is asked for again behind the last message that came; what is UNAVAILABLE
// is tried again.
type patient struct {
	*caller
	spark   string // the session_id of its requests
	owner   string
	retried func() // is told of each attempt after the first
	// broke says whether an engine was cut off since then; nil = never.
	broke func(begun time.Time) bool
	// kept is told of an operation that could not be released; nil = nobody is.
	kept func(operation string, err error)
}

// patience is far more than any fault lasts: what is UNAVAILABLE for longer is lost.
const patience = 3 * time.Minute

// again waits before the next attempt, unless the error is final.
func (p *patient) again(ctx context.Context, err error, attempt int, begun time.Time) bool {
	cut := p.broke != nil && reasonOf(err) == cutInMessage && p.broke(begun)
	if !transient(err) && !cut || time.Since(begun) > patience {
		return false
	}
	p.retried()
	pause := time.Duration(min(50<<min(attempt, 6), 2000)) * time.Millisecond
	select {
	case <-time.After(pause + time.Duration(rand.Int64N(int64(pause)))):
		return true
	case <-ctx.Done():
		return false
	}
}

// transient: a client of Spark tries it again.
func transient(err error) bool {
	s := status.Convert(err)
	if s.Code() == codes.Unavailable {
		return true
	}
	for _, detail := range s.Details() {
		if _, ok := detail.(*errdetails.RetryInfo); ok {
			return true
		}
	}
	return false
}

// unary calls until there is an answer or a final error.
func (p *patient) unary(ctx context.Context, method string, messages ...wire) (reply []byte, err error) {
	for begun, n := time.Now(), 0; ; n++ {
		if reply, err = p.call(ctx, method, messages...); err == nil || !p.again(ctx, err, n, begun) {
			return reply, err
		}
	}
}

// result runs a query as a result that can be taken up again, and releases it.
func (p *patient) result(ctx context.Context, sql string) (answer, error) {
	return p.run(ctx, request(p.spark, p.owner).query(sql))
}

// run is result for any plan.
func (p *patient) run(ctx context.Context, plan wire) (answer, error) {
	operation := newUUID()
	got, err := p.follow(ctx, operation, plan.operation(operation), nil)
	p.release(ctx, operation)
	return got, err
}

// release lets the engine forget an operation. Of one that failed there may be nothing
// left, so nobody judges what it answers.
func (p *patient) release(ctx context.Context, operation string) {
	_, err := p.unary(ctx, "ReleaseExecute", request(p.spark, p.owner).text(3, operation).message(5, nil))
	if err != nil && p.kept != nil {
		p.kept(operation, err)
	}
}

// errEnough ends follow early.
var errEnough = errors.New("enough")

// follow reads an operation to its end. each, if set, is told of every message, and
// may end it.
func (p *patient) follow(ctx context.Context, operation string, execute wire, each func() error) (answer, error) {
	sum, last, method, req := newTally(), "", "ExecutePlan", execute
	begun, n := time.Now(), 0
	for {
		complete, err := p.read(ctx, method, req, sum, &last, each)
		switch {
		case complete || errors.Is(err, errEnough):
			return sum.answer(), err
		case err != nil && last == "" && strings.Contains(status.Convert(err).Message(), "INVALID_HANDLE.OPERATION_NOT_FOUND"):
			method, req = "ExecutePlan", execute
			if time.Since(begun) > patience {
				return sum.answer(), err
			}
			p.retried()
			continue
		case err != nil:
			if !p.again(ctx, err, n, begun) {
				return sum.answer(), err
			}
			n++
		}
		method, req = "ReattachExecute", request(p.spark, p.owner).text(3, operation)
		if last != "" {
			req = req.text(5, last)
		}
	}
}

// read reads one stream; complete: it was the last.
func (p *patient) read(ctx context.Context, method string, req wire, sum *tally, last *string, each func() error) (complete bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := p.open(ctx, method, req)
	if err != nil {
		return false, err
	}
	for {
		var raw []byte
		if err := stream.RecvMsg(&raw); errors.Is(err, io.EOF) {
			return complete, nil
		} else if err != nil {
			if complete {
				return true, nil // the client has all it wants to know
			}
			return false, err
		}
		*last = string(at(raw, 13))
		sum.add(raw)
		eachField(raw, func(field protowire.Number, _ []byte, _ uint64) { complete = complete || field == 14 })
		if each != nil && !complete {
			if err := each(); err != nil {
				return false, err
			}
		}
	}
}

// upload sends so many chunks and returns the SHA-256 that the engine says it got.
func (p *patient) upload(ctx context.Context, chunks int) (want, got string, err error) {
	sum := sha256.New()
	messages := make([]wire, 0, chunks+1)
	first := wire(nil).text(1, "jars/soak.jar").varint(2, uint64(chunks)*uploadChunk).varint(3, uint64(chunks))
	messages = append(messages, request(p.spark, p.owner).message(4, first))
	for range chunks {
		data := make([]byte, uploadChunk)
		for i := 0; i < len(data); i += 8 {
			copy(data[i:], fmt.Sprintf("%08x", rand.Uint32()))
		}
		sum.Write(data)
		messages = append(messages, request(p.spark, p.owner).message(5, wire(nil).message(1, data).varint(2, 1)))
	}
	reply, err := p.unary(ctx, "AddArtifacts", messages...)
	return hex.EncodeToString(sum.Sum(nil)), string(at(reply, 1, 1)), err
}

// uploadChunk is what clients send in a message.
const uploadChunk = 32 << 10

// reasonOf names an error as docs/errors.md does; without a reason of Sconce's it is
// the engine's or the connection's.
func reasonOf(err error) string {
	s := status.Convert(err)
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.Domain == "sconce" {
			return info.Reason
		}
	}
	if s.Message() == "unexpected EOF" {
		return cutInMessage
	}
	if strings.Contains(s.Message(), "INVALID_HANDLE.OPERATION_NOT_FOUND") {
		return engineLostIt
	}
	if reason := engineReason(s.Message()); reason != "" {
		return reason
	}
	return s.Code().String() + " without a reason"
}

// engineReason names what only an engine says of an operation, to whichever client;
// "" = none of that.
func engineReason(text string) string {
	switch {
	case strings.Contains(text, "operation not found"), strings.Contains(text, "task context not found"):
		return engineLostIt
	case strings.Contains(text, "[SPARK_CONNECT_ILLEGAL_STATE.EXECUTION_STATE_OPERATION_ORPHANED]"):
		return sparkOrphaned
	}
	return ""
}

// cutInMessage is what grpc-go makes of any status that comes in the middle of a
// message; the libraries of Spark's clients read the status.
const cutInMessage = "the end of a connection in the middle of a message"

// engineLostIt is Sail's answer for an operation that is over.
const engineLostIt = "the engine's own: operation not found"

// sparkOrphaned is Apache Spark's answer to a ReattachExecute that comes between the
// ExecutePlan and the start of its thread. It gives the operation up then, and no client
// tries that again: docs/design/0003-refusals.md has why Sconce does not either.
const sparkOrphaned = "Spark's own: operation orphaned before it began"

// dialTLS is a client's own connection.
func dialTLS(address string, way grpc.DialOption, agent string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+address, way, grpc.WithUserAgent(agent), grpc.WithDisableServiceConfig())
}

package proxytest

import (
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
)

// Record is one call that a fake server was asked.
type Record struct {
	// Method is the last part of Path.
	Method, Path string
	Metadata     metadata.MD
	// Deadline is zero where the call had none.
	Deadline time.Time

	mu       sync.Mutex
	messages [][]byte
	forget   bool // messages is not kept
	closed   bool
	err      error
	done     chan struct{}
}

// Messages returns the request messages that came, byte for byte.
func (r *Record) Messages() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([][]byte(nil), r.messages...)
}

// HalfClosed says whether the client ended its side in order.
func (r *Record) HalfClosed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

// Wait waits until the call's handler returned and gives what it returned.
func (r *Record) Wait(t testing.TB) error {
	t.Helper()
	timer, stop := patience()
	defer stop()
	select {
	case <-r.done:
		return r.err
	case <-timer:
		t.Fatalf("fake Spark: %s did not end", r.Method)
		return nil
	}
}

func (r *Record) finish(err error) {
	r.err = err
	close(r.done)
}

func (r *Record) add(b []byte, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.forget {
		return
	}
	if err == nil {
		r.messages = append(r.messages, b)
	} else if err == io.EOF { //nolint:errorlint // grpc returns io.EOF itself
		r.closed = true
	}
}

// rawCodec hands messages through as the bytes they are.
type rawCodec struct{}

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("proxytest: cannot send %T", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(*b)}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("proxytest: cannot receive %T", v)
	}
	*b = data.Materialize()
	return nil
}

func (rawCodec) Name() string { return "proto" }

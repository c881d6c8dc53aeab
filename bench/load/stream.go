package load

import (
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/sconce-dev/sconce/bench/payload"
	"github.com/sconce-dev/sconce/bench/wire"
)

// Credit is how a stream's reader behaves.
type Credit uint8

const (
	// Prompt returns credit as soon as half the window was used.
	Prompt Credit = iota
	// Never returns none: the stream stalls when its window is full.
	Never
)

// stream is one call that is under way.
type stream struct {
	id      uint32
	started time.Time
	// first is how long the first byte of the answer's body took; 0 before.
	first  time.Duration
	check  payload.Check
	want   int64 // messages that the answer must have
	credit Credit
	used   int          // bytes of the window not given back
	got    atomic.Int64 // bytes of DATA frames
	window int64        // for sending
	done   bool
	extra  string // the trailer that counts what the backend received
}

// answer is what is read of a response's header blocks.
type answer struct {
	httpStatus string
	grpcStatus string
	message    string
	received   string
}

func (c *Conn) field(f hpack.HeaderField) {
	switch f.Name {
	case ":status":
		c.fields.httpStatus = f.Value
	case "grpc-status":
		c.fields.grpcStatus = f.Value
	case "grpc-message":
		c.fields.message = f.Value
	case payload.HeaderReceived:
		c.fields.received = f.Value
	}
}

// open begins a call: its HEADERS frame joins out.
func (c *Conn) open(path string, want *payload.Template, messages int64, more ...hpack.HeaderField) *stream {
	st := &stream{id: c.next, check: *payload.NewCheck(want), want: messages, window: c.initial, started: time.Now()}
	c.next += 2
	c.streams[st.id] = st
	c.block.Reset()
	for _, f := range c.request(path) {
		c.encode(f)
	}
	for _, f := range more {
		c.encode(f)
	}
	c.out = wire.AppendHeader(c.out, wire.Header{
		Length: c.block.Len(), Type: wire.Headers, Flags: wire.EndHeaders, Stream: st.id})
	c.out = append(c.out, c.block.Bytes()...)
	return st
}

func (c *Conn) encode(f hpack.HeaderField) {
	// A bytes.Buffer takes every write.
	_ = c.enc.WriteField(f)
}

// request is what PySpark sends with every call.
func (c *Conn) request(path string) [10]hpack.HeaderField {
	scheme := "http"
	if c.target.TLS != nil {
		scheme = "https"
	}
	return [10]hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: scheme},
		{Name: ":path", Value: path},
		{Name: ":authority", Value: c.target.Addr},
		{Name: "te", Value: "trailers"},
		{Name: "content-type", Value: "application/grpc"},
		{Name: "user-agent", Value: "sconce-bench grpc-python/1.76.0 grpc-c/51.0.0 (linux; chttp2)"},
		{Name: "grpc-accept-encoding", Value: "identity, deflate, gzip"},
		{Name: "authorization", Value: "Bearer " + c.target.Token},
		{Name: "x-session-id", Value: c.target.Session},
	}
}

// send adds the whole request message of a call, which must be small.
func (c *Conn) send(st *stream, message []byte) {
	c.out = wire.AppendHeader(c.out, wire.Header{
		Length: len(message), Type: wire.Data, Flags: wire.EndStream, Stream: st.id})
	c.out = append(c.out, message...)
	c.window -= int64(len(message))
	st.window -= int64(len(message))
}

func (c *Conn) data(h wire.Header, p []byte) error {
	if c.received += h.Length; c.received >= connWindow/4 {
		c.out = wire.AppendWindowUpdate(c.out, 0, c.received)
		c.received = 0
	}
	st := c.streams[h.Stream]
	if st == nil {
		return nil
	}
	p, err := wire.Body(h, p)
	if err != nil {
		return err
	}
	if st.first == 0 {
		st.first = time.Since(st.started)
	}
	st.got.Add(int64(h.Length))
	if err := st.check.Feed(p); err != nil {
		return err
	}
	if h.Flags&wire.EndStream != 0 {
		return fmt.Errorf("no trailers: %w", ErrShort)
	}
	c.giveBack(st, h.Length)
	return nil
}

func (c *Conn) giveBack(st *stream, n int) {
	st.used += n
	if st.credit == Prompt && st.used >= c.target.Window/2 {
		c.out = wire.AppendWindowUpdate(c.out, st.id, st.used)
		st.used = 0
	}
}

// headers takes response headers and trailers.
func (c *Conn) headers(h wire.Header, p []byte) error {
	p, err := wire.Body(h, p)
	if err != nil {
		return err
	}
	c.fields = answer{}
	if _, err := c.dec.Write(p); err != nil {
		return fmt.Errorf("header block: %w", err)
	}
	if err := c.dec.Close(); err != nil {
		return fmt.Errorf("header block: %w", err)
	}
	st := c.streams[h.Stream]
	if st == nil {
		return nil
	}
	if s := c.fields.httpStatus; s != "" && s != "200" {
		return fmt.Errorf("%w: HTTP status %s", ErrStatus, s)
	}
	if h.Flags&wire.EndStream == 0 {
		return nil
	}
	return c.finish(st)
}

// finish takes a stream's trailers.
func (c *Conn) finish(st *stream) error {
	delete(c.streams, st.id)
	st.done = true
	st.extra = c.fields.received
	if c.fields.grpcStatus != "0" {
		return fmt.Errorf("%w: grpc-status %q, %q", ErrStatus, c.fields.grpcStatus, c.fields.message)
	}
	if st.check.Partial() || st.check.Messages != st.want {
		return fmt.Errorf("%w: %d of %d messages, %d bytes", ErrShort, st.check.Messages, st.want, st.check.Bytes)
	}
	return nil
}

// ask is the metadata that tells the backend what to answer.
func (a Ask) metadata() []hpack.HeaderField {
	fields := []hpack.HeaderField{
		{Name: payload.HeaderSize, Value: strconv.Itoa(a.Size)},
		{Name: payload.HeaderMessages, Value: strconv.FormatInt(a.Messages, 10)},
	}
	if a.Hold {
		fields = append(fields, hpack.HeaderField{Name: payload.HeaderHold, Value: "1"})
	}
	return fields
}

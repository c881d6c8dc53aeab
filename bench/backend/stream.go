package backend

import (
	"fmt"
	"strconv"

	"golang.org/x/net/http2/hpack"

	"github.com/sconce-dev/sconce/bench/payload"
	"github.com/sconce-dev/sconce/bench/wire"
)

// request is what the backend reads of a header block.
type request struct {
	path     string
	size     int
	messages int64
	hold     bool
}

// stream is one call.
type stream struct {
	id  uint32
	req request

	// The reader's.
	body     []byte        // of a call with one small request
	sink     *payload.Sink // of an upload
	received int           // bytes since the stream's window was last refilled

	// Under conn.mu.
	window int64 // for sending; below zero is possible
	rows   *payload.Template
	off    int   // in the message that is going out
	left   int64 // messages, with the one that is going out
	queued bool  // stands in conn.ready
	gone   bool  // the peer reset it
}

// maxRequest is the largest request, in bytes, of a call that is no upload.
const maxRequest = 1 << 20

// field takes one decoded header field.
func (c *conn) field(f hpack.HeaderField) {
	switch f.Name {
	case ":path":
		c.fields.path = f.Value
	case payload.HeaderSize:
		c.fields.size, _ = strconv.Atoi(f.Value)
	case payload.HeaderMessages:
		c.fields.messages, _ = strconv.ParseInt(f.Value, 10, 64)
	case payload.HeaderHold:
		c.fields.hold = f.Value == "1"
	}
}

func (c *conn) headers(h wire.Header, p []byte) error {
	p, err := wire.Body(h, p)
	if err != nil {
		return err
	}
	c.fields = request{}
	if _, err := c.dec.Write(p); err != nil {
		return err
	}
	if err := c.dec.Close(); err != nil {
		return err
	}
	st := &stream{id: h.Stream, req: c.fields}
	if st.req.path == payload.AddArtifactsPath {
		st.sink = payload.NewSink(st.req.size)
	}
	c.mu.Lock()
	st.window = c.initial
	c.streams[st.id] = st
	c.mu.Unlock()
	if h.Flags&wire.EndStream != 0 {
		return c.answer(st)
	}
	return nil
}

func (c *conn) data(h wire.Header, p []byte) error {
	c.mu.Lock()
	st := c.streams[h.Stream]
	c.mu.Unlock()
	c.refillConn(h.Length)
	if st == nil {
		return nil
	}
	p, err := wire.Body(h, p)
	if err != nil {
		return err
	}
	if err := st.take(p); err != nil {
		return err
	}
	if h.Flags&wire.EndStream != 0 {
		return c.answer(st)
	}
	c.refill(st, h.Length)
	return nil
}

// take keeps or checks bytes of the request.
func (st *stream) take(p []byte) error {
	if st.sink != nil {
		return st.sink.Feed(p)
	}
	if len(st.body)+len(p) > maxRequest {
		return fmt.Errorf("request is larger than %d bytes: %w", maxRequest, wire.ErrFrame)
	}
	st.body = append(st.body, p...)
	return nil
}

func (c *conn) refillConn(n int) {
	if c.received += n; c.received < connWindow/4 {
		return
	}
	c.mu.Lock()
	c.control = wire.AppendWindowUpdate(c.control, 0, c.received)
	c.mu.Unlock()
	c.received = 0
}

func (c *conn) refill(st *stream, n int) {
	if st.received += n; st.received < c.server.cfg.Window/2 {
		return
	}
	c.mu.Lock()
	c.control = wire.AppendWindowUpdate(c.control, st.id, st.received)
	c.mu.Unlock()
	st.received = 0
}

// answer begins the answer to a request that is complete.
func (c *conn) answer(st *stream) error {
	switch st.req.path {
	case payload.ConfigPath:
		c.small(st, c.unaryAnswer(payload.Session(st.body)))
	case payload.HealthPath:
		c.small(st, payload.Healthy())
	case payload.AddArtifactsPath:
		if st.sink.Partial() {
			return fmt.Errorf("the upload ended within a message: %w", wire.ErrFrame)
		}
		c.small(st, payload.ArtifactResponse(""), hpack.HeaderField{
			Name: payload.HeaderReceived, Value: strconv.FormatInt(st.sink.Messages, 10)})
	case payload.ExecutePlanPath:
		return c.long(st)
	default:
		c.refuse(st)
	}
	return nil
}

// small queues an answer that fits one frame and every window.
func (c *conn) small(st *stream, body []byte, trailers ...hpack.HeaderField) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.control = c.appendHeaders(c.control, st.id, 0,
		hpack.HeaderField{Name: ":status", Value: "200"},
		hpack.HeaderField{Name: "content-type", Value: "application/grpc"})
	c.control = wire.AppendHeader(c.control, wire.Header{Length: len(body), Type: wire.Data, Stream: st.id})
	c.control = append(c.control, body...)
	c.window -= int64(len(body))
	c.control = c.appendTrailers(c.control, st.id, trailers...)
	delete(c.streams, st.id)
}

func (c *conn) refuse(st *stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.control = c.appendHeaders(c.control, st.id, wire.EndStream,
		hpack.HeaderField{Name: ":status", Value: "200"},
		hpack.HeaderField{Name: "content-type", Value: "application/grpc"},
		hpack.HeaderField{Name: "grpc-status", Value: "12"})
	delete(c.streams, st.id)
}

// long hands a stream of messages to the writer.
func (c *conn) long(st *stream) error {
	rows, err := c.server.template(payload.Session(st.body), st.req.size)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	st.rows, st.left, st.body = rows, max(st.req.messages, 1), nil
	c.control = c.appendHeaders(c.control, st.id, 0,
		hpack.HeaderField{Name: ":status", Value: "200"},
		hpack.HeaderField{Name: "content-type", Value: "application/grpc"})
	c.grant(st, 0)
	return nil
}

// grant changes a stream's window and queues it if it can go on. Under mu.
func (c *conn) grant(st *stream, n int64) {
	st.window += n
	if st.rows == nil || st.left == 0 || st.queued || st.window <= 0 {
		return
	}
	st.queued = true
	c.ready = append(c.ready, st)
	c.wake.Signal()
}

// appendHeaders encodes a header block. Under mu, in the order of sending.
func (c *conn) appendHeaders(dst []byte, id uint32, flags byte, fields ...hpack.HeaderField) []byte {
	c.block.Reset()
	for _, f := range fields {
		// A bytes.Buffer takes every write.
		_ = c.enc.WriteField(f)
	}
	dst = wire.AppendHeader(dst, wire.Header{
		Length: c.block.Len(), Type: wire.Headers, Flags: flags | wire.EndHeaders, Stream: id})
	return append(dst, c.block.Bytes()...)
}

func (c *conn) appendTrailers(dst []byte, id uint32, more ...hpack.HeaderField) []byte {
	return c.appendHeaders(dst, id, wire.EndStream,
		append([]hpack.HeaderField{{Name: "grpc-status", Value: "0"}}, more...)...)
}

package relay_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
	"golang.org/x/net/http2"
)

// unread is a client that has asked for one download, with windows that take all
// of it, and does not read.
func unread(r *rig) (net.Conn, *http2.Framer) {
	near := r.connect()
	_, _ = io.WriteString(near, http2.ClientPreface)
	fr := http2.NewFramer(near, near)
	_ = fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	_ = fr.WriteWindowUpdate(0, 1<<30)
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: encodeFields(proxytest.Call(method)), EndStream: true, EndHeaders: true})
	return near, fr
}

// rest reads a connection to its end.
func rest(fr *http2.Framer) (body []byte, ended bool, goAways []http2.ErrCode, err error) {
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return body, ended, goAways, err
		}
		switch f := f.(type) {
		case *http2.DataFrame:
			body = append(body, f.Data()...)
		case *http2.HeadersFrame:
			ended = ended || f.StreamEnded()
		case *http2.GoAwayFrame:
			goAways = append(goAways, f.ErrCode)
		}
	}
}

// A drain waits until an answer is written, not only until it is complete: a
// client that reads late gets all of it.
func TestDrainSendsCompleteAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigConfig{})
		near, fr := unread(r)
		defer func() { _ = near.Close() }()
		b := r.accept(proxytest.PeerConfig{})
		in := b.Accept()
		b.Headers(in.ID, false, ok200()...)
		body := proxytest.Pattern(1, 500_000)
		body = body[:b.Fill(in.ID, body)] // what the relay takes for a client that does not read
		b.Headers(in.ID, true, grpcOK()...)
		b.Barrier()
		done := r.shutdown(t.Context())
		time.Sleep(8 * time.Second) // of the bubble's clock: both steps of the drain are over
		got, ended, _, _ := rest(fr)
		if !bytes.Equal(got, body) || !ended {
			t.Errorf("the client read %d of %d bytes, with trailers: %v", len(got), len(body), ended)
		}
		_ = near.Close()
		if err := <-done; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
}

// A connection error ends a connection while others go on writing on it: its
// GOAWAY reaches a client that reads late, and nothing panics.
func TestConnectionErrorWhileOthersWrite(t *testing.T) {
	for range 100 {
		synctest.Test(t, connectionErrorWhileOthersWrite)
	}
}

func connectionErrorWhileOthersWrite(t *testing.T) {
	r := newRig(t, rigConfig{})
	near, fr := unread(r)
	defer func() { _ = near.Close() }()
	b := r.accept(proxytest.PeerConfig{Lenient: true})
	in := b.Accept()
	b.Headers(in.ID, false, ok200()...)
	b.Fill(in.ID, make([]byte, 100_000)) // more than the client's pipe takes: a writer waits
	_ = fr.WriteRawFrame(http2.FrameData, 0, 0, []byte("x"))
	synctest.Wait() // the connection waits for its GOAWAY to be written
	var writing sync.WaitGroup
	writing.Go(func() {
		for range 300 { // the download trickles on
			b.Data(in.ID, false, []byte("x"))
		}
	})
	_, _, goAways, err := rest(fr)
	if len(goAways) != 1 || goAways[0] != http2.ErrCodeProtocol {
		t.Errorf("the client read GOAWAY with %v", goAways)
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the connection ended with %v", err)
	}
	writing.Wait()
}

// halting is a Call whose Edit stops at one piece of body.
type halting struct {
	tally
	piece  string
	at, on chan struct{}
}

func newHalting(piece string) *halting {
	return &halting{tally{new(sync.WaitGroup)}, piece, make(chan struct{}), make(chan struct{})}
}

func (h *halting) Edit(p []byte, _ bool, e *relay.Edits) relay.Verdict {
	if string(p) == h.piece {
		h.at <- struct{}{}
		<-h.on
	}
	e.Keep(len(p))
	return relay.Pass
}

// A connection whose GOAWAY came takes no stream, not even one that had its place
// on it before: the stream gets another connection.
func TestStreamIsNotOpenedAfterGoAway(t *testing.T) {
	call := newHalting("stop")
	var r *rig
	backend, err := relay.NewBackend(relay.BackendConfig{
		Name: "one", MaxConns: 1,
		Dial: func(ctx context.Context) (net.Conn, error) { return r.dialPeer(ctx) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	r = newRig(t, rigConfig{router: func(_ *rig, s *relay.Stream) {
		call.open.Add(1)
		s.Forward(backend, s.Header(), call)
	}})
	c1, c2 := r.client(proxytest.PeerConfig{}), r.client(proxytest.PeerConfig{})
	begin := func(c *proxytest.Peer) uint32 {
		id := c.Open(proxytest.Call(method), false)
		c.Data(id, false, []byte("a"))
		return id
	}
	held := begin(c1)
	old := r.accept(proxytest.PeerConfig{Settings: []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 2}}})
	first := old.Accept()
	leaving := begin(c1)
	second := old.Accept()
	late := begin(c2) // both places are taken
	c2.Barrier()
	c2.Data(late, true, []byte("stop"))
	<-call.at                              // its Edit is on the way, and the stream locked
	c1.Reset(leaving, http2.ErrCodeCancel) // the place goes to the stream that waits
	old.WaitStream(second.ID, "reset", func(s *proxytest.Stream) bool { return s.Reset })
	// The reader of c1 comes to wait for the stream's lock: nothing outside tells when.
	time.Sleep(50 * time.Millisecond)
	old.GoAway(second.ID, http2.ErrCodeNo)
	old.Barrier() // it was read
	close(call.on)
	fresh := r.accept(proxytest.PeerConfig{})
	in := fresh.WaitStream(fresh.Accept().ID, "the end", func(s *proxytest.Stream) bool { return s.Ended })
	if string(in.Data) != "astop" || old.Opened() != 2 {
		t.Errorf("the new connection read %q; the old one has %d streams", in.Data, old.Opened())
	}
	fresh.Headers(in.ID, true, trailersOnly("0")...)
	c2.Response(late)
	old.Headers(first.ID, true, trailersOnly("0")...)
	c1.Response(held)
}

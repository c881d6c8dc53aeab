package relay_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
	"golang.org/x/net/http2"
)

// What TLS has sealed is sent to its last byte, though the socket was full when
// the last of it was sealed and nothing follows on the connection.
func TestTLSTailIsSent(t *testing.T) {
	certs := proxytest.NewCerts(t)
	for _, size := range []int{100_000, 150_000} {
		r := newRig(t, rigConfig{tcp: true, tls: certs})
		near, far := r.pair()
		_ = far.(*net.TCPConn).SetWriteBuffer(16 << 10) // it shall be full soon
		_ = near.(*net.TCPConn).SetReadBuffer(16 << 10)
		r.serving.Go(func() {
			over := tls.Server(relay.NewRecords(far.(*net.TCPConn)), certs.Server)
			_ = over.Handshake()
			r.server.ServeConn(over, relay.Peer{Addr: far.RemoteAddr(), TLS: true})
		})
		got := tlsDownload(t, r, tls.Client(near, certs.Client), size)
		if !bytes.Equal(got, proxytest.Pattern(1, size)) {
			t.Errorf("%d of %d bytes came", len(got), size)
		}
	}
}

// tlsDownload has a backend send a whole answer before its client reads, and
// returns what the client then gets.
func tlsDownload(t *testing.T, r *rig, conn net.Conn, size int) (got []byte) {
	t.Helper()
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, http2.ClientPreface)
	fr := http2.NewFramer(conn, conn)
	_ = fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	_ = fr.WriteWindowUpdate(0, 1<<30)
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: encodeFields(proxytest.Call(method)), EndStream: true, EndHeaders: true})
	b := r.accept(proxytest.PeerConfig{})
	in := b.Accept()
	b.Headers(in.ID, false, ok200()...)
	b.Fill(in.ID, proxytest.Pattern(1, size))
	b.Headers(in.ID, true, grpcOK()...)
	b.Barrier()
	_ = conn.SetReadDeadline(time.Now().Add(proxytest.Patience))
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			t.Errorf("after %d bytes: %v", len(got), err)
			return got
		}
		switch f := f.(type) {
		case *http2.DataFrame:
			got = append(got, f.Data()...)
		case *http2.HeadersFrame:
			if f.StreamEnded() {
				return got
			}
		}
	}
}

// A TLS connection that we end says so (close_notify, RFC 8446 section 6.1): without
// it some clients take the end for a truncation.
func TestTLSCloseIsAnnounced(t *testing.T) {
	certs := proxytest.NewCerts(t)
	r := newRig(t, rigConfig{tcp: true, tls: certs})
	near, far := r.pair()
	r.serving.Go(func() {
		over := tls.Server(relay.NewRecords(far.(*net.TCPConn)), certs.Server)
		_ = over.Handshake()
		r.server.ServeConn(over, relay.Peer{Addr: far.RemoteAddr(), TLS: true})
	})
	var seen bytes.Buffer
	conn := tls.Client(&tapped{Conn: near, seen: &seen}, certs.Client)
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, http2.ClientPreface)
	fr := http2.NewFramer(conn, conn)
	_ = fr.WriteSettings()
	_, _ = fr.ReadFrame()
	drained := make(chan struct{})
	go func() { defer close(drained); _ = r.server.Shutdown(context.Background()) }()
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			break
		}
		if ping, ok := f.(*http2.PingFrame); ok && !ping.IsAck() {
			_ = fr.WritePing(true, ping.Data)
		}
	}
	_ = conn.Close()
	<-drained
	last := 0
	for b := seen.Bytes(); len(b) >= 5; b = b[min(len(b), 5+last):] {
		last = int(b[3])<<8 | int(b[4])
	}
	const alert = 2 + 1 + 16 // itself, its type, the tag of AES-GCM or ChaCha20-Poly1305
	if last != alert {
		t.Errorf("the last record has %d bytes, an alert has %d", last, alert)
	}
}

// tapped keeps what was read.
type tapped struct {
	net.Conn
	seen *bytes.Buffer
}

func (c *tapped) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.seen.Write(p[:n])
	return n, err
}

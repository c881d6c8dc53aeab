package relay_test

import (
	"bytes"
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

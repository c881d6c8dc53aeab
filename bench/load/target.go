package load

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"
)

// Target says where to and as whom.
type Target struct {
	// Addr is the proxy's host:port.
	Addr string
	// TLS is nil for plaintext HTTP/2 with prior knowledge.
	TLS *tls.Config
	// Token is sent as the bearer of every request.
	Token string
	// Session is sent as x-session-id.
	Session string
	// Spark is session_id in every request message: a lower-case UUID.
	Spark string
	// Window is each stream's window in bytes; 0 means 1 MiB.
	Window int
	// ReadBuffer is each connection's buffer in bytes; 0 means 256 KiB.
	ReadBuffer int
	// Timeout bounds each call of a Conn's method; 0 means a minute.
	Timeout time.Duration
}

func (t Target) withDefaults() Target {
	if t.Window == 0 {
		t.Window = 1 << 20
	}
	if t.ReadBuffer == 0 {
		t.ReadBuffer = 256 << 10
	}
	if t.Timeout == 0 {
		t.Timeout = time.Minute
	}
	return t
}

// dial opens the transport connection.
func (t Target) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	var dialer net.Dialer
	nc, err := dialer.DialContext(ctx, "tcp", t.Addr)
	if err != nil {
		return nil, fmt.Errorf("dial the proxy: %w", err)
	}
	if t.TLS == nil {
		return nc, nil
	}
	tc := tls.Client(nc, t.TLS)
	if err := tc.HandshakeContext(ctx); err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("TLS with the proxy: %w", err)
	}
	if got := tc.ConnectionState().NegotiatedProtocol; got != "h2" {
		_ = nc.Close()
		return nil, fmt.Errorf("the proxy chose protocol %q by ALPN, not h2", got)
	}
	return tc, nil
}

package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/sconce-dev/sconce/proxy/relay"
)

// Plaintext is the router of connections that should have been TLS: it refuses
// every stream with the reason, so that the user reads a sentence and not a
// broken connection.
type Plaintext struct{}

// Route is part of relay.Router.
func (p Plaintext) Route(s *relay.Stream) { s.Refuse(p.TooLarge(s.Header())) }

// TooLarge is relay.TooLarge. How large the headers are does not matter here.
func (Plaintext) TooLarge(h *relay.Header) *relay.Reply {
	if strings.HasPrefix(h.Get("content-type"), grpcType) {
		return refusePlaintext.Reply()
	}
	return refusePlaintext.PlainReply()
}

// upgradeResponse is the same refusal in HTTP/1.1 (RFC 9110 section 15.5.22).
func upgradeResponse() []byte {
	var b bytes.Buffer
	body := refusePlaintext.Message + "\n"
	fmt.Fprintf(&b, "HTTP/1.1 426 Upgrade Required\r\nUpgrade: TLS/1.2, HTTP/1.1\r\nConnection: Upgrade, close\r\n"+
		"Content-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	return b.Bytes()
}

// lingerBytes is how much of an unwanted request is read, so that closing does
// not reset the connection before our answer was read.
const lingerBytes = 256 << 10

// lingerClose ends the sending side, where there are sides, and reads a little
// on. The caller set the deadline.
func lingerClose(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_, _ = io.CopyN(io.Discard, conn, lingerBytes)
}

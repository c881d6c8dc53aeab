package proxy

import (
	"bufio"
	"bytes"
	"net"

	"golang.org/x/net/http2"
)

// tongue is what the first bytes of a connection say it speaks.
type tongue uint8

const (
	// undecided: more bytes are needed.
	undecided tongue = iota
	// tongueTLS: a TLS handshake record.
	tongueTLS
	// tongueHTTP2: the client preface of RFC 9113 section 3.4.
	tongueHTTP2
	// tongueHTTP1: a request line.
	tongueHTTP1
	// tongueNone: nothing that this port serves.
	tongueNone
)

// recordHandshake is the type of the TLS record that opens a connection.
const recordHandshake = 22

// classify looks at the first bytes. The preface counts from its first word on,
// since no request of HTTP/1 has the method PRI; the relay checks the rest.
func classify(first []byte) tongue {
	const word = len("PRI ")
	switch {
	case len(first) == 0:
		return undecided
	case first[0] == recordHandshake:
		return tongueTLS
	case bytes.HasPrefix(first, []byte(http2.ClientPreface[:word])):
		return tongueHTTP2
	case len(first) < word && bytes.HasPrefix([]byte(http2.ClientPreface), first):
		return undecided
	case first[0] < 'A' || first[0] > 'Z':
		return tongueNone
	}
	return tongueHTTP1
}

// sniff waits until it is clear what conn speaks, and returns the connection to
// go on with, from which every byte is still to be read. A TCP connection stays
// what it is: its bytes are looked at inside the kernel, because the relay
// reads and writes a bare socket faster than anything around it. The caller
// sets the deadline.
func sniff(conn net.Conn) (tongue, net.Conn, error) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		return sniffTCP(tcp)
	}
	return sniffAny(conn)
}

// sniffAny reads the first bytes and gives them back through a wrapper.
func sniffAny(conn net.Conn) (tongue, net.Conn, error) {
	p := &peekedConn{Conn: conn, r: bufio.NewReaderSize(conn, 16)}
	for n := 1; ; n++ {
		first, err := p.r.Peek(n)
		if err != nil {
			return undecided, p, err
		}
		if t := classify(first); t != undecided {
			return t, p, nil
		}
	}
}

// peekedConn gives back the bytes that a sniff took, and then reads on from
// the connection itself.
type peekedConn struct {
	net.Conn
	r *bufio.Reader // nil once it is empty
}

func (p *peekedConn) Read(b []byte) (int, error) {
	if p.r == nil {
		return p.Conn.Read(b)
	}
	n, err := p.r.Read(b[:min(len(b), p.r.Buffered())])
	if p.r.Buffered() == 0 {
		p.r = nil
	}
	return n, err
}

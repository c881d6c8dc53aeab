package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sconce-dev/sconce/proxy/relay"
)

// portTest runs a port whose servers say who they are and what they were given.
type portTest struct {
	*Port
	t    *testing.T
	addr string
	root *x509.CertPool
	stop context.CancelFunc
	over chan error
}

// servedBy answers a connection with a name, and waits for its end.
func servedBy(name string) func(net.Conn, relay.Peer) {
	return func(conn net.Conn, peer relay.Peer) {
		line := name + "\n"
		if peer.TLS {
			line = name + " TLS\n"
		}
		io.WriteString(conn, line)
		io.Copy(io.Discard, conn)
	}
}

// newPortTest serves on ln; nil = a TCP port of its own.
func newPortTest(t *testing.T, ln net.Listener, change func(*PortConfig)) *portTest {
	t.Helper()
	files, write := certFiles(t)
	pem, key := pairPEM(t, 7)
	write(pem, key)
	certs, err := NewCertificates(files)
	if err != nil {
		t.Fatal(err)
	}
	cfg := PortConfig{
		HTTP2: servedBy("http2"), Plain: servedBy("plain"),
		HTTP1: func(c net.Conn) { servedBy("http1")(c, relay.Peer{}) },
		TLS:   certs.TLS(), RequireTLS: true, HandshakeTimeout: 5 * time.Second,
	}
	if change != nil {
		change(&cfg)
	}
	port, err := NewPort(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if ln == nil {
		if ln, err = Listen(t.Context(), "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	p := &portTest{Port: port, t: t, addr: ln.Addr().String(), root: x509.NewCertPool(), stop: stop, over: make(chan error, 1)}
	p.root.AppendCertsFromPEM(pem)
	go func() { p.over <- port.Serve(ctx, ln) }()
	t.Cleanup(func() {
		stop()
		if err := <-p.over; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return p
}

func (p *portTest) dial() net.Conn {
	p.t.Helper()
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	return conn
}

// says sends first and returns the first line of the answer.
func says(t *testing.T, conn net.Conn, first string) string {
	t.Helper()
	if _, err := io.WriteString(conn, first); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil && line == "" {
		return err.Error()
	}
	return strings.TrimSpace(line)
}

// preface stands for what an HTTP/2 client begins with.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

func TestPortTellsWhatComes(t *testing.T) {
	p := newPortTest(t, nil, nil)
	if got := says(t, p.dial(), preface); got != "http2" {
		t.Errorf("the preface got %q", got)
	}
	if got := says(t, p.dial(), "GET / HTTP/1.1\r\n\r\n"); got != "http1" {
		t.Errorf("GET got %q", got)
	}
	if got := says(t, p.dial(), "\x00\x00\x00"); got != "EOF" && !strings.Contains(got, "reset") {
		t.Errorf("rubbish got %q", got)
	}
	for name, tc := range map[string]struct {
		alpn        []string
		first, want string
	}{
		"h2":                  {[]string{"h2"}, preface, "http2 TLS"},
		"http/1.1":            {[]string{"http/1.1"}, "GET / HTTP/1.1\r\n\r\n", "http1"},
		"both":                {[]string{"h2", "http/1.1"}, preface, "http2 TLS"},
		"no ALPN, HTTP/2":     {nil, preface, "http2 TLS"},
		"no ALPN, HTTP/1":     {nil, "GET / HTTP/1.1\r\n\r\n", "http1"},
		"no ALPN, other talk": {nil, "\x00\x00", "EOF"},
	} {
		conn := tls.Client(p.dial(), &tls.Config{RootCAs: p.root, ServerName: "localhost", NextProtos: tc.alpn})
		if got := says(t, conn, tc.first); got != tc.want {
			t.Errorf("TLS with %s got %q, want %q", name, got, tc.want)
		}
	}
}

func TestPortHandsOverATCPConnectionItself(t *testing.T) {
	got := make(chan net.Conn, 1)
	p := newPortTest(t, nil, func(cfg *PortConfig) {
		cfg.HTTP2 = func(c net.Conn, _ relay.Peer) { got <- c }
	})
	io.WriteString(p.dial(), preface)
	if conn, ok := (<-got).(*net.TCPConn); !ok {
		t.Errorf("the relay got a %T", conn)
	}
	secure := tls.Client(p.dial(), &tls.Config{RootCAs: p.root, ServerName: "localhost", NextProtos: []string{"h2"}})
	if err := secure.Handshake(); err != nil {
		t.Fatal(err)
	}
	conn, ok := (<-got).(*tls.Conn)
	if !ok {
		t.Fatal("over TLS the relay got no tls.Conn")
	}
	if _, ok := conn.NetConn().(*relay.Records); !ok {
		t.Errorf("over TLS the relay got a connection on %T", conn.NetConn())
	}
}

// awayListener makes every connection come from another machine.
type awayListener struct{ net.Listener }

type awayConn struct{ net.Conn }

func (l awayListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return awayConn{c}, nil
}

func (awayConn) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 1234}
}

func awayPort(t *testing.T, change func(*PortConfig)) *portTest {
	t.Helper()
	ln, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return newPortTest(t, awayListener{ln}, change)
}

func TestPortRefusesPlaintextFromAway(t *testing.T) {
	p := awayPort(t, nil)
	if got := says(t, p.dial(), preface); got != "plain" {
		t.Errorf("HTTP/2 got %q", got)
	}
	conn := p.dial()
	io.WriteString(conn, "GET /healthz HTTP/1.1\r\nAuthorization: Bearer x\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 426 || !strings.Contains(string(body), "use_ssl=true") || !strings.Contains(string(body), "call https://") {
		t.Errorf("HTTP/1.1 got %d %q", resp.StatusCode, body)
	}
	secure := tls.Client(p.dial(), &tls.Config{RootCAs: p.root, ServerName: "localhost", NextProtos: []string{"h2"}})
	if got := says(t, secure, preface); got != "http2 TLS" {
		t.Errorf("TLS got %q", got)
	}
}

func TestPortTakesPlaintextFromAwayWhereTLSIsNotRequired(t *testing.T) {
	p := awayPort(t, func(cfg *PortConfig) { cfg.RequireTLS = false })
	if got := says(t, p.dial(), preface); got != "http2" {
		t.Errorf("got %q", got)
	}
}

func TestPortWithoutACertificateAnswersTLSWithAnAlert(t *testing.T) {
	p := newPortTest(t, nil, func(cfg *PortConfig) { cfg.TLS = nil })
	err := tls.Client(p.dial(), &tls.Config{ServerName: "localhost"}).Handshake()
	var alert tls.AlertError
	if !errors.As(err, &alert) && !strings.Contains(err.Error(), "handshake failure") {
		t.Errorf("got %v", err)
	}
}

func TestPortClosesTheSilentAfterFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := NewMemory("port")
		newPortTest(t, ln, nil)
		for name, first := range map[string]string{"nothing": "", "half a word": "PR", "half a handshake": "\x16\x03\x01\x01\x00"} {
			start := time.Now()
			conn, err := ln.Dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(conn, first)
			if _, err := io.ReadAll(conn); err != nil || time.Since(start) != 5*time.Second {
				t.Errorf("%s: closed after %s, %v", name, time.Since(start), err)
			}
		}
	})
}

func TestPortForgetsTheDeadlineOfTheHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := NewMemory("port")
		newPortTest(t, ln, func(cfg *PortConfig) { cfg.RequireTLS = false })
		conn, err := ln.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if got := says(t, conn, preface); got != "http2" {
			t.Fatalf("got %q", got)
		}
		conn.SetReadDeadline(time.Now().Add(time.Hour))
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("within an hour the connection ended: %v", err)
		}
	})
}

func TestPortBoundsConnections(t *testing.T) {
	for name, change := range map[string]func(*PortConfig){
		"in all": func(c *PortConfig) { c.Connections = 2 },
		"per IP": func(c *PortConfig) { c.ConnectionsPerIP = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := NewMemory("port") // its peers have one address, none
				newPortTest(t, ln, func(cfg *PortConfig) { cfg.RequireTLS = false; change(cfg) })
				dial := func() net.Conn {
					conn, err := ln.Dial(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { conn.Close() })
					return conn
				}
				first := dial()
				says(t, first, preface)
				says(t, dial(), preface)
				if n, err := dial().Read(make([]byte, 1)); n != 0 || err != io.EOF {
					t.Errorf("the third read %d, %v", n, err)
				}
				first.Close()
				synctest.Wait()
				if got := says(t, dial(), preface); got != "http2" {
					t.Errorf("after one went the next got %q", got)
				}
			})
		})
	}
}

// poorListener fails with EMFILE some times, then accepts nothing more.
type poorListener struct {
	*Memory
	mu    sync.Mutex
	fails int
	times []time.Time
}

func (l *poorListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	l.times = append(l.times, time.Now())
	l.fails--
	fail := l.fails >= 0
	l.mu.Unlock()
	if fail {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return l.Memory.Accept()
}

func TestPortBacksOffWithoutFileDescriptors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []bool
		ln := &poorListener{Memory: NewMemory("port"), fails: 12}
		newPortTest(t, ln, func(cfg *PortConfig) {
			cfg.RequireTLS = false
			cfg.Stalled = func(err error) { told = append(told, err != nil) }
		})
		conn, err := ln.Dial(t.Context()) // accepted once the failures are over
		if err != nil {
			t.Fatal(err)
		}
		if got := says(t, conn, preface); got != "http2" {
			t.Errorf("afterwards a connection got %q", got)
		}
		conn.Close()
		synctest.Wait()
		if first, last := ln.times[1].Sub(ln.times[0]), ln.times[12].Sub(ln.times[11]); first != 5*time.Millisecond || last != time.Second {
			t.Errorf("pauses from %s to %s, want 5ms to 1s", first, last)
		}
		if len(told) != 13 || !told[0] || told[12] {
			t.Errorf("told stalled: %v", told)
		}
	})
}

// TestPortIsReadyAgainThoughNobodyComes: the last descriptor goes to the last who
// waited, and accepting fails; later there are some, and nobody comes any more.
func TestPortIsReadyAgainThoughNobodyComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []bool
		ln := &poorListener{Memory: NewMemory("port"), fails: 12}
		newPortTest(t, ln, func(cfg *PortConfig) {
			cfg.Stalled = func(err error) { told = append(told, err != nil) }
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(told) != 13 || !told[11] || told[12] {
			t.Errorf("told stalled: %v", told)
		}
	})
}

func TestPortEndsWhenAcceptFailsForGood(t *testing.T) {
	ln := NewMemory("port")
	port, err := NewPort(PortConfig{
		HTTP2: servedBy(""), Plain: servedBy(""), HTTP1: func(net.Conn) {}, HandshakeTimeout: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if err := port.Serve(t.Context(), ln); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestPortStopsWithConnectionsThatSaidNothing(t *testing.T) {
	p := newPortTest(t, nil, nil)
	silent := p.dial()
	if got := says(t, p.dial(), preface); got != "http2" { // so silent was accepted
		t.Fatalf("got %q", got)
	}
	p.stop()
	if n, err := silent.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("read %d, %v", n, err)
	}
	// What was handed over lives on until whoever got it ends it; here, the
	// client does, in its Cleanup.
}

func TestPortCounts(t *testing.T) {
	p := awayPort(t, nil)
	says(t, p.dial(), preface)
	secure := tls.Client(p.dial(), &tls.Config{RootCAs: p.root, ServerName: "localhost", NextProtos: []string{"h2"}})
	says(t, secure, preface)
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(p)
	got := gather(t, reg)
	for series, want := range map[string]float64{
		"sconce_connections_open":                    2,
		"sconce_connections_total http1 false":       0,
		"sconce_connections_total http1 true":        0,
		"sconce_connections_total http2 false":       1,
		"sconce_connections_total http2 true":        1,
		"sconce_connections_refused_total plaintext": 1,
		"sconce_connections_refused_total silent":    0,
	} {
		if n, ok := got[series]; !ok || n != want {
			t.Errorf("%s is %v, want %v", series, n, want)
		}
	}
}

// gather collects, keyed by name and label values.
func gather(t *testing.T, reg prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			key := f.GetName()
			for _, l := range m.Label {
				key += " " + l.GetValue()
			}
			got[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return got
}

func TestNewPortRefuses(t *testing.T) {
	if _, err := NewPort(PortConfig{HandshakeTimeout: time.Second}); err == nil {
		t.Error("a port without servers was made")
	}
	if _, err := NewPort(PortConfig{HTTP2: servedBy(""), Plain: servedBy(""), HTTP1: func(net.Conn) {}}); err == nil {
		t.Error("a port without a handshake timeout was made")
	}
}

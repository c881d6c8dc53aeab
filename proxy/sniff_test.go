package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

func TestClassify(t *testing.T) {
	for name, tc := range map[string]struct {
		first string
		want  tongue
	}{
		"nothing":                    {"", undecided},
		"a TLS record":               {"\x16\x03\x01", tongueTLS},
		"one byte of TLS":            {"\x16", tongueTLS},
		"a TLS alert":                {"\x15\x03\x01", tongueNone},
		"the preface":                {http2.ClientPreface, tongueHTTP2},
		"a part of the preface":      {"PR", undecided},
		"PRI and nothing more":       {"PRI", undecided},
		"PRI as a method":            {"PRI /", tongueHTTP2}, // the relay refuses it
		"GET":                        {"G", tongueHTTP1},
		"POST, which begins like it": {"PO", tongueHTTP1},
		"PRIMARY, a longer method":   {"PRIM", tongueHTTP1},
		"a lower-case method":        {"get /", tongueNone},
		"an HTTP/2 frame":            {"\x00\x00\x12\x04", tongueNone},
		"SSH":                        {"SSH-2.0-x", tongueHTTP1}, // answered 400 there
	} {
		if got := classify([]byte(tc.first)); got != tc.want {
			t.Errorf("%s: got %d, want %d", name, got, tc.want)
		}
	}
}

// FuzzClassify: more bytes never take a decision back.
func FuzzClassify(f *testing.F) {
	f.Add([]byte(http2.ClientPreface))
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Add([]byte("\x16\x03\x01\x02\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		decided := undecided
		for n := range len(b) + 1 {
			got := classify(b[:n])
			if decided != undecided && got != decided {
				t.Fatalf("%q was %d and with one byte more is %d", b[:n], decided, got)
			}
			decided = got
		}
		if len(b) >= 4 && decided == undecided {
			t.Fatalf("%q is undecided", b)
		}
	})
}

// tcpPair returns both ends of a TCP connection.
func tcpPair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err = net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func TestSniffConsumesNothing(t *testing.T) {
	for name, pair := range map[string]func(*testing.T) (net.Conn, net.Conn){"TCP": tcpPair, "any": memPair} {
		t.Run(name, func(t *testing.T) {
			client, server := pair(t)
			go func() {
				for i := range len(http2.ClientPreface) { // in the smallest pieces
					client.Write([]byte(http2.ClientPreface[i : i+1]))
				}
				client.Write([]byte(" and on"))
				client.Close()
			}()
			spoken, conn, err := sniff(server)
			if err != nil || spoken != tongueHTTP2 {
				t.Fatalf("sniffed %d, %v", spoken, err)
			}
			if got, err := io.ReadAll(conn); string(got) != http2.ClientPreface+" and on" || err != nil {
				t.Errorf("then read %q, %v", got, err)
			}
		})
	}
}

func TestSniffKeepsATCPConnection(t *testing.T) {
	client, server := tcpPair(t)
	client.Write([]byte("GET"))
	if _, conn, err := sniff(server); conn != server || err != nil {
		t.Errorf("got a %T, %v", conn, err)
	}
}

func TestSniffOfASilentConnection(t *testing.T) {
	for name, first := range map[string]string{"nothing": "", "half a word": "PR"} {
		t.Run(name, func(t *testing.T) {
			client, server := tcpPair(t)
			io.Copy(client, strings.NewReader(first))
			server.SetDeadline(time.Now().Add(20 * time.Millisecond))
			if _, _, err := sniff(server); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestSniffOfAClosedConnection(t *testing.T) {
	client, server := tcpPair(t)
	client.Close()
	if _, _, err := sniff(server); err != io.EOF {
		t.Errorf("got %v, want io.EOF", err)
	}
}

package proxytest_test

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"golang.org/x/net/http2"
)

// ends returns the two ends of a connection, in memory and over TCP.
func ends(t *testing.T) map[string]func(t *testing.T) (client, server net.Conn) {
	return map[string]func(t *testing.T) (net.Conn, net.Conn){
		"memory": func(*testing.T) (net.Conn, net.Conn) {
			a, b := proxytest.Pipe()
			return a, b
		},
		"tcp": func(t *testing.T) (net.Conn, net.Conn) {
			l := proxytest.TCP(t)
			var d net.Dialer
			c, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			return c, proxytest.Accept(t, l)
		},
	}
}

func TestPeersUnderstandEachOther(t *testing.T) {
	for name, dial := range ends(t) {
		t.Run(name, func(t *testing.T) {
			cc, sc := dial(t)
			client := proxytest.Client(t, cc, proxytest.PeerConfig{})
			server := proxytest.Server(t, sc, proxytest.PeerConfig{})
			long := strings.Repeat("v", 40000)
			id := client.Open(proxytest.Call("/a/b", "x-long", long), false)
			in := server.Accept()
			if in.ID != id || in.Header("x-long") != long || in.Header(":path") != "/a/b" {
				t.Fatalf("stream %d with %d fields", in.ID, len(in.Blocks))
			}
			body := proxytest.Pattern(1, 300000)
			client.Send(id, body, true)
			if got := server.Response(id); !bytes.Equal(got.Data, body) {
				t.Fatalf("server got %d bytes, or wrong ones", len(got.Data))
			}
			server.Headers(id, false, proxytest.Fields(":status", "200")...)
			server.Send(id, body, false)
			server.Headers(id, true, proxytest.Fields("grpc-status", "0")...)
			got := client.Response(id)
			if !bytes.Equal(got.Data, body) || got.Header(":status") != "200" || got.Trailer("grpc-status") != "0" {
				t.Fatalf("client got %d bytes, %v", len(got.Data), got.Blocks)
			}
			client.Barrier()
			server.Barrier()
			server.GoAway(id, http2.ErrCodeNo)
			client.WaitGoAway(1)
		})
	}
}

// What a Peer is there for: seeing that the other side is wrong.
func TestPeerSeesFaults(t *testing.T) {
	call := proxytest.Call("/a/b")
	tests := []struct {
		name string
		do   func(server *proxytest.Peer)
		want string
	}{
		{"data past the window", func(s *proxytest.Peer) {
			s.Headers(1, false, proxytest.Fields(":status", "200")...)
			for range 5 {
				s.Data(1, false, make([]byte, 16384))
			}
		}, "past its window"},
		{"a frame that is too large", func(s *proxytest.Peer) {
			s.Headers(1, false, proxytest.Fields(":status", "200")...)
			s.Data(1, false, make([]byte, 16385))
		}, "over the frame size"},
		{"data before headers", func(s *proxytest.Peer) { s.Data(1, false, []byte("x")) }, "not open"},
		{"headers after the end", func(s *proxytest.Peer) {
			s.Headers(1, true, proxytest.Fields(":status", "200")...)
			s.Headers(1, true, proxytest.Fields(":status", "200")...)
		}, "after its end"},
		{"a stream that was not opened", func(s *proxytest.Peer) {
			s.Headers(3, true, proxytest.Fields(":status", "200")...)
		}, "never opened"},
		{"a frame inside a header block", func(s *proxytest.Peer) {
			s.Frame(http2.FrameHeaders, 0, 1, []byte{0x88})
			s.Ping([8]byte{})
		}, "inside a header block"},
		{"CONTINUATION without HEADERS", func(s *proxytest.Peer) {
			s.Frame(http2.FrameContinuation, 4, 1, []byte{0x88})
		}, "without HEADERS"},
		{"bad HPACK", func(s *proxytest.Peer) { s.Block(1, true, []byte{0xff, 0xff, 0xff, 0x7f}) }, "header block"},
		{"a push", func(s *proxytest.Peer) {
			s.Frame(http2.FramePushPromise, 4, 1, []byte{0, 0, 0, 2, 0x88})
		}, "PUSH_PROMISE"},
		{"an acknowledgement too many", func(s *proxytest.Peer) {
			s.Frame(http2.FrameSettings, 1, 0, nil)
			s.Frame(http2.FrameSettings, 1, 0, nil)
		}, "were not sent"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cc, sc := proxytest.Pipe()
			client := proxytest.Client(t, cc, proxytest.PeerConfig{ManualWindow: true, Lenient: true})
			server := proxytest.Server(t, sc, proxytest.PeerConfig{})
			client.Open(call, true)
			server.Accept()
			tt.do(server)
			server.Close()
			client.WaitClosed()
			if got := strings.Join(client.Faults(), "\n"); !strings.Contains(got, tt.want) {
				t.Errorf("faults %q, want one with %q", got, tt.want)
			}
		})
	}
}

// A well-behaved server of someone else has no faults.
func TestPeerAgainstNetHTTP(t *testing.T) {
	body := proxytest.Pattern(7, 1<<20)
	l := proxytest.Listen(t)
	srv := &http.Server{
		Handler:   http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }),
		Protocols: new(http.Protocols),
	}
	srv.Protocols.SetUnencryptedHTTP2(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
	})
	conn, err := l.Dial(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	c := proxytest.Client(t, conn, proxytest.PeerConfig{Settings: []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 1000}}})
	for range 3 {
		got := c.Response(c.Open(proxytest.Fields(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "x"), true))
		if !bytes.Equal(got.Data, body) || got.Header(":status") != "200" {
			t.Fatalf("got %d bytes, %v", len(got.Data), got.Blocks)
		}
	}
}

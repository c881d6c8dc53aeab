package relay_test

import (
	"strings"
	"testing"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Headers past the limit are answered on their stream, in the words of the router
// where it has some, whether or not the request had ended.
func TestHeadersPastTheLimit(t *testing.T) {
	words := &relay.Reply{
		Status: "200", Header: []hpack.HeaderField{{Name: "content-type", Value: "application/grpc"}},
		Trailer: []hpack.HeaderField{{Name: "grpc-status", Value: "8"}},
	}
	for name, tc := range map[string]struct {
		large        func(*relay.Header) *relay.Reply
		status, grpc string
	}{
		"a router with words":    {func(*relay.Header) *relay.Reply { return words }, "200", "8"},
		"a router without":       {nil, "431", ""},
		"a router that has none": {func(*relay.Header) *relay.Reply { return nil }, "431", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var seen *relay.Header
			cfg := rigConfig{
				limits: relay.Limits{HeaderBytes: 8 << 10},
				router: func(_ *rig, s *relay.Stream) { s.Refuse(unavailable("routed")) },
			}
			if tc.large != nil {
				cfg.large = func(h *relay.Header) *relay.Reply { seen = h; return tc.large(h) }
			}
			c := newRig(t, cfg).client(proxytest.PeerConfig{})
			big := proxytest.Fields("x-before", "1", "x-a", strings.Repeat("b", 5<<10), "x-big", strings.Repeat("b", 5<<10), "x-behind", "2")
			for _, end := range []bool{true, false} {
				id := c.Open(append(proxytest.Call(method), big...), end)
				got := c.WaitStream(id, "its end", func(s *proxytest.Stream) bool { return s.Ended && (end || s.Reset) })
				if len(got.Blocks) != 1 || got.Header(":status") != tc.status || got.Trailer("grpc-status") != tc.grpc {
					t.Errorf("end=%v: %v", end, got.Blocks)
				}
				if !end && got.Code != http2.ErrCodeNo {
					t.Errorf("told to stop with %v", got.Code)
				}
				if tc.large != nil && (seen.Get("x-before") != "1" || seen.Get("x-big") != "" || seen.Get("x-behind") != "") {
					t.Errorf("the router saw %d fields", len(seen.Fields))
				}
			}
			// The stream is gone, and the connection serves on.
			if got := c.Response(c.Open(proxytest.Call(method), true)); got.Trailer("grpc-status") != "14" {
				t.Errorf("the next call read %v", got.Blocks)
			}
		})
	}
}

package relay_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
	"golang.org/x/net/http2/hpack"
)

// A header block means what the table says when it comes: a block that was read
// before is not taken from memory once the table has changed, be it by a block
// that is refused as too large. Clients of one connection in front of a balancer
// would else be taken for each other.
func TestMemoDoesNotOutliveItsTable(t *testing.T) {
	seen := make(chan string, 16)
	r := newRig(t, rigConfig{router: func(_ *rig, s *relay.Stream) {
		seen <- s.Header().Get("authorization")
		s.Refuse(unavailable("no"))
	}})
	c := r.client(proxytest.PeerConfig{})
	var buf bytes.Buffer
	enc := hpack.NewEncoder(&buf)
	block := func(more ...hpack.HeaderField) []byte {
		buf.Reset()
		for _, f := range append(proxytest.Call(method), more...) {
			_ = enc.WriteField(f)
		}
		return bytes.Clone(buf.Bytes())
	}
	bearer := func(who string) hpack.HeaderField {
		return hpack.HeaderField{Name: "authorization", Value: "Bearer " + who}
	}
	send := func(status string, b []byte) {
		t.Helper()
		id := c.NextID()
		c.Block(id, true, b, 16000, 16000, 16000, 16000, 16000)
		if got := c.Response(id); got.Header(":status") != status {
			t.Fatalf("the answer is %v, not %s", got.Blocks, status)
		}
	}
	send("200", block(bearer("alice"))) // enters the table
	alice := block(bearer("alice"))     // nothing but places in it: remembered
	send("200", alice)

	// Two requests over the limit. The first empties the table, for a thousand bytes
	// each fill it; fields longer than the table do not enter it.
	tooLarge := func(more ...hpack.HeaderField) []byte {
		for range 16 {
			more = append(more, hpack.HeaderField{Name: "x", Value: strings.Repeat("y", 5000)})
		}
		return block(more...)
	}
	var fill []hpack.HeaderField
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		fill = append(fill, hpack.HeaderField{Name: name, Value: strings.Repeat("p", 1000)})
	}
	send("431", tooLarge(fill...))
	send("431", tooLarge(bearer("bob")))
	bob := block(bearer("bob"))
	if !bytes.Equal(alice, bob) {
		t.Fatalf("the test is off: %x and %x should be the same bytes", alice, bob)
	}
	send("200", bob)
	for _, want := range []string{"Bearer alice", "Bearer alice", "Bearer bob"} {
		if got := <-seen; got != want {
			t.Errorf("the request of %q was read as that of %q", want, got)
		}
	}
}

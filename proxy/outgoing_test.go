package proxy

import (
	"net"
	"slices"
	"testing"

	"golang.org/x/net/http2/hpack"

	"github.com/sconce-dev/sconce/proxy/relay"
)

// Sconce's own services hear from the port who calls, whatever the client says.
func TestServiceHeaderTellsThePeer(t *testing.T) {
	in := &relay.Header{Fields: []hpack.HeaderField{
		{Name: ":path", Value: "/v1/sessions"}, {Name: PeerHeader, Value: "127.0.0.1:1"}, {Name: "x-sconce-other", Value: "x"},
		{Name: "authorization", Value: "Bearer x"},
	}}
	peer := &relay.Peer{Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 4711}}
	want := []hpack.HeaderField{in.Fields[0], in.Fields[3], {Name: PeerHeader, Value: "192.0.2.7:4711"}}
	if got := serviceHeader(in, peer).Fields; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

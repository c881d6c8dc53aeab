package proxy

import (
	"strings"

	"github.com/sconce-dev/sconce/proxy/relay"
	"golang.org/x/net/http2/hpack"
)

// ownedHeader says whether a field of the request is Sconce's business and not
// the engine's: the caller's credential, the name of the session, what only a
// hop may say about a request. Everything else goes on as it came.
func ownedHeader(name string) bool {
	switch name {
	case "authorization", "authentication", "x-session-id", "host", "content-length":
		return true
	}
	return strings.HasPrefix(name, "x-sconce-") ||
		strings.HasPrefix(name, "x-forwarded-") ||
		strings.HasPrefix(name, "grpc-previous-")
}

// engineHeader makes the header block that an engine sees from the one that the
// client sent: same fields, same order, same bytes, less what ownedHeader names,
// and the engine's own token (with "" none). :scheme is that of the connection to
// the engine and :authority its address: what a client wrote there must not
// choose among the engines behind one ingress, with this engine's token.
//
// plain asks for an answer that is not compressed, since it will be added to.
func engineHeader(in *relay.Header, e *engine, plain bool) *relay.Header {
	fields := make([]hpack.HeaderField, 0, len(in.Fields)+1)
	for _, f := range in.Fields {
		switch {
		case ownedHeader(f.Name):
			continue
		case f.Name == ":scheme":
			f.Value = e.scheme
		case f.Name == ":authority":
			f.Value = e.authority
		case f.Name == "grpc-accept-encoding" && plain:
			f.Value = "identity"
		}
		fields = append(fields, f)
	}
	if e.token != "" {
		fields = append(fields, hpack.HeaderField{Name: "authorization", Value: "Bearer " + e.token, Sensitive: true})
	}
	return &relay.Header{Fields: fields}
}

// PeerHeader tells Sconce's own services the address of who calls, host:port:
// they see a connection in memory. No client can set it.
const PeerHeader = "x-sconce-peer"

// serviceHeader makes the block for Sconce's own services: they check the
// caller's credential themselves, so it stays; x-sconce-* is ours alone.
func serviceHeader(in *relay.Header, peer *relay.Peer) *relay.Header {
	fields := make([]hpack.HeaderField, 0, len(in.Fields)+1)
	for _, f := range in.Fields {
		if !strings.HasPrefix(f.Name, "x-sconce-") {
			fields = append(fields, f)
		}
	}
	if peer.Addr != nil {
		fields = append(fields, hpack.HeaderField{Name: PeerHeader, Value: peer.Addr.String()})
	}
	return &relay.Header{Fields: fields}
}

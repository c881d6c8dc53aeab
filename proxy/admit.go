package proxy

import (
	"net"
	"strings"

	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
	"golang.org/x/net/http2/hpack"
)

// TokenVerifier is the part of auth.Principals, or of auth.Verifier, that admission
// needs. Its errors are the sentinels of package auth. It must not block.
type TokenVerifier interface {
	Verify(token string, kind auth.Kind) (*auth.Identity, error)
	// Known says that Verify remembers the token, so that it costs next to nothing.
	Known(token string, kind auth.Kind) bool
}

// request is what one header block asks for, before anybody is believed. It
// depends on the block and its connection alone, so it is worked out once and kept in
// Header.Memo; what may change from one stream to the next (the token's
// times and key, the session's state) is asked anew for each.
type request struct {
	head *relay.Header
	grpc bool // has a content-type of gRPC

	// One of these three says where it goes.
	refused *Refusal // a fixed answer
	service *service // one of Sconce's own
	method  *method  // Spark Connect

	out     *relay.Header // with service: what it sees
	token   string        // with method: the credential, unchecked
	field   string        // with method: the name of the header field that it came in
	session sessions.ID   // with method: x-session-id, unchecked
	from    net.Addr      // with method: of the client
	last    *admission    // with method: what the stream before came to
}

// readRequest sorts a header block, in the order of the table in
// docs/errors.md: what is asked for, whether it is well formed, for which
// session, with which token. That it came over a connection which may carry a
// token is the port's to see to.
func (r *Router) readRequest(h *relay.Header, peer *relay.Peer) *request {
	m := readMetadata(h.Fields)
	q := &request{head: h, grpc: grpcContentType(m.contentType)}
	if q.service = r.services.find(m.path, q.grpc); q.service != nil {
		if lacking := q.service.credential(&m); lacking != nil {
			return q.refuse(*lacking)
		}
		q.out = serviceHeader(h, peer)
		return q
	}
	method, known := r.methods[m.path]
	switch {
	case !known:
		return q.refuse(refuseMethod)
	case !protoContentType(m.contentType):
		return q.refuse(refuseContentType)
	case m.verb != "POST":
		return q.refuse(refuseVerb)
	case m.fault != "":
		return q.refuse(refuseHeader.With("name", m.fault))
	case len(m.sessions) == 0 || m.sessions[0] == "":
		return q.refuse(refuseNoSessionID)
	case len(m.sessions) > 1:
		return q.refuse(refuseTwoSessionIDs)
	}
	token, err := auth.Bearer(m.authorization, m.authentication)
	if err != nil {
		row, _ := refuseToken(err, m.sessions[0], r.now())
		return q.refuse(row)
	}
	q.method, q.token, q.field, q.session = method, token, m.credential(), sessions.ID(m.sessions[0])
	q.from = peer.Addr
	return q
}

func (q *request) refuse(row Refusal) *request {
	q.refused, q.service = &row, nil
	return q
}

// identify checks the token and that it is for the session named beside it. Who
// fails here learns nothing about that session: the registry is not asked.
func (r *Router) identify(q *request) (*auth.Identity, *Refusal) {
	if r.throttle.engaged() && r.throttle.refuses(q.guesser(r), r.meters.at(r.now())) && !r.verifier.Known(q.token, auth.KindSession) {
		return nil, &refuseGuesses
	}
	id, err := r.verifier.Verify(q.token, auth.KindSession)
	if err != nil {
		if guessed(err) {
			r.throttle.failed(q.guesser(r), r.meters.at(r.now()))
		}
		row, ok := refuseToken(err, string(q.session), r.now())
		if !ok {
			row = r.internal("verify token", q.session, err)
		}
		return nil, &row
	}
	if id.Kind == auth.KindSession && id.Session != string(q.session) {
		return nil, &refuseDenied
	}
	return id, nil
}

// guesser is whom the throttle counts. Hardly any request is asked for it.
func (q *request) guesser(r *Router) uint64 { return r.throttle.key(q.from, string(q.session)) }

// owns says whether the session in the registry is the one that the token was
// made for: a token outlives a mistake in neither of the two. One of an outside
// issuer was made for none, and opens its subject's.
func owns(id *auth.Identity, s *sessions.Session) bool {
	return s.Owner == id.Subject && s.Org == id.Org && (string(s.ID) == id.Session || id.Kind == auth.KindOutside)
}

// metadata is what admission reads of a header block.
type metadata struct {
	path, verb, contentType       string
	sessions                      []string
	authorization, authentication []string
	fault                         string // name of a field that is malformed, or ""
}

// credential is the name of the field that a token came in. Operators see by it
// which clients are older JVM ones (apache/spark#56586).
func (m *metadata) credential() string {
	if len(m.authorization) == 0 {
		return "authentication"
	}
	return "authorization"
}

func readMetadata(fields []hpack.HeaderField) (m metadata) {
	for i := range fields {
		name, value := fields[i].Name, fields[i].Value
		switch name {
		case ":path":
			m.path = value
		case ":method":
			m.verb = value
		case "content-type":
			m.contentType = value
		case "x-session-id":
			m.sessions = append(m.sessions, value)
		case "authorization":
			m.authorization = append(m.authorization, value)
		case "authentication":
			m.authentication = append(m.authentication, value)
		default:
			if !wellFormed(name, value) {
				m.fault = name
			}
		}
	}
	return m
}

// wellFormed checks the fields whose form every gRPC server insists on; an
// engine must not be the first to see one that is wrong. The connection fields
// are the relay's to refuse, and are named here so that none can ever pass.
func wellFormed(name, value string) bool {
	switch name {
	case "te":
		return value == "trailers"
	case "grpc-timeout":
		return timeoutValid(value)
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		return false
	}
	return !strings.HasSuffix(name, "-bin") || binaryValid(value)
}

// timeoutValid: at most 8 digits and a unit (gRPC over HTTP/2, "Timeout").
func timeoutValid(s string) bool {
	if len(s) < 2 || len(s) > 9 || strings.IndexByte("HMSmun", s[len(s)-1]) < 0 {
		return false
	}
	for _, c := range []byte(s[:len(s)-1]) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// binaryValid: base64, padded or not, or several of these with commas between
// (gRPC over HTTP/2, "Binary-Header").
func binaryValid(s string) bool {
	for more := true; more; {
		var v string
		v, s, more = strings.Cut(s, ",")
		v = strings.Trim(v, " ")
		if len(v)%4 == 0 {
			v = strings.TrimSuffix(strings.TrimSuffix(v, "="), "=")
		}
		if len(v)%4 == 1 {
			return false
		}
		if strings.ContainsFunc(v, notBase64) {
			return false
		}
	}
	return true
}

func notBase64(c rune) bool {
	switch {
	case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '+', c == '/':
		return false
	}
	return true
}

const grpcType = "application/grpc"

// grpcContentType says whether a request means to be gRPC, in whatever codec.
func grpcContentType(s string) bool {
	if len(s) < len(grpcType) || !strings.EqualFold(s[:len(grpcType)], grpcType) {
		return false
	}
	rest := s[len(grpcType):]
	return rest == "" || rest[0] == '+' || rest[0] == ';'
}

// protoContentType says whether it is gRPC in protobuf, the one codec there is
// for Spark Connect.
func protoContentType(s string) bool {
	kind, _, _ := strings.Cut(s, ";")
	kind = strings.TrimRight(kind, " ")
	return strings.EqualFold(kind, grpcType) || strings.EqualFold(kind, grpcType+"+proto")
}

package relay

import "strconv"

// blockKind is the place of a header block in a stream.
type blockKind uint8

const (
	requestBlock blockKind = iota
	responseBlock
	trailerBlock
)

// check looks for what makes a message malformed (RFC 9113 section 8.1.1 and
// 8.2) and remembers the first fault.
func (h *Header) check(kind blockKind) {
	h.kind, h.length = kind, -1
	var seen pseudo
	regular := false
	for i := range h.Fields {
		name, value := h.Fields[i].Name, h.Fields[i].Value
		if len(name) > 0 && name[0] == ':' {
			if regular || !seen.add(kind, name, value) {
				h.fault = "pseudo-header field"
				return
			}
			continue
		}
		regular = true
		if !validName(name) || !validValue(value) || connectionField(name, value) {
			h.fault = "header field"
			return
		}
		if name == "content-length" && !h.setLength(value) {
			h.fault = "content-length"
			return
		}
	}
	if !seen.complete(kind) {
		h.fault = "missing pseudo-header field"
	}
}

// interim: a 1xx answer, behind which the real one comes (RFC 9113 section 8.1).
func (h *Header) interim() bool { return h.Get(":status")[0] == '1' }

func (h *Header) setLength(value string) bool {
	n, err := strconv.ParseUint(value, 10, 62)
	if err != nil || value[0] == '+' || h.length >= 0 && h.length != int64(n) {
		return false
	}
	h.length = int64(n)
	return true
}

// pseudo remembers which pseudo-header fields a block had.
type pseudo struct {
	method, scheme, path, authority, status bool
}

func (p *pseudo) add(kind blockKind, name, value string) bool {
	var seen *bool
	switch {
	case kind == requestBlock && name == ":method":
		seen = &p.method
	case kind == requestBlock && name == ":scheme":
		seen = &p.scheme
	case kind == requestBlock && name == ":path":
		seen = &p.path
	case kind == requestBlock && name == ":authority":
		seen = &p.authority
	case kind == responseBlock && name == ":status":
		seen = &p.status
		if len(value) != 3 || value[0] < '1' || value[0] > '9' {
			return false
		}
	default:
		return false
	}
	if *seen || !validValue(value) {
		return false
	}
	*seen = true
	return value != "" || name == ":authority"
}

func (p *pseudo) complete(kind blockKind) bool {
	switch kind {
	case requestBlock:
		return p.method && p.scheme && p.path
	case responseBlock:
		return p.status
	}
	return true
}

// connectionField: fields that HTTP/2 forbids, RFC 9113 section 8.2.2.
func connectionField(name, value string) bool {
	switch name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		return true
	case "te":
		return value != "trailers"
	}
	return false
}

// validName: lower-case tokens only, RFC 9113 section 8.2.1.
func validName(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		case c == '!', c == '#', c == '$', c == '%', c == '&', c == '\'', c == '*', c == '+', c == '^', c == '`', c == '|', c == '~':
		default:
			return false
		}
	}
	return s != ""
}

// validValue: no NUL, CR or LF anywhere and no blank at either end, RFC 9113 section 8.2.1.
func validValue(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c == 0 || c == '\r' || c == '\n' {
			return false
		}
	}
	if s == "" {
		return true
	}
	first, last := s[0], s[len(s)-1]
	return first != ' ' && first != '\t' && last != ' ' && last != '\t'
}

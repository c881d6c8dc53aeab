package auth

import (
	"fmt"
	"strings"
)

// header is what a token's header may tell us: which of our keys to try.
type header struct {
	alg Algorithm
	kid string
}

// parseHeader reads the header of a token of that kind. Nothing in it is
// believed yet; it only has to be harmless.
func parseHeader(segment string, kind Kind) (header, error) {
	o, err := parseHarmless(segment)
	if err != nil {
		return header{}, err
	}
	if kind == KindOutside {
		err = o.outsideType()
	} else if typ, textErr := o.text("typ"); textErr != nil || typ == "" || typ != kind.typ() {
		err = fmt.Errorf("%w: typ is not that of a %s token", ErrHeader, kind)
	}
	if err != nil {
		return header{}, err
	}
	return o.keyHint()
}

// outsideType checks typ where an outside issuer wrote the token: absent, or one
// that ID tokens and access tokens (RFC 9068) have. A logout token, a security
// event or one of ours are signed by the same keys and mean something else.
func (o object) outsideType() error {
	if !o.has("typ") {
		return nil
	}
	typ, err := o.text("typ")
	typ = strings.TrimPrefix(strings.ToLower(typ), "application/")
	if err != nil || typ != "jwt" && typ != "at+jwt" {
		return fmt.Errorf("%w: typ is not that of an ID token or access token", ErrHeader)
	}
	return nil
}

// parseHarmless reads a header and refuses what must not stand in any.
func parseHarmless(segment string) (object, error) {
	b, err := decodeSegment(segment)
	if err != nil {
		return nil, err
	}
	// Refused wherever they stand: what changes the meaning of the rest (crit,
	// b64, enc, zip), and what offers a key or says where to fetch one.
	refused := []string{"crit", "b64", "enc", "zip", "jwk", "jku", "x5c", "x5u"}
	o, err := parseObject(b, append([]string{"alg", "kid", "typ"}, refused...))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHeader, err)
	}
	for _, name := range refused {
		if o.has(name) {
			return nil, fmt.Errorf("%w: %s is not allowed", ErrHeader, name)
		}
	}
	return o, nil
}

func (o object) keyHint() (header, error) {
	alg, err := o.text("alg")
	if err != nil || !Algorithm(alg).known() {
		return header{}, ErrAlgorithm
	}
	kid, err := o.text("kid")
	if err != nil || kid == "" {
		return header{}, fmt.Errorf("%w: it names none", ErrUnknownKey)
	}
	return header{alg: Algorithm(alg), kid: kid}, nil
}

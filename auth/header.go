package auth

import "fmt"

// header is what a token's header may tell us: which of our keys to try.
type header struct {
	alg Algorithm
	kid string
}

// parseHeader reads the header of a token of that kind. Nothing in it is
// believed yet; it only has to be harmless.
func parseHeader(segment string, kind Kind) (header, error) {
	b, err := decodeSegment(segment)
	if err != nil {
		return header{}, err
	}
	// Refused wherever they stand: what changes the meaning of the rest (crit,
	// b64, enc, zip), and what offers a key or says where to fetch one.
	refused := []string{"crit", "b64", "enc", "zip", "jwk", "jku", "x5c", "x5u"}
	o, err := parseObject(b, append([]string{"alg", "kid", "typ"}, refused...))
	if err != nil {
		return header{}, fmt.Errorf("%w: %w", ErrHeader, err)
	}
	for _, name := range refused {
		if o.has(name) {
			return header{}, fmt.Errorf("%w: %s is not allowed", ErrHeader, name)
		}
	}
	if typ, err := o.text("typ"); err != nil || typ == "" || typ != kind.typ() {
		return header{}, fmt.Errorf("%w: typ is not that of a %s token", ErrHeader, kind)
	}
	return o.keyHint()
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

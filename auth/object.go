package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// object is a JSON object whose members were read strictly: the values are raw.
type object map[string]json.RawMessage

// parseObject reads exactly one JSON object, in valid UTF-8, with nothing behind
// it. No name may come twice, and none may be a name in known but for the case
// of its letters: encoding/json and its likes would take `SID` for `sid`, so a
// token that has it means different things to different readers.
//
// Its errors name known members only, never what the object holds.
func parseObject(b []byte, known []string) (object, error) {
	if !utf8.Valid(b) {
		return nil, errors.New("not UTF-8")
	}
	// The token stream below is lax about commas and what follows; Valid isn't.
	if !json.Valid(b) {
		return nil, errors.New("not JSON")
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	o := make(object)
	for dec.More() {
		if err := o.readMember(dec, known); err != nil {
			return nil, err
		}
	}
	return o, nil
}

func (o object) readMember(dec *json.Decoder, known []string) error {
	t, err := dec.Token()
	name, ok := t.(string)
	if err != nil || !ok {
		return errors.New("not a JSON object")
	}
	if _, twice := o[name]; twice {
		return errors.New("a name is there twice")
	}
	if !slices.Contains(known, name) {
		for _, k := range known {
			if strings.EqualFold(k, name) {
				return fmt.Errorf("%s is there in other letters", k)
			}
		}
	}
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return errors.New("not JSON")
	}
	o[name] = raw
	return nil
}

func (o object) has(name string) bool {
	_, ok := o[name]
	return ok
}

// text returns a member that must be a string.
func (o object) text(name string) (string, error) {
	raw, ok := o[name]
	if !ok {
		return "", fmt.Errorf("%s is missing", name)
	}
	var s string
	if raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", fmt.Errorf("%s is not a string", name)
	}
	return s, nil
}

// seconds returns a member that must be a NumericDate in whole seconds, written
// plainly: no sign, fraction or exponent, not past the year 9999.
func (o object) seconds(name string) (int64, error) {
	raw, ok := o[name]
	if !ok {
		return 0, fmt.Errorf("%s is missing", name)
	}
	var n int64
	for _, c := range raw {
		if c < '0' || c > '9' || n > maxSeconds {
			return 0, fmt.Errorf("%s is not in whole seconds since 1970", name)
		}
		n = n*10 + int64(c-'0')
	}
	if n > maxSeconds {
		return 0, fmt.Errorf("%s is not in whole seconds since 1970", name)
	}
	return n, nil
}

// maxSeconds is 9999-12-31T23:59:59Z, the last time that RFC 3339 can write.
const maxSeconds = 253402300799

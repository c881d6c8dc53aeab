package auth

import (
	"encoding/base64"
	"strings"
)

// MaxTokenBytes is the longest token that is looked at. With it all headers of
// a request stay under the 8 KiB that Spark and the JVM take.
const MaxTokenBytes = 4096

// MaxOutsideBytes is the same for tokens of outside issuers, which carry groups
// and profiles. They go no further than Sconce: no engine sees one.
const MaxOutsideBytes = 16 << 10

// compact is a token cut into its three segments, still encoded.
type compact struct {
	signed    string // header.claims, what the signature is over
	header    string
	claims    string
	signature string
}

// splitToken is the check before any parser sees the token: at most
// MaxTokenBytes, and ^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$ to the
// last byte. Base64 decoders skip line breaks, also strict ones; this doesn't.
func splitToken(token string) (compact, error) { return splitTokenOf(token, MaxTokenBytes) }

// splitTokenOf is splitToken for tokens of at most so many bytes.
func splitTokenOf(token string, most int) (compact, error) {
	if len(token) > most {
		return compact{}, ErrTooLong
	}
	var dots [2]int
	n := 0
	for i := range len(token) {
		switch c := token[i]; {
		case isBase64URL(c):
		case c == '.' && n < len(dots):
			dots[n] = i
			n++
		default:
			return compact{}, ErrMalformed
		}
	}
	first, last := dots[0], dots[1]
	if n != len(dots) || first == 0 || last == first+1 || last == len(token)-1 {
		return compact{}, ErrMalformed
	}
	return compact{
		signed:    token[:last],
		header:    token[:first],
		claims:    token[first+1 : last],
		signature: token[last+1:],
	}, nil
}

func isBase64URL(c byte) bool {
	return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// decodeSegment decodes base64url without padding; the unused bits at the end
// must be zero, so that each value has one spelling.
func decodeSegment(segment string) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(segment)
	if err != nil || strings.ContainsAny(segment, "\r\n") {
		return nil, ErrMalformed
	}
	return b, nil
}

func encodeSegment(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

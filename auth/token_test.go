package auth

import (
	"encoding/base64"
	"errors"
	"regexp"
	"strings"
	"testing"
)

func TestSplitToken(t *testing.T) {
	long := strings.Repeat("a", MaxTokenBytes-4)
	tests := []struct {
		name, token string
		err         error
	}{
		{"three segments", "aa.bb.cc", nil},
		{"whole alphabet", "AZaz09-_.b.c", nil},
		{"as long as may be", long + ".b.c", nil},
		{"one byte too long", long + ".bb.c", ErrTooLong},
		{"1 MiB of dots", strings.Repeat(".", 1<<20), ErrTooLong},
		{"dots", "..", ErrMalformed},
		{"4 KiB of dots", strings.Repeat(".", MaxTokenBytes), ErrMalformed},
		{"empty", "", ErrMalformed},
		{"one segment", "aa", ErrMalformed},
		{"two segments", "aa.bb", ErrMalformed},
		{"four segments", "aa.bb.cc.dd", ErrMalformed},
		{"JWE", "aa.bb.cc.dd.ee", ErrMalformed},
		{"no header", ".bb.cc", ErrMalformed},
		{"no claims", "aa..cc", ErrMalformed},
		{"no signature", "aa.bb.", ErrMalformed},
		{"line break inside", "aa.b\nb.cc", ErrMalformed},
		{"line break behind", "aa.bb.cc\n", ErrMalformed},
		{"return", "aa.bb.cc\r", ErrMalformed},
		{"escaped line break", "aa.bb.cc%0A", ErrMalformed},
		{"space in front", " aa.bb.cc", ErrMalformed},
		{"space behind", "aa.bb.cc ", ErrMalformed},
		{"padding", "aa.bb.cc==", ErrMalformed},
		{"standard alphabet", "a+.b/.cc", ErrMalformed},
		{"NUL", "aa.bb.cc\x00", ErrMalformed},
		{"not ASCII", "aa.bb.cé", ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			parts, err := splitToken(tt.token)
			if !errors.Is(err, tt.err) || err == nil != (tt.err == nil) {
				t.Fatalf("got %v, want %v", err, tt.err)
			}
			if err == nil && parts.header+"."+parts.claims+"."+parts.signature != tt.token {
				t.Errorf("%q cut into %+v", tt.token, parts)
			}
		})
	}
}

// A flood of nonsense must cost a look at its length.
func TestSplitTokenAllocatesNothing(t *testing.T) {
	dots := strings.Repeat(".", 1<<20)
	junk := strings.Repeat("a", MaxTokenBytes)
	n := testing.AllocsPerRun(100, func() {
		_, _ = splitToken(dots)
		_, _ = splitToken(junk)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestDecodeSegmentHasOneSpelling(t *testing.T) {
	for _, s := range []string{"QR", "QUJ", "Q", "QQ==", "QQ\n", "Q\rQ", "Q+"} {
		if b, err := decodeSegment(s); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q decoded to %q, %v", s, b, err)
		}
	}
	if b, err := decodeSegment("QQ"); err != nil || string(b) != "A" {
		t.Errorf("got %q, %v", b, err)
	}
}

// The pre-check against the sentence it implements, and the decoder against its
// own encoder.
func FuzzSplitToken(f *testing.F) {
	shape := regexp.MustCompile(`\A[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\z`)
	for _, s := range []string{"aa.bb.cc", "..", "aa.bb.cc\n", "a.b.c.d", "QR.QQ.QUJ", "\xff.a.a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, token string) {
		parts, err := splitToken(token)
		if want := len(token) <= MaxTokenBytes && shape.MatchString(token); want != (err == nil) {
			t.Fatalf("%q: %v", token, err)
		}
		if err != nil {
			return
		}
		if parts.signed+"."+parts.signature != token || parts.header+"."+parts.claims != parts.signed {
			t.Fatalf("%q cut into %+v", token, parts)
		}
		for _, s := range []string{parts.header, parts.claims, parts.signature} {
			b, err := decodeSegment(s)
			if err == nil && base64.RawURLEncoding.EncodeToString(b) != s {
				t.Fatalf("%q has two spellings", s)
			}
		}
	})
}

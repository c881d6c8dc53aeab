package e2e

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// finder looks for many secrets at once, in one pass: a long run issues thousands of
// tokens and writes a gigabyte.
type finder struct {
	may  [1 << 16]bool // by the hash of the first eight bytes of a piece
	with map[uint64][]piece
}

type piece struct {
	text []byte
	what string
}

func newFinder(list []secret) *finder {
	f := &finder{with: map[uint64][]piece{}}
	for _, s := range list {
		for _, text := range s.text {
			start := binary.LittleEndian.Uint64([]byte(text)) // no piece is shorter
			f.may[startHash(start)] = true
			f.with[start] = append(f.with[start], piece{[]byte(text), s.what})
		}
	}
	return f
}

func startHash(start uint64) uint16 { return uint16(start * 0x9e3779b97f4a7c15 >> 48) } //nolint:gosec // the upper bits

// in says what kind of secret stands in the text, "" = none.
func (f *finder) in(text []byte) string {
	for i := 0; i+8 <= len(text); i++ {
		start := binary.LittleEndian.Uint64(text[i:])
		if !f.may[startHash(start)] {
			continue
		}
		for _, p := range f.with[start] {
			if bytes.HasPrefix(text[i:], p.text) {
				return p.what
			}
		}
	}
	return ""
}

// The finder finds what a plain search finds, wherever it stands.
func TestFinder(t *testing.T) {
	list := []secret{{"one", []string{"abcdefgh", "abcdefghij-longer"}}, {"two", []string{"12345678-a-secret"}}}
	f := newFinder(list)
	for text, want := range map[string]string{
		"": "", "abcdefg": "", "abcdefgh": "one", "xxabcdefghyy": "one", "12345678": "", "12345678-a-secre": "",
		"..12345678-a-secret": "two", "12345678-a-12345678-a-secret": "two",
	} {
		if got := f.in([]byte(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

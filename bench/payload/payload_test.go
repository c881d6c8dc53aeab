package payload

import (
	"encoding/binary"
	"errors"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

const session = "8a2f1a52-0f2f-4f4c-9d5e-0123456789ab"

// fields walks the top level of a message and returns field number -> bytes.
func fields(t *testing.T, wire []byte) map[protowire.Number][]byte {
	t.Helper()
	if got := int(binary.BigEndian.Uint32(wire[1:])); got != len(wire)-Prefix {
		t.Fatalf("prefix says %d bytes, message has %d", got, len(wire)-Prefix)
	}
	out := map[protowire.Number][]byte{}
	for b := wire[Prefix:]; len(b) > 0; {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 || typ != protowire.BytesType {
			t.Fatalf("bad tag: number %d type %d", num, typ)
		}
		v, k := protowire.ConsumeBytes(b[n:])
		if k < 0 {
			t.Fatalf("field %d is cut short", num)
		}
		out[num] = v
		b = b[n+k:]
	}
	return out
}

func TestMessagesAreProtobuf(t *testing.T) {
	rows, err := Rows(session, 64<<10)
	if err != nil {
		t.Fatal(err)
	}
	artifact, err := Artifact(session, 32<<10)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		wire    []byte
		size    int // 0: any
		session protowire.Number
	}{
		{"unary request", UnaryRequest(session), 0, 1},
		{"unary response", UnaryResponse(session), UnaryResponseSize, 1},
		{"execute request", ExecuteRequest(session, 7), 0, 1},
		{"rows", rows.Bytes(), 64 << 10, 1},
		{"artifact", artifact.Bytes(), 32 << 10, 1},
		{"artifact response", ArtifactResponse(session), 0, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.size != 0 && len(tc.wire) != tc.size {
				t.Errorf("size %d, want %d", len(tc.wire), tc.size)
			}
			if got := string(fields(t, tc.wire)[tc.session]); got != session {
				t.Errorf("session_id %q, want %q", got, session)
			}
		})
	}
}

func TestUnaryRequestIsAbout100Bytes(t *testing.T) {
	if n := len(UnaryRequest(session)); n < 80 || n > 120 {
		t.Errorf("%d bytes", n)
	}
}

func TestSession(t *testing.T) {
	if got := Session(ExecuteRequest(session, 1)); got != session {
		t.Errorf("got %q", got)
	}
	if got := Session([]byte("too short")); got != "" {
		t.Errorf("got %q from rubbish", got)
	}
}

func TestCheck(t *testing.T) {
	rows, err := Rows(session, 128<<10)
	if err != nil {
		t.Fatal(err)
	}
	stream := append(rows.Bytes(), rows.Bytes()...)
	swap := func(i, j, n int) []byte {
		b := append([]byte(nil), stream...)
		copy(b[i:i+n], stream[j:j+n])
		copy(b[j:j+n], stream[i:i+n])
		return b
	}
	for _, tc := range []struct {
		name   string
		stream []byte
		wrong  bool
	}{
		{"as sent", stream, false},
		{"a frame lost", append(append([]byte(nil), stream[:32<<10]...), stream[48<<10:]...), true},
		{"two frames swapped", swap(16<<10, 32<<10, 16<<10), true},
		{"two runs of 64 KiB swapped", swap(16<<10, 80<<10, 16<<10), true},
		{"one bit", func() []byte { b := append([]byte(nil), stream...); b[100_000] ^= 1; return b }(), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := NewCheck(rows)
			var err error
			for p := tc.stream; len(p) > 0 && err == nil; p = p[min(len(p), 9973):] {
				err = c.Feed(p[:min(len(p), 9973)])
			}
			if tc.wrong != errors.Is(err, ErrContent) {
				t.Fatalf("error %v, want wrong = %v", err, tc.wrong)
			}
			if !tc.wrong && (c.Messages != 2 || c.Partial()) {
				t.Fatalf("%d messages, partial %v", c.Messages, c.Partial())
			}
		})
	}
}

// amended is message m with extra put at its end and its prefix patched, which
// is what a gateway does that stamps the user into it.
func amended(m, extra []byte) []byte {
	b := append(append([]byte(nil), m...), extra...)
	return sealed(b)
}

func TestSink(t *testing.T) {
	artifact, err := Artifact(session, 32<<10)
	if err != nil {
		t.Fatal(err)
	}
	plain := artifact.Bytes()
	broken := append([]byte(nil), plain...)
	broken[20_000] ^= 1
	for _, tc := range []struct {
		name  string
		m     []byte
		wrong bool
	}{
		{"as sent", plain, false},
		{"stamped", amended(plain, []byte("\x12\x07\x0a\x05alice")), false},
		{"cut short", amended(plain[:30_000], nil), true},
		{"one bit", broken, true},
		{"far too long", amended(plain, make([]byte, 1000)), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := NewSink(32 << 10)
			stream := append(append([]byte(nil), tc.m...), tc.m...)
			var err error
			for p := stream; len(p) > 0 && err == nil; p = p[min(len(p), 4099):] {
				err = s.Feed(p[:min(len(p), 4099)])
			}
			if tc.wrong != errors.Is(err, ErrContent) {
				t.Fatalf("error %v, want wrong = %v", err, tc.wrong)
			}
			if !tc.wrong && (s.Messages != 2 || s.Partial()) {
				t.Fatalf("%d messages, partial %v", s.Messages, s.Partial())
			}
		})
	}
}

func TestNoMessageOfThatSize(t *testing.T) {
	if _, err := Rows(session, 20); err == nil {
		t.Error("a message smaller than its fields was made")
	}
}

package wire

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func stream() []byte {
	b := AppendSettings(nil, Setting{ID: InitialWindowSize, Value: 1 << 20})
	b = AppendHeader(b, Header{Length: MaxPayload, Type: Data, Stream: 3})
	b = append(b, bytes.Repeat([]byte{7}, MaxPayload)...)
	return AppendWindowUpdate(b, 3, 99)
}

func TestReaderInEveryCut(t *testing.T) {
	for name, cut := range map[string]func(io.Reader) io.Reader{
		"whole": func(r io.Reader) io.Reader { return r },
		"bytes": iotest.OneByteReader,
		"half":  iotest.HalfReader,
	} {
		t.Run(name, func(t *testing.T) {
			r := NewReader(cut(bytes.NewReader(stream())), 0)
			for i, want := range []Header{
				{Length: 6, Type: SettingsType},
				{Length: MaxPayload, Type: Data, Stream: 3},
				{Length: 4, Type: WindowUpdate, Stream: 3},
			} {
				h, p, err := r.Next()
				if err != nil || h != want || len(p) != want.Length {
					t.Fatalf("frame %d: %+v with %d bytes, %v; want %+v", i, h, len(p), err, want)
				}
			}
			if _, _, err := r.Next(); !errors.Is(err, io.EOF) {
				t.Errorf("at the end: %v", err)
			}
		})
	}
}

func TestReaderRefusesHalfAFrame(t *testing.T) {
	for name, b := range map[string][]byte{
		"in the header":  stream()[:5],
		"in the payload": stream()[:12],
	} {
		if _, _, err := NewReader(bytes.NewReader(b), 0).Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
	big := AppendHeader(nil, Header{Length: MaxPayload + 1, Type: Data})
	if _, _, err := NewReader(bytes.NewReader(big), 0).Next(); !errors.Is(err, ErrFrame) {
		t.Errorf("too large: %v", err)
	}
}

func TestBody(t *testing.T) {
	for _, tc := range []struct {
		name string
		h    Header
		p    string
		want string
		err  error
	}{
		{"plain data", Header{Type: Data}, "abc", "abc", nil},
		{"padded data", Header{Type: Data, Flags: Padded}, "\x02abc..", "abc", nil},
		{"too much padding", Header{Type: Data, Flags: Padded}, "\x06abc..", "", ErrFrame},
		{"headers", Header{Type: Headers, Flags: EndHeaders}, "abc", "abc", nil},
		{"headers with priority", Header{Type: Headers, Flags: EndHeaders | Priority}, "12345abc", "abc", nil},
		{"headers that go on", Header{Type: Headers}, "abc", "", ErrContinuation},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Body(tc.h, []byte(tc.p))
			if string(got) != tc.want || !errors.Is(err, tc.err) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

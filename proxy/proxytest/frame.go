package proxytest

import (
	"fmt"
	"slices"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Frame is one frame as it came, in a copy of its own. A header block that was
// spread over CONTINUATION frames is one Frame.
type Frame struct {
	Type   http2.FrameType
	Flags  http2.Flags
	Stream uint32

	Data     []byte              // DATA without padding; PING; GOAWAY's debug data
	Fields   []hpack.HeaderField // HEADERS
	Settings []http2.Setting     // SETTINGS
	Code     http2.ErrCode       // RST_STREAM, GOAWAY
	Last     uint32              // GOAWAY: the last stream id
	Credit   uint32              // WINDOW_UPDATE
	Pieces   int                 // HEADERS: the frames its block came in
	Length   int                 // on the wire; with padding, all pieces together
}

// End says that the frame ends its sender's side of the stream.
func (f *Frame) End() bool {
	switch f.Type {
	case http2.FrameData, http2.FrameHeaders:
		return f.Flags.Has(http2.FlagDataEndStream)
	}
	return false
}

func (f *Frame) String() string {
	s := fmt.Sprintf("%v stream=%d flags=%#x", f.Type, f.Stream, f.Flags)
	switch f.Type {
	case http2.FrameData:
		s += fmt.Sprintf(" %d bytes", len(f.Data))
	case http2.FrameHeaders:
		s += fmt.Sprintf(" %v", f.Fields)
	case http2.FrameRSTStream:
		s += fmt.Sprintf(" %v", f.Code)
	case http2.FrameGoAway:
		s += fmt.Sprintf(" last=%d %v %q", f.Last, f.Code, f.Data)
	case http2.FrameSettings:
		s += fmt.Sprintf(" %v", f.Settings)
	case http2.FrameWindowUpdate:
		s += fmt.Sprintf(" +%d", f.Credit)
	}
	return s
}

// copyFrame takes what a Frame keeps of f, except header fields.
func copyFrame(f http2.Frame) Frame {
	h := f.Header()
	out := Frame{Type: h.Type, Flags: h.Flags, Stream: h.StreamID, Length: int(h.Length)}
	switch f := f.(type) {
	case *http2.DataFrame:
		out.Data = slices.Clone(f.Data())
	case *http2.PingFrame:
		out.Data = slices.Clone(f.Data[:])
	case *http2.RSTStreamFrame:
		out.Code = f.ErrCode
	case *http2.GoAwayFrame:
		out.Code, out.Last, out.Data = f.ErrCode, f.LastStreamID, slices.Clone(f.DebugData())
	case *http2.WindowUpdateFrame:
		out.Credit = f.Increment
	case *http2.SettingsFrame:
		for i := range f.NumSettings() {
			out.Settings = append(out.Settings, f.Setting(i))
		}
	}
	return out
}

// Fields makes header fields of name, value pairs.
func Fields(pairs ...string) []hpack.HeaderField {
	if len(pairs)%2 != 0 {
		panic("proxytest.Fields: a name without a value")
	}
	fs := make([]hpack.HeaderField, 0, len(pairs)/2)
	for ; len(pairs) >= 2; pairs = pairs[2:] {
		fs = append(fs, hpack.HeaderField{Name: pairs[0], Value: pairs[1]})
	}
	return fs
}

// Call is the header list of a gRPC request for path, with extra fields after it.
func Call(path string, extra ...string) []hpack.HeaderField {
	return append(Fields(
		":method", "POST", ":scheme", "http", ":path", path, ":authority", "sconce.test:8085",
		"content-type", "application/grpc", "te", "trailers", "user-agent", "proxytest",
	), Fields(extra...)...)
}

// Value returns the first value of a name in fields, or "".
func Value(fields []hpack.HeaderField, name string) string {
	for _, f := range fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

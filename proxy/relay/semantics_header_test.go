package relay_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// oddFields are fields that must pass as they are: order, duplicates, binary
// metadata, empty values, every byte that a value may hold.
func oddFields() []hpack.HeaderField {
	value := make([]byte, 0, 256)
	for c := range 256 {
		if c != 0 && c != '\r' && c != '\n' {
			value = append(value, byte(c))
		}
	}
	return proxytest.Fields(
		"x-twice", "b", "x-other", "1", "x-twice", "a", "x-twice", "b",
		"x-trace-bin", "AAECAw", "x-trace-bin", "", "x-trace-bin", "/+8=",
		"x-empty", "", "x-long", strings.Repeat("long ", 1000)+".",
		"x-bytes", "|"+string(value)+"|", "x_under.score-!#$%&'*+^`|~", "v",
		"cookie", "a=b", "cookie", "c=d", "content-language", "de", "date", "now", "via", "x",
		"grpc-accept-encoding", "identity,gzip", "grpc-encoding", "gzip",
	)
}

func TestFieldsPassUnchangedBothWays(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		r := newRig(t, cfg)
		c := r.client(proxytest.PeerConfig{})
		var b *proxytest.Peer
		for turn := range 3 { // the second and third time the blocks may be remembered ones
			request := append(proxytest.Call(method), oddFields()...)
			request[len(request)-1].Sensitive = turn == 1
			id := c.Open(request, false)
			if b == nil {
				b = r.accept(proxytest.PeerConfig{})
			}
			in := b.Accept()
			sameFields(t, "request", in.Blocks[0], request)

			header := append(ok200(), oddFields()...)
			b.Headers(in.ID, false, header...)
			trailer := append(grpcOK(), oddFields()...)
			b.Headers(in.ID, true, trailer...)
			got := c.Response(id)
			if len(got.Blocks) != 2 {
				t.Fatalf("%d header blocks", len(got.Blocks))
			}
			sameFields(t, "response", got.Blocks[0], header)
			sameFields(t, "trailers", got.Blocks[1], trailer)

			requestTrailer := proxytest.Fields("x-client", "1", "x-client-bin", "AA")
			c.Headers(id, true, requestTrailer...)
			c.Barrier()
		}
	})
}

// sameFields ignores whether a field was marked sensitive.
func sameFields(t *testing.T, what string, got, want []hpack.HeaderField) {
	t.Helper()
	plain := func(fs []hpack.HeaderField) []hpack.HeaderField {
		out := make([]hpack.HeaderField, len(fs))
		for i, f := range fs {
			out[i] = hpack.HeaderField{Name: f.Name, Value: f.Value}
		}
		return out
	}
	if g, w := plain(got), plain(want); !reflect.DeepEqual(g, w) {
		t.Errorf("%s: got\n%v\nwant\n%v", what, g, w)
	}
}

func TestTrailersOnlyStaysOneBlock(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		l, c, b := newRig(t, cfg).open(proxytest.PeerConfig{}, proxytest.PeerConfig{})
		want := append(trailersOnly("9"), proxytest.Fields("grpc-message", "a%20b", "grpc-status-details-bin", "CAkSA2E")...)
		b.Headers(l.bid, true, want...)
		got := c.Response(l.cid)
		if len(got.Blocks) != 1 || got.Frames != 0 {
			t.Fatalf("%d blocks, %d DATA frames", len(got.Blocks), got.Frames)
		}
		sameFields(t, "trailers-only", got.Blocks[0], want)
	})
}

// Informational responses are no response: the real one still comes.
func TestInformationalResponses(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		l, c, b := newRig(t, cfg).open(proxytest.PeerConfig{}, proxytest.PeerConfig{})
		b.Headers(l.bid, false, proxytest.Fields(":status", "103", "link", "</x>")...)
		b.Headers(l.bid, false, proxytest.Fields(":status", "100")...)
		l.answer()
		b.Data(l.bid, false, []byte("body"))
		b.Headers(l.bid, true, grpcOK()...)
		got := c.Response(l.cid)
		if got.Header(":status") != "200" || string(got.Data) != "body" || got.Trailer("grpc-status") != "0" {
			t.Errorf("the client read %+v", got)
		}
	})
}

// Header blocks in any number of frames, padded, with priority, from both sides.
func TestSplitHeaderBlocks(t *testing.T) {
	long := strings.Repeat("x", 30_000)
	splits := map[string][]int{
		"one byte each for a while": {1, 1, 1, 1, 1, 1, 1, 1},
		"empty first":               {0, 5},
		"empty in the middle":       {3, 0, 0, 3},
		"in half":                   {40},
	}
	wires(t, func(t *testing.T, cfg rigConfig) {
		r := newRig(t, cfg)
		l, c, b := r.open(proxytest.PeerConfig{}, proxytest.PeerConfig{})
		l.done()
		c.Response(l.cid)
		for name, sizes := range splits {
			t.Run(name, func(t *testing.T) {
				request := proxytest.Call(method, "x-name", name)
				id := c.NextID()
				c.SplitHeaders(id, false, request, sizes...)
				in := b.Accept()
				sameFields(t, "request", in.Blocks[0], request)
				b.SplitHeaders(in.ID, false, ok200(), sizes...)
				b.SplitHeaders(in.ID, true, grpcOK(), sizes...)
				got := c.Response(id)
				sameFields(t, "response", got.Blocks[0], ok200())
				sameFields(t, "trailers", got.Blocks[1], grpcOK())
				c.SplitHeaders(id, true, proxytest.Fields("x-trailer", name), sizes...)
				c.Barrier()
			})
		}
		t.Run("longer than a frame", func(t *testing.T) {
			request := proxytest.Call(method, "x-long", long)
			id := c.Open(request, false)
			in := b.Accept()
			sameFields(t, "request", in.Blocks[0], request)
			header := append(ok200(), proxytest.Fields("x-long", long)...)
			b.Headers(in.ID, false, header...)
			b.Headers(in.ID, true, append(grpcOK(), proxytest.Fields("x-long", long)...)...)
			got := c.Response(id)
			sameFields(t, "response", got.Blocks[0], header)
			if got.Trailer("x-long") != long {
				t.Error("the long trailer is another")
			}
		})
		t.Run("padded, with priority", func(t *testing.T) {
			id := c.NextID()
			block := encodeFields(proxytest.Call(method, "x-odd", "1"))
			payload := append([]byte{7, 0x80, 0, 0, 1, 200}, block...)
			payload = append(payload, make([]byte, 7)...)
			c.Frame(http2.FrameHeaders, http2.FlagHeadersPadded|http2.FlagHeadersPriority|http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, id, payload)
			in := b.Response(b.Accept().ID) // its end may come in a frame of its own
			if in.Header("x-odd") != "1" || !in.Ended {
				t.Errorf("the backend read %+v", in)
			}
			b.Headers(in.ID, true, trailersOnly("0")...)
			c.Response(id)
		})
	})
}

// encodeFields is HPACK that leaves the dynamic table alone.
func encodeFields(fields []hpack.HeaderField) []byte {
	var b strings.Builder
	enc := hpack.NewEncoder(&b)
	for _, f := range fields {
		f.Sensitive = true
		_ = enc.WriteField(f)
	}
	return []byte(b.String())
}

// The HPACK tables of both connections live on their own: whatever size each
// side sets, and changes, the fields stay right.
func TestHeaderTableSizes(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		for _, size := range []uint32{0, 31, 100, 4096, 1 << 16, 1<<32 - 1} {
			t.Run(fmt.Sprint(size), func(t *testing.T) {
				settings := proxytest.PeerConfig{Settings: []http2.Setting{{ID: http2.SettingHeaderTableSize, Val: size}}}
				l, c, b := newRig(t, cfg).open(settings, settings)
				l.done()
				c.Response(l.cid)
				for i := range 20 {
					switch i {
					case 5: // each encoder changes its own table
						c.TableSize(50)
						b.TableSize(0)
					case 10:
						c.TableSize(4096)
						b.TableSize(4096)
					case 12: // and each decoder the other's
						for _, v := range []uint32{0, 4096, 64} {
							c.Settings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: v})
							b.Settings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: v})
						}
						c.WaitSettings()
						b.WaitSettings()
					}
					request := proxytest.Call(method, "x-turn", fmt.Sprint(i), "x-same", "same", "x-mod", fmt.Sprint(i%3))
					id := c.Open(request, true)
					in := b.Accept()
					sameFields(t, "request", in.Blocks[0], request)
					answer := append(trailersOnly("0"), proxytest.Fields("x-turn", fmt.Sprint(i), "x-same", "same")...)
					b.Headers(in.ID, true, answer...)
					sameFields(t, "response", c.Response(id).Blocks[0], answer)
				}
			})
		}
	})
}

// A router sends on what it likes; the same *Header may be used again and again.
func TestForwardedFieldsAreTheRouters(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		out := &relay.Header{Fields: proxytest.Call("/other/path", "authorization", "Bearer backend", "x-n", "1")}
		cfg.router = func(r *rig, s *relay.Stream) { s.Forward(r.backend, out, nil) }
		r := newRig(t, cfg)
		c := r.client(proxytest.PeerConfig{})
		var b *proxytest.Peer
		for i := range 5 {
			id := c.Open(proxytest.Call(method, "authorization", "Bearer tenant", "x-i", fmt.Sprint(i)), true)
			if b == nil {
				b = r.accept(proxytest.PeerConfig{})
			}
			in := b.Accept()
			sameFields(t, "request", in.Blocks[0], out.Fields)
			b.Headers(in.ID, true, trailersOnly("0")...)
			c.Response(id)
		}
	})
}

// Header is shared by the streams of one connection whose blocks are the same
// bytes, so that a router may keep what it worked out.
func TestSameBlockSameHeader(t *testing.T) {
	var seen []*relay.Header
	r := newRig(t, rigConfig{router: func(_ *rig, s *relay.Stream) {
		seen = append(seen, s.Header())
		if s.Header().Memo == nil {
			s.Header().Memo = len(seen)
		}
		s.Refuse(unavailable("no"))
	}})
	c := r.client(proxytest.PeerConfig{})
	block := encodeFields(proxytest.Call(method))
	for range 3 {
		id := c.NextID()
		c.Block(id, true, block)
		c.Response(id)
	}
	id := c.Open(proxytest.Call(method, "x-other", "1"), true)
	c.Response(id)
	if seen[0] != seen[1] || seen[1] != seen[2] || seen[2].Memo != 1 {
		t.Error("the same bytes gave another Header")
	}
	if seen[3] == seen[2] || seen[3].Get("x-other") != "1" || seen[3].Memo != 4 {
		t.Error("other bytes gave the same Header")
	}
	if got := seen[3].Values("x-other"); !reflect.DeepEqual(got, []string{"1"}) || seen[3].Get("none") != "" || seen[3].Values("none") != nil {
		t.Errorf("values %v", got)
	}
}

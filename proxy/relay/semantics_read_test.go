package relay_test

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
)

// reading is a witness that notes which messages of the answer it was shown.
type reading struct {
	*witness
	suffix []byte
	saw    []string
}

// unseen stands for a message that was not shown.
const unseen = "<unseen>"

func (r *reading) Suffix() []byte { return r.suffix }
func (r *reading) Reads() bool    { return true }
func (r *reading) Read(message []byte) {
	if message == nil {
		r.saw = append(r.saw, unseen)
		return
	}
	r.saw = append(r.saw, string(message))
}

// A call that reads the answer sees each message that is plain and lies in one frame,
// with its suffix not yet there, and is told of each that does not; the client reads all.
func TestAnswerIsRead(t *testing.T) {
	wires(t, func(t *testing.T, cfg rigConfig) {
		for name, suffix := range map[string][]byte{"as it comes": nil, "amended": []byte("<suffix>")} {
			t.Run(name, func(t *testing.T) {
				calls := make(chan *reading, 100)
				cfg.router = func(r *rig, s *relay.Stream) {
					call := &reading{witness: newWitness(), suffix: suffix}
					calls <- call
					s.Forward(r.backend, s.Header(), call)
				}
				r := newRig(t, cfg)
				c := r.client(proxytest.PeerConfig{})
				var b *proxytest.Peer
				rapid.Check(t, func(rt *rapid.T) {
					var came, read []byte
					type span struct {
						flag         byte
						from, behind int // of its bytes in what came, without the prefix
					}
					var messages []span
					for range rapid.IntRange(1, 5).Draw(rt, "messages") {
						flag := rapid.SampledFrom([]byte{0, 0, 0, 1}).Draw(rt, "flag")
						message := proxytest.Pattern(3, rapid.SampledFrom([]int{0, 1, 10, 100, 20000}).Draw(rt, "size"))
						came = append(came, lengthPrefixed(flag, message)...)
						messages = append(messages, span{flag, len(came) - len(message), len(came)})
						if flag == 0 {
							message = append(bytes.Clone(message), suffix...)
						}
						read = append(read, lengthPrefixed(flag, message)...)
					}
					id := c.Open(proxytest.Call(method), true)
					if b == nil {
						b = r.accept(proxytest.PeerConfig{})
					}
					in := b.Accept()
					b.Headers(in.ID, false, ok200()...)
					var want []string
					for at := 0; at < len(came); {
						end := min(len(came), at+rapid.SampledFrom([]int{1, 4, 5, 6, 100, 16384}).Draw(rt, "frame"))
						for _, m := range messages {
							switch {
							case m.from <= at || m.from > end: // its prefix ends elsewhere
							case m.flag == 0 && m.behind <= end:
								want = append(want, string(came[m.from:m.behind]))
							default:
								want = append(want, unseen)
							}
						}
						b.Send(in.ID, came[at:end], false)
						at = end
					}
					b.Headers(in.ID, true, grpcOK()...)
					if got := c.Response(id); !bytes.Equal(got.Data, read) {
						rt.Errorf("the client read %d bytes, want %d", len(got.Data), len(read))
					}
					call := <-calls
					call.over(t)
					if !slices.Equal(call.saw, want) {
						rt.Errorf("it saw %d messages, want %d", len(call.saw), len(want))
					}
				})
			})
		}
	})
}

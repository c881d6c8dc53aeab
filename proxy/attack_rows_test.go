package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/net/http2"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
)

// The rows of TestAttacksLeaveTheOtherTenantAlone.

const floods = "TestFloodsEndTheConnection"

func attacks() []attack {
	all := append(streamAttacks(), headerAttacks()...)
	all = append(append(all, frameAttacks()...), slowAttacks()...)
	for name := range proxytest.EngineFloods() {
		all = append(all, attack{name: "an engine's flood: " + name, engine: name, held: "TestFloodsOfABackendLeaveTheOthersAlone", run: func(a *attacker) {
			for a.Flush() && !over(a.stop) {
				a.plan()
				a.tell()
				time.Sleep(2 * time.Millisecond)
			}
		}})
	}
	return append(all, attack{name: "none: she only computes", held: "TestAttacksLeaveTheOtherTenantAlone", run: computes})
}

// computes is no attack: what it does to another tenant the machine does, on which both are.
func computes(a *attacker) {
	a.tell()
	for n := uint64(0); !over(a.stop); {
		for range 1 << 10 {
			n = n*6364136223846793005 + 1
		}
	}
}

// Streams that are opened to be reset, by her or by us.
func streamAttacks() []attack {
	made := func(how string, do func(a *attacker, id uint32)) attack {
		return attack{name: "made you reset by " + how, held: floods, run: func(a *attacker) {
			a.flood(func(int) { do(a, a.plan()) })
		}}
	}
	return []attack{
		{name: "rapid reset", held: floods + " TestHundredAndFirstStream", run: func(a *attacker) {
			a.flood(func(int) { a.Reset(a.plan()) })
		}},
		{name: "rapid reset over twenty connections", conns: 20, held: floods + " TestHundredAndFirstStream", run: func(a *attacker) {
			a.flood(func(int) { a.Reset(a.plan()) })
		}},
		{name: "rapid reset, each time on a new connection", held: floods + " TestHundredAndFirstStream", run: func(a *attacker) {
			for range 50 {
				a.Reset(a.plan())
			}
			a.Flush()
		}},
		{name: "streams over the bound", held: floods + " TestStreamOverTheBound", run: func(a *attacker) {
			a.flood(func(int) { a.plan() })
		}},
		made("WINDOW_UPDATE of 0", func(a *attacker, id uint32) { a.Credit(id, 0) }),
		made("a stream that depends on itself", func(a *attacker, id uint32) {
			a.Frame(http2.FramePriority, 0, id, []byte{byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id), 1}) //nolint:gosec // its bytes
		}),
		made("DATA after END_STREAM", func(a *attacker, id uint32) { a.Data(id, false, []byte("x")) }),
		made("a window that overflows", func(a *attacker, id uint32) { a.Credit(id, 1<<31-1) }),
	}
}

func headerAttacks() []attack {
	continued := func(name string, body []byte) attack {
		return attack{name: name, held: "TestHeaderFloods", run: func(a *attacker) {
			a.Frame(http2.FrameHeaders, 0, 1, nil)
			a.flood(func(int) { a.Frame(http2.FrameContinuation, 0, 1, body) })
		}}
	}
	call := func(name, held string, open func(a *attacker, i int)) attack {
		return attack{name: name, held: held, run: func(a *attacker) { a.flood(func(i int) { open(a, i) }) }}
	}
	plan := proxytest.SparkService + "ExecutePlan"
	return []attack{
		continued("CONTINUATION flood", bytes.Repeat([]byte("\x00\x01x\x64"+strings.Repeat("y", 100)), 80)),
		continued("empty CONTINUATION", nil),
		{name: "HPACK bomb", held: "TestHPACKBomb", run: func(a *attacker) {
			// One entry of the dynamic table, of 4,000 bytes, named 16,000 times in a frame.
			entry := append([]byte{0x40, 1, 'x', 0x7f, 0xa1, 0x1e}, bytes.Repeat([]byte("y"), 4000)...)
			a.flood(func(int) {
				id := a.Open(nil, false)
				a.Frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, id+2, append(entry, bytes.Repeat([]byte{0xbe}, 12_000)...))
			})
		}},
		call("smuggled headers", "TestTableOfBadInputs TestFieldsThatAreNotForwarded TestStreamFaultsStayOnTheStream", func(a *attacker, i int) {
			smuggled := [][]string{
				{"x-session-id", a.Bob}, {"X-Session-Id", a.Bob}, {"authorization", "Bearer x"}, {"authentication", "Bearer x"},
				{"connection", "x-session-id"}, {"transfer-encoding", "chunked"}, {":path", "/x"}, {"x-a", "b\r\nx-session-id: " + a.Bob},
			}
			a.Open(proxytest.Call(plan, append(a.Creds, smuggled[i%len(smuggled)]...)...), true)
		}),
		call("confused paths", "TestTableOfBadInputs", func(a *attacker, i int) {
			paths := []string{plan[1:], "/" + plan, "/x/.." + plan, plan + "?x=1", plan + "/", strings.ToLower(plan), "*", "/%73" + plan[2:]}
			a.Open(proxytest.Call(paths[i%len(paths)], a.Creds...), true)
		}),
		call("trailers of a client", "TestClientTrailersChangeNothing", func(a *attacker, _ int) {
			id := a.open()
			a.Data(id, false, alicePlan)
			a.Headers(id, true, proxytest.Fields("x-session-id", a.Bob, "authorization", "Bearer x")...)
		}),
		call("guessed tokens", "TestGuessingIsThrottled TestThrottleLeavesOthersAlone", func(a *attacker, i int) {
			forged := fmt.Sprintf("%s%06d%s", a.Token[:len(a.Token)-30], i%1e6, a.Token[len(a.Token)-24:])
			a.Open(proxytest.Call(plan, "authorization", "Bearer "+forged, "x-session-id", a.Bob), true)
		}),
	}
}

// Frames that cost us something and her nothing.
func frameAttacks() []attack {
	frame := func(name string, typ http2.FrameType, body ...byte) attack {
		return attack{name: name + " flood", held: floods, run: func(a *attacker) {
			a.flood(func(int) { a.Frame(typ, 0, 0, body) })
		}}
	}
	return []attack{
		frame("SETTINGS", http2.FrameSettings, 0, 4, 0, 0, 1, 0),
		frame("PING", http2.FramePing, 1, 2, 3, 4, 5, 6, 7, 8),
		frame("WINDOW_UPDATE", http2.FrameWindowUpdate, 0, 0, 0, 1),
		frame("unknown frame", 0x42, 1, 2, 3),
		{name: "PRIORITY flood", held: floods, run: func(a *attacker) {
			a.flood(func(i int) { a.Frame(http2.FramePriority, 0, uint32(2*i+1)&0x7fffffff, []byte{0, 0, 0, 0, 1}) }) //nolint:gosec // masked
		}},
		{name: "empty DATA flood", held: floods, run: func(a *attacker) {
			id := a.open()
			a.flood(func(int) { a.Data(id, false, nil) })
		}},
		{name: "pings whose answers are not read", held: "TestClientThatNeverReads", deaf: true, run: func(a *attacker) {
			a.flood(func(int) { a.Frame(http2.FramePing, 0, 0, make([]byte, 8)) })
		}},
		{name: "bad frames", held: "TestMalformedFrames", run: func(a *attacker) {
			a.flood(func(int) { a.Frame(http2.FrameData, 0, 1, make([]byte, 16385)) })
		}},
	}
}

// Who says little, or nothing, and takes little.
func slowAttacks() []attack {
	shut := []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}}
	plans := func(a *attacker, each func(id uint32)) {
		for range relay.DefaultLimits().Streams {
			each(a.plan())
		}
	}
	return []attack{
		{name: "zero windows", held: "TestZeroWindowReaders TestStalledStreamIsBounded", large: true, settings: shut, run: func(a *attacker) {
			a.hold(func() { plans(a, func(uint32) {}) })
		}},
		{name: "slow readers", held: "TestSlowReaderSlowsOnlyItself TestPausedReaders", large: true, settings: shut, run: func(a *attacker) {
			var ids []uint32
			plans(a, func(id uint32) { ids = append(ids, id) })
			a.tell()
			for i := 0; a.Flush() && !over(a.stop); i++ {
				a.Credit(ids[i%len(ids)], 1)
				time.Sleep(2 * time.Second / time.Duration(relay.DefaultLimits().WindowUpdates)) // half of what is allowed
			}
		}},
		// Her connection ends for it, and with the next one come a hundred plans more, whose
		// results fill the windows of the engine's side.
		{name: "credit of one byte", held: floods, large: true, again: true, settings: shut, run: func(a *attacker) {
			var ids []uint32
			plans(a, func(id uint32) { ids = append(ids, id) })
			a.flood(func(i int) { a.Credit(ids[i%len(ids)], 1) })
		}},
		{name: "half-open: gone without a word amid results", held: "TestSilenceIsAskedAbout", deaf: true, leaves: true, large: true, run: func(a *attacker) {
			a.hold(func() { plans(a, func(uint32) {}) })
		}},
		{name: "frames that never end", held: "TestUnfinishedFrames", deaf: true, leaves: true, run: func(a *attacker) {
			a.hold(func() {
				id := a.open()
				a.Frame(http2.FrameHeaders, 0, id+2, []byte{0x83})
			})
		}},
		{name: "lying lengths", held: "TestClaimedLengthCostsNothing TestLyingMessageLength", run: func(a *attacker) {
			a.hold(func() {
				for range relay.DefaultLimits().Streams {
					a.Data(a.open(), false, []byte{0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3})
				}
			})
		}},
		{name: "half of requests to own services", held: "TestUnfinishedOwnRequestsHoldLittle TestOwnCallsAreBounded", run: func(a *attacker) {
			half := make([]byte, 16<<10)
			copy(half, proxytest.Message(make([]byte, 4<<20-1))[:5])
			for i := range relay.DefaultLimits().Streams - 1 {
				path := []string{checkHealth, watchHealth}[i%2]
				a.Data(a.Open(proxytest.Call(path), false), false, []byte{0, 0, 0, 1, 0, 1, 2, 3})
			}
			a.flood(func(int) {
				a.Data(a.Open(proxytest.Call(createSession, "authorization", "Bearer x"), false), false, half)
			})
		}},
		{name: "silent sockets", held: "TestPortClosesTheSilentAfterFiveSeconds TestPortBoundsConnections TestPrefaceMustCome", leaves: true, run: silentSockets},
	}
}

// silentSockets opens two hundred connections that say nothing, or half of something,
// and leaves it to the gateway to end them.
func silentSockets(a *attacker) {
	var conns []net.Conn
	for i := range 200 {
		c, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", a.Addr)
		if err != nil {
			panic(err)
		}
		conns = append(conns, c)
		_, _ = c.Write([]byte(http2.ClientPreface)[:i%len(http2.ClientPreface)])
	}
	a.hold(func() {})
	for _, c := range conns {
		_ = c.Close()
	}
}

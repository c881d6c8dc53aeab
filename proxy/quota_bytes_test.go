package proxy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/proxy/relay"
)

// A stream begins while there are fewer bytes under way than there may be, whose ever
// they are; what ends streams, until there are twice as many.
func TestBytesInFlightHaveAQuota(t *testing.T) {
	for i, level := range callers {
		t.Run(level.name, func(t *testing.T) {
			tr, _ := newQuotaRouter(t, quotaOf(level.name, Quota{InFlight: 1000}))
			open := tr.send(sparkHead("Config"))
			gauge := open.call.(relay.Gauge)
			refused := func(method string, header ...string) (limit string) {
				s := tr.send(sparkHead(method, header...))
				reason, limit, retry := overLimit(t, s)
				if reason != "" && (reason != "BYTES_EXHAUSTED" || retry.GetRetryDelay().AsDuration() <= 0) {
					t.Errorf("read %q, retry %v", reason, retry)
				}
				s.finish(relay.Stats{})
				return limit
			}
			gauge.UnderWay(999)
			if limit := refused("Config"); limit != "" {
				t.Errorf("refused below the limit: %s", limit)
			}
			gauge.UnderWay(1)
			for j, who := range callers {
				want := ""
				if j <= i {
					want = "limits." + level.name + "_in_flight"
				}
				if limit := refused("Config", who.header...); limit != want {
					t.Errorf("%s read %q, want %q", who.name, limit, want)
				}
			}
			if limit := refused("Interrupt"); limit != "" {
				t.Errorf("Interrupt was refused: %s", limit)
			}
			gauge.UnderWay(1000)
			if limit := refused("Interrupt"); limit == "" {
				t.Error("twice as many bytes, and Interrupt passes")
			}
			gauge.UnderWay(-1001)
			if limit := refused("Config"); limit != "" {
				t.Errorf("refused when bytes had gone: %s", limit)
			}
			gauge.UnderWay(-999) // as the relay does before the end
			open.finish(relay.Stats{Status: "0"})
			if n := tr.meters.process.inFlight.Load() + tr.meters.process.open.Load(); n != 0 {
				t.Errorf("%d are counted, nothing is open", n)
			}
		})
	}
}

func TestArtifactsHaveAQuota(t *testing.T) {
	tr, clock := newQuotaRouter(t, Quotas{Session: Quota{Artifacts: 1000}})
	message := grpcMessage(slices.Concat(field(1, sparkUUID), field(3, strings.Repeat("x", 400-5-38-3))))
	if len(message) != 400 {
		t.Fatalf("%d bytes", len(message))
	}
	upload := func() (passed int, reply *relay.Reply) {
		s := tr.send(sparkHead("AddArtifacts"))
		defer s.finish(relay.Stats{})
		for range 10 {
			var e relay.Edits
			if v := s.call.Edit(slices.Clone(message), false, &e); v != relay.Pass {
				return passed, e.Reply
			}
			passed++
		}
		return passed, nil
	}
	check := func(want int, says string) {
		t.Helper()
		n, reply := upload()
		if n != want || reasonOf(t, reply) != "ARTIFACTS_EXHAUSTED" {
			t.Fatalf("%d messages passed, then %+v", n, reply)
		}
		st := statusOf(t, reply)
		info, retry := detailsOf(t, st)
		if (retry != nil) != strings.HasSuffix(says, " s") || info.GetMetadata()["limit"] != "limits.session_artifacts" || !strings.Contains(st.GetMessage(), says) {
			t.Errorf("%v", st)
		}
	}
	check(3, "again in 12 minutes") // 1,200 of 1,000 bytes: the fourth finds it overdrawn by 200
	check(0, "again in 12 minutes")
	tr.live.Sweep()
	tr.live.Sweep()
	check(0, "again in 12 minutes") // the count outlives the streams
	clock.forward(11*time.Minute + 30*time.Second)
	check(0, "again in 30 s") // short enough for clients to wait for it by themselves
	clock.forward(31 * time.Second)
	check(1, "again in")
	clock.forward(3 * time.Hour)
	tr.live.Sweep()
	tr.live.Sweep()
	if tr.live.Streams(aliceSession) != 0 || len(tr.meters.owners) != 0 {
		t.Error("a session that has been silent for hours is kept")
	}
	check(3, "again in")
}

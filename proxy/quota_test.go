package proxy

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
)

// hand is a clock that goes on when it is told to.
type hand struct {
	mu sync.Mutex
	t  time.Time
}

func newHand() *hand { return &hand{t: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }

func (h *hand) now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.t
}

func (h *hand) forward(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.t = h.t.Add(d)
}

const (
	aliceTwo     = "s-00000000000000000000alice2"  // her second session
	aliceMore    = "alice.other.token"             // a second token for the first one
	carolSession = "s-0000000000000000000000carol" // of another organisation
)

// newQuotaRouter has Alice with two sessions and two tokens for one of them, and Bob.
func newQuotaRouter(t *testing.T, q Quotas) (*testRouter, *hand) {
	t.Helper()
	clock := newHand()
	tr := newTestRouter(t, func(c *RouterConfig) { c.Quotas, c.Now = q, clock.now })
	tr.tokens.known[aliceMore] = &auth.Identity{Kind: auth.KindSession, Subject: "alice", Org: "acme", Session: aliceSession, TokenID: "j3"}
	tr.tokens.known["alice.second.session"] = &auth.Identity{Kind: auth.KindSession, Subject: "alice", Org: "acme", Session: aliceTwo, TokenID: "j4"}
	tr.tokens.known["carol.token"] = &auth.Identity{Kind: auth.KindSession, Subject: "carol", Org: "other", Session: carolSession, TokenID: "j5"}
	for id, who := range map[sessions.ID]ownerKey{aliceTwo: {"acme", "alice"}, bobSession: {"acme", "bob"}, carolSession: {"other", "carol"}} {
		tr.registry.set(id, sessions.NewRoute(sessions.Session{ID: id, Owner: who.subject, Org: who.org, State: sessions.Active}, tr.cluster))
	}
	return tr, clock
}

// Who calls, from the nearest of the same token to a stranger.
var callers = []struct {
	name   string
	header []string
}{
	{"token", nil},
	{"session", []string{"authorization: Bearer " + aliceMore}},
	{"owner", []string{"authorization: Bearer alice.second.session", "x-session-id: " + aliceTwo}},
	{"org", []string{"authorization: Bearer " + bobToken, "x-session-id: " + bobSession}},
	{"process", []string{"authorization: Bearer carol.token", "x-session-id: " + carolSession}},
}

// quotaOf bounds one level alone.
func quotaOf(level string, q Quota) (all Quotas) {
	*map[string]*Quota{"token": &all.Token, "session": &all.Session, "owner": &all.Owner, "org": &all.Org, "process": &all.Process}[level] = q
	return all
}

// overLimit reads a refusal past a limit; "" where the stream passed.
func overLimit(t *testing.T, s *fakeStream) (reason, limit string, retry *errdetails.RetryInfo) {
	t.Helper()
	if s.reply == nil {
		return "", "", nil
	}
	st := statusOf(t, s.reply)
	info, retry := detailsOf(t, st)
	if limit = info.GetMetadata()["limit"]; limit == "" || !strings.Contains(st.GetMessage(), limit) {
		t.Errorf("limit %q, message %q", limit, st.GetMessage())
	}
	return info.GetReason(), limit, retry
}

func TestStreamsHaveAQuota(t *testing.T) {
	for i, level := range callers {
		t.Run(level.name, func(t *testing.T) {
			tr, _ := newQuotaRouter(t, quotaOf(level.name, Quota{Streams: 3}))
			var open []*fakeStream
			for range 3 {
				open = append(open, tr.send(sparkHead("Config")))
			}
			for j, who := range callers {
				s := tr.send(sparkHead("Config", who.header...))
				reason, limit, retry := overLimit(t, s)
				if j > i { // shares nothing that is full
					if reason != "" {
						t.Errorf("%s was refused: %s", who.name, reason)
					}
					open = append(open, s)
					continue
				}
				if reason != "STREAMS_EXHAUSTED" || limit != "limits."+level.name+"_streams" || retry.GetRetryDelay().AsDuration() <= 0 {
					t.Errorf("%s read %q, limit %q, retry %v", who.name, reason, limit, retry)
				}
			}
			// What ends streams passes; but not without end.
			for range 6 - 3 {
				s := tr.send(sparkHead("Interrupt"))
				if s.backend == nil {
					t.Errorf("Interrupt was refused: %v", s.reply)
				}
				open = append(open, s)
			}
			if level.name == "token" {
				if reason, _, _ := overLimit(t, tr.send(sparkHead("Interrupt"))); reason != "STREAMS_EXHAUSTED" {
					t.Errorf("the seventh stream read %q", reason)
				}
			}
			for _, s := range open {
				s.finish(relay.Stats{Status: "0"})
			}
			s := tr.send(sparkHead("Config"))
			if s.backend == nil {
				t.Error("refused once all had ended")
			}
			s.finish(relay.Stats{})
			if n := tr.meters.process.open.Load(); n != 0 {
				t.Errorf("%d streams are counted, none is open", n)
			}
		})
	}
}

func TestRequestsHaveAQuota(t *testing.T) {
	for i, level := range callers {
		t.Run(level.name, func(t *testing.T) {
			tr, clock := newQuotaRouter(t, quotaOf(level.name, Quota{Requests: 4}))
			config := func(header ...string) *fakeStream {
				s := tr.send(sparkHead("Config", header...))
				s.finish(relay.Stats{Status: "0"})
				return s
			}
			for n := range 40 {
				if s := config(); s.reply != nil {
					t.Fatalf("number %d of the burst was refused", n)
				}
			}
			for j, who := range callers {
				reason, limit, retry := overLimit(t, config(who.header...))
				if (reason != "") != (j <= i) {
					t.Errorf("%s read %q", who.name, reason)
				}
				if reason != "" && (reason != "RATE_LIMITED" || limit != "limits."+level.name+"_requests" || retry == nil) {
					t.Errorf("%s read %q, limit %q, retry %v", who.name, reason, limit, retry)
				}
			}
			// What frees memory is not refused by the rate of the others, nor does it count.
			for _, m := range []string{"ReleaseExecute", "ReleaseSession", "Interrupt", "GetStatus", "ReattachExecute"} {
				for range 100 {
					s := tr.send(sparkHead(m))
					if s.backend == nil {
						t.Fatalf("%s was refused", m)
					}
					s.finish(relay.Stats{Status: "0"})
				}
			}
			// The delay is true: a moment before it there is no room, and then there is.
			_, _, retry := overLimit(t, config())
			clock.forward(retry.GetRetryDelay().AsDuration() - time.Nanosecond)
			if s := config(); s.reply == nil {
				t.Error("let in before the time that it was told")
			}
			clock.forward(time.Nanosecond)
			if s := config(); s.reply != nil {
				t.Error("refused after the time that it was told")
			}
			clock.forward(time.Minute)
			for n := range 40 {
				if s := config(); s.reply != nil {
					t.Fatalf("number %d was refused after a pause", n)
				}
			}
			if s := config(); s.reply == nil {
				t.Error("a long pause saves up more than the burst")
			}
		})
	}
}

// What frees memory has a rate of its own. A flood of it is refused with a hint, takes
// nothing from the other requests, and whoever stops sending it may again.
func TestFreeingHasARateOfItsOwn(t *testing.T) {
	for i, level := range callers {
		for _, c := range []struct{ requests, burst int }{{4, 10_000}, {1_000, 40_000}} {
			t.Run(fmt.Sprint(level.name, " ", c.requests), func(t *testing.T) {
				tr, clock := newQuotaRouter(t, quotaOf(level.name, Quota{Requests: c.requests}))
				send := func(method string, header ...string) *fakeStream {
					s := tr.send(sparkHead(method, header...))
					s.finish(relay.Stats{Status: "0"})
					return s
				}
				for n := range c.burst {
					if s := send([]string{"ReleaseSession", "ReattachExecute"}[n%2]); s.backend == nil {
						t.Fatalf("number %d was refused", n)
					}
				}
				for j, who := range callers {
					reason, limit, retry := overLimit(t, send("ReleaseSession", who.header...))
					if (reason != "") != (j <= i) {
						t.Errorf("%s read %q", who.name, reason)
					}
					if reason != "" && (reason != "RATE_LIMITED" || limit != "limits."+level.name+"_requests" || retry == nil) {
						t.Errorf("%s read %q, limit %q, retry %v", who.name, reason, limit, retry)
					}
				}
				for range 10 * c.requests {
					if s := send("Config"); s.reply != nil {
						t.Fatal("a flood of what frees took the room of other requests")
					}
				}
				if n := tr.meters.process.open.Load(); n != 0 {
					t.Errorf("%d streams are counted, none is open", n)
				}
				_, _, retry := overLimit(t, send("Interrupt"))
				clock.forward(retry.GetRetryDelay().AsDuration())
				if s := send("Interrupt"); s.backend == nil {
					t.Error("refused after the time that it was told")
				}
			})
		}
	}
}

// A refusal at one level is not counted at those below it.
func TestRefusedRequestsCountNowhere(t *testing.T) {
	tr, clock := newQuotaRouter(t, Quotas{Token: Quota{Requests: 2}, Owner: Quota{Requests: 1, Streams: 1}})
	for range 1000 {
		tr.send(sparkHead("Config")).finish(relay.Stats{})
	}
	clock.forward(5 * time.Second) // 10 of the token's 20, 5 of the owner's 10
	passed := 0
	for range 100 {
		s := tr.send(sparkHead("Config"))
		if s.backend != nil {
			passed++
		}
		s.finish(relay.Stats{})
	}
	s := tr.live.session(aliceSession)
	if lacks := s.tokens["j1"].rate.lacks(tr.meters.at(clock.now()), int64(requestBurst-5*time.Second)); passed != 5 || lacks > 0 {
		t.Errorf("%d passed, and the token lacks %v", passed, lacks)
	}
	if n := s.tokens["j1"].open.Load() + tr.meters.process.open.Load(); n != 0 {
		t.Errorf("%d streams are counted, none is open", n)
	}
}

// Clients follow a RetryInfo on ExecutePlan with ReattachExecute, which Sail
// answers with an error that ends the query. So the operation is remembered.
func TestPlanPastALimitComesAgain(t *testing.T) {
	const operation = "00000000-1111-4222-8333-444444444444"
	plan := grpcMessage(slices.Concat(field(1, sparkUUID), userContext("alice"), field(6, operation)))
	edit := func(s *fakeStream, body []byte, end bool) *relay.Reply {
		var e relay.Edits
		if v := s.call.Edit(body, end, &e); v != relay.Cut {
			t.Fatalf("verdict %v", v)
		}
		if e.Used() != len(body) {
			t.Errorf("%d of %d bytes are accounted for", e.Used(), len(body))
		}
		return e.Reply
	}
	for reason, q := range map[string]Quota{"RATE_LIMITED": {Requests: 1}, "STREAMS_EXHAUSTED": {Streams: 10}, "BYTES_EXHAUSTED": {InFlight: 1000}} {
		t.Run(reason, func(t *testing.T) {
			tr, _ := newQuotaRouter(t, Quotas{Session: q})
			for range 10 {
				s := tr.send(sparkHead("Config"))
				s.call.(relay.Gauge).UnderWay(100)
			}
			s := tr.send(sparkHead("ExecutePlan"))
			if s.backend != tr.nowhere {
				t.Fatalf("it went to %v, reply %+v", s.backend, s.reply)
			}
			reply := edit(s, plan, false)
			if _, retry := detailsOf(t, statusOf(t, reply)); reasonOf(t, reply) != reason || retry == nil {
				t.Errorf("%s, retry %v", reasonOf(t, reply), retry)
			}
			s.finish(relay.Stats{Status: "8"})
			if !tr.unstarted.Take(tr.tokens.known[aliceToken], aliceSession, []byte(operation)) {
				t.Error("the operation is not remembered as one that never started")
			}
			// Without the id there must be no RetryInfo.
			s = tr.send(sparkHead("ExecutePlan"))
			reply = edit(s, plan[:20], true)
			if _, retry := detailsOf(t, statusOf(t, reply)); reasonOf(t, reply) != reason || retry != nil {
				t.Errorf("half a plan: %s, retry %v", reasonOf(t, reply), retry)
			}
			s.finish(relay.Stats{Status: "8"})
			if n := tr.live.session(aliceSession).meter.open.Load(); n != 10 {
				t.Errorf("%d streams are counted, 10 are open", n)
			}
		})
	}
}

// Plans that are read only to be refused are bounded too.
func TestPlansPastALimitAreBounded(t *testing.T) {
	tr, _ := newQuotaRouter(t, Quotas{Session: Quota{Streams: 2}})
	var open []*fakeStream
	for range 4 {
		s := tr.send(sparkHead("ExecutePlan"))
		if s.backend == nil {
			t.Fatal("refused")
		}
		open = append(open, s)
	}
	s := tr.send(sparkHead("ExecutePlan"))
	if _, retry := detailsOf(t, statusOf(t, s.reply)); s.backend != nil || reasonOf(t, s.reply) != "STREAMS_EXHAUSTED" || retry != nil {
		t.Errorf("got %+v", s.reply)
	}
	for _, s := range open {
		s.finish(relay.Stats{})
	}
}

// Artifacts are counted for all whom an upload belongs to.
func TestArtifactsOfEachLevel(t *testing.T) {
	for i, level := range callers {
		t.Run(level.name, func(t *testing.T) {
			tr, clock := newQuotaRouter(t, quotaOf(level.name, Quota{Artifacts: 1000}))
			message := grpcMessage(slices.Concat(field(1, sparkUUID), field(3, strings.Repeat("x", 2000))))
			limitOf := func(header []string) string {
				s := tr.send(sparkHead("AddArtifacts", header...))
				defer s.finish(relay.Stats{})
				var e relay.Edits
				if s.call.Edit(slices.Clone(message), false, &e) != relay.Cut {
					return "" // it passes, or waits for its Spark session to be bound
				}
				info, _ := detailsOf(t, statusOf(t, e.Reply))
				return info.GetMetadata()["limit"]
			}
			if limit := limitOf(nil); limit != "" {
				t.Fatalf("the first upload is past %s", limit)
			}
			for j, who := range callers {
				want := "limits." + level.name + "_artifacts"
				if j > i {
					want = "" // shares nothing that is full
				}
				if limit := limitOf(who.header); limit != want {
					t.Errorf("%s is past %q, want %q", who.name, limit, want)
				}
			}
			clock.forward(3 * time.Hour)
			if limit := limitOf(nil); limit != "" {
				t.Errorf("hours later: past %s", limit)
			}
		})
	}
}

func TestMetersAreForgotten(t *testing.T) {
	tr, _ := newQuotaRouter(t, Quotas{})
	for n := range 3 * maxTokenMeters {
		name := fmt.Sprint("alice.token.", n)
		tr.tokens.known[name] = &auth.Identity{Kind: auth.KindSession, Subject: "alice", Org: "acme", Session: aliceSession, TokenID: name}
		tr.send(sparkHead("Config", "authorization: Bearer "+name)).finish(relay.Stats{})
	}
	open := tr.send(sparkHead("Config", callers[2].header...))
	if n := len(tr.live.session(aliceSession).tokens); n > maxTokenMeters {
		t.Errorf("%d tokens of a session are counted", n)
	}
	if n := len(tr.meters.owners); n != 1 || tr.meters.owners[ownerKey{"acme", "alice"}].sessions != 2 {
		t.Errorf("%d owners", n)
	}
	for range 2 {
		tr.live.Sweep()
	}
	if n := tr.meters.owners[ownerKey{"acme", "alice"}].sessions; n != 1 {
		t.Errorf("%d sessions of Alice are counted, one has a stream", n)
	}
	open.finish(relay.Stats{})
	for range 2 {
		tr.live.Sweep()
	}
	if len(tr.meters.owners) != 0 {
		t.Error("an owner without sessions is kept")
	}
}

func TestQuotasCostNothing(t *testing.T) {
	const plenty = 1 << 20
	q := Quota{Streams: plenty, Requests: plenty}
	tr := newTestRouter(t, func(c *RouterConfig) {
		q.Artifacts = plenty
		c.Quotas = Quotas{Token: q, Session: q, Owner: q, Org: q, Process: q}
	})
	s := &discardStream{header: sparkHead("Config")}
	n := testing.AllocsPerRun(1000, func() {
		tr.route(s)
		s.call.Done(relay.Stats{Status: "0"})
	})
	if s.call == nil || n > 1 {
		t.Errorf("%v allocations", n)
	}
}

// However the streams interleave, no more than the quota are open, and in the end none.
func TestMeterUnderContention(t *testing.T) {
	const most = 8
	var up, down meter
	up.init(Quota{Streams: most}, "owner", nil)
	down.init(Quota{Streams: most + 1, Requests: 1 << 30}, "session", &up)
	var group sync.WaitGroup
	var mu sync.Mutex
	open, peak := 0, 0
	for range 16 {
		group.Go(func() {
			for range 2000 {
				if down.enter(0, asksMore).limit != "" {
					continue
				}
				mu.Lock()
				open++
				peak = max(peak, open)
				mu.Unlock()
				mu.Lock()
				open--
				mu.Unlock()
				down.leave()
			}
		})
	}
	group.Wait()
	if peak > most || up.open.Load() != 0 || down.open.Load() != 0 {
		t.Errorf("peak %d, left %d and %d", peak, up.open.Load(), down.open.Load())
	}
}

func TestNegativeQuotasAreRefused(t *testing.T) {
	for _, c := range callers {
		for _, q := range []Quota{{Streams: -1}, {Requests: -1}} {
			cfg := RouterConfig{Verifier: &fakeTokens{}, Resolver: &fakeRegistry{}, Live: NewLive(), Engines: noDial, Quotas: quotaOf(c.name, q)}
			if _, err := NewRouter(cfg); err == nil {
				t.Errorf("%s: %+v was taken", c.name, q)
			}
		}
	}
}

package proxy

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
)

// reattachablePlan is an ExecutePlan as clients from 3.5 on send it.
func reattachablePlan() []byte {
	options := appendMessage(nil, 1, protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1))
	m := appendMessage(appendText(nil, 1, sparkUUID), 5, options)
	return grpcFrame(appendText(m, 6, operationID))
}

func appendMessage(b []byte, field protowire.Number, m []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), m)
}

func analyzeFrame() []byte { return grpcFrame(appendText(nil, 1, sparkUUID)) }

// PySpark from 3.5 and the JVM client reattach after UNAVAILABLE, 3.4 runs the
// plan again and keeps the rows it has; nobody repeats after ABORTED.
func TestBroken(t *testing.T) {
	lost := errors.New("connection reset")
	var (
		unreached = relay.Break{Err: lost}
		unsent    = relay.Break{Err: lost, Dialed: true}
		sent      = relay.Break{Err: lost, Dialed: true, Sent: true}
		refused   = relay.Break{Err: relay.ErrGoAway, Dialed: true, Sent: true}
		tooLong   = relay.Break{Err: relay.ErrMessageTooLong, Dialed: true, Sent: true, Headers: true, Data: true}
		answered  = relay.Break{Err: lost, Dialed: true, Sent: true, Headers: true, Data: true}
	)
	for _, tc := range []struct {
		name   string
		method string
		body   []byte
		whole  bool
		b      relay.Break
		reason string
		code   codes.Code
		after  bool // ReattachExecute is told to send the plan again
	}{
		{"unary, no engine", "AnalyzePlan", analyzeFrame(), true, unreached, "ENGINE_UNREACHABLE", codes.Unavailable, false},
		{"unary, not sent", "AnalyzePlan", analyzeFrame(), true, unsent, "ENGINE_UNREACHABLE", codes.Unavailable, false},
		{"unary, sent", "AnalyzePlan", analyzeFrame(), true, sent, "ENGINE_LOST", codes.Aborted, false},
		{"unary, half sent", "AnalyzePlan", analyzeFrame(), false, sent, "ENGINE_UNREACHABLE", codes.Unavailable, false},
		{"upload, not sent", "AddArtifacts", analyzeFrame(), false, unsent, "ENGINE_UNREACHABLE", codes.Unavailable, false},
		{"upload, half sent", "AddArtifacts", analyzeFrame(), false, sent, "ENGINE_LOST", codes.Aborted, false},
		{"plan, no engine", "ExecutePlan", reattachablePlan(), true, unreached, "ENGINE_UNREACHABLE", codes.Unavailable, true},
		{"plan, not sent", "ExecutePlan", reattachablePlan(), true, unsent, "ENGINE_UNREACHABLE", codes.Unavailable, true},
		{"plan, half sent", "ExecutePlan", reattachablePlan(), false, sent, "ENGINE_UNREACHABLE", codes.Unavailable, true},
		{"plan, not sent, operation unknown", "ExecutePlan", planFrame(100, operationID)[:60], false, unreached, "ENGINE_NOT_REACHED", codes.Aborted, false},
		{"plan, sent, reattachable", "ExecutePlan", reattachablePlan(), true, sent, "ENGINE_DISCONNECTED", codes.Unavailable, false},
		{"plan, rows came, reattachable", "ExecutePlan", reattachablePlan(), true, answered, "ENGINE_DISCONNECTED", codes.Unavailable, false},
		{"plan, sent, not reattachable", "ExecutePlan", planFrame(10, operationID), true, sent, "ENGINE_LOST", codes.Aborted, false},
		{"plan, rows came, as from 3.4", "ExecutePlan", planFrame(10, ""), true, answered, "ENGINE_LOST", codes.Aborted, false},
		{"plan, refused unseen", "ExecutePlan", reattachablePlan(), true, refused, "ENGINE_UNREACHABLE", codes.Unavailable, true},
		{"upload, refused unseen", "AddArtifacts", analyzeFrame(), false, refused, "ENGINE_UNREACHABLE", codes.Unavailable, false},
		{"plan, a row too large", "ExecutePlan", reattachablePlan(), true, tooLong, "RESULT_TOO_LARGE", codes.ResourceExhausted, false},
		{"reattach, no engine", "ReattachExecute", reattachFrame(operationID), true, unreached, "ENGINE_UNREACHABLE", codes.Unavailable, false},
		{"reattach, rows came", "ReattachExecute", reattachFrame(operationID), true, answered, "ENGINE_DISCONNECTED", codes.Unavailable, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tr := newTestRouter(t, nil)
			s := tr.send(sparkHead(tc.method))
			s.edit(tc.body, tc.whole)
			reply := s.call.Broken(tc.b)
			s.finish(relay.Stats{Err: lost})
			st := statusOf(t, reply)
			info, retry := detailsOf(t, st)
			if info.GetReason() != tc.reason || codes.Code(st.Code) != tc.code {
				t.Errorf("got %s %s", info.GetReason(), codes.Code(st.Code))
			}
			if retry != nil != (tc.reason == "ENGINE_UNREACHABLE") {
				t.Errorf("retry %v", retry)
			}
			if failed := len(tr.registry.failed) == 1; failed == tc.b.Dialed {
				t.Errorf("failure reported: %v", failed)
			}
			if got := tr.reattachIsDenied(t); got != tc.after {
				t.Errorf("ReattachExecute is told to send again: %v, want %v", got, tc.after)
			}
		})
	}
}

// reattachIsDenied sends a ReattachExecute for operationID.
func (tr *testRouter) reattachIsDenied(t *testing.T) bool {
	t.Helper()
	s := tr.send(sparkHead("ReattachExecute"))
	defer s.finish(relay.Stats{})
	v, e := s.edit(reattachFrame(operationID), true)
	if v == relay.Cut {
		checkSendAgain(t, e.Reply)
	}
	return v == relay.Cut
}

func TestForeignSessionIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tc := range []struct {
			name   string
			err    error
			reason string
		}{
			{"bound elsewhere", sessions.ErrForeignSpark, "SPARK_SESSION_FOREIGN"},
			{"too many", sessions.ErrTooManyBound, "SPARK_SESSIONS_EXHAUSTED"},
			{"closed meanwhile", sessions.ErrClosed, "SESSION_CLOSED"},
			{"registry away", sessions.ErrUnavailable, "REGISTRY_UNAVAILABLE"},
			{"surprise", errors.New("surprise"), "INTERNAL"},
		} {
			tr := newTestRouter(t, nil)
			held := make(chan struct{}) // the answer must not come before the Hold
			tr.registry.bind = func(context.Context, sessions.SparkID) error { <-held; return tc.err }
			s := tr.send(sparkHead("Config"))
			body := grpcFrame(appendText(nil, 1, "ffffffff-4455-6677-8899-aabbccddeeff"))
			v, e := s.edit(body, true)
			close(held)
			if v != relay.Hold {
				t.Fatalf("%s: verdict %v", tc.name, v)
			}
			<-s.decided // resumed
			v, e = s.edit(body[e.Used():], true)
			if v != relay.Cut || reasonOf(t, e.Reply) != tc.reason {
				t.Errorf("%s: verdict %v, reply %+v", tc.name, v, e.Reply)
			}
			s.finish(relay.Stats{})
		}
	})
}

// The first request of a Spark session waits until it is prepared, and hears why
// it can't be; a clone is bound and never prepared.
func TestPreparation(t *testing.T) {
	setup := &sessions.SetupError{Session: aliceSession, Cluster: "spark", What: `catalog "lake"`, Problem: "not found"}
	fresh := "10112233-4455-6677-8899-aabbccddeeff"
	for _, tc := range []struct {
		name, method string
		body         []byte
		err          error
		reason       string
	}{
		{"what the engine does not take", "Config", grpcFrame(appendText(nil, 1, fresh)), setup, "SESSION_SETUP"},
		{"an engine away", "AnalyzePlan", grpcFrame(appendText(nil, 1, fresh)), sessions.ErrEngineAway, "ENGINE_UNREACHABLE"},
		{"an engine away, a plan", "ExecutePlan", freshPlan(10, operationID), sessions.ErrEngineAway, "ENGINE_UNREACHABLE"},
		{"a token refused", "Config", grpcFrame(appendText(nil, 1, fresh)), sessions.ErrRefused, "ENGINE_REFUSED"},
		{"all well", "Config", grpcFrame(appendText(nil, 1, fresh)), nil, ""},
		{"a clone", "CloneSession", grpcFrame(appendText(appendText(nil, 1, sparkUUID), 4, fresh)), errors.New("not to be asked"), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTestRouter(t, nil)
				slowly := func(err error) func(context.Context, sessions.SparkID) error {
					return func(context.Context, sessions.SparkID) error {
						time.Sleep(time.Second) // else it may be done before the stream is held
						return err
					}
				}
				tr.registry.bind, tr.registry.prepare = slowly(nil), slowly(tc.err)
				s := tr.send(sparkHead(tc.method))
				v, e := s.edit(tc.body, true)
				if v != relay.Hold {
					t.Fatalf("verdict %v, want Hold", v)
				}
				<-s.decided
				v, e = s.edit(tc.body[e.Used():], true)
				defer s.finish(relay.Stats{})
				if tc.reason == "" {
					if v != relay.Pass {
						t.Errorf("verdict %v, want Pass", v)
					}
					return
				}
				if v != relay.Cut || reasonOf(t, e.Reply) != tc.reason {
					t.Errorf("verdict %v, %s, want %s", v, reasonOf(t, e.Reply), tc.reason)
				}
			})
		})
	}
}

func TestBodyFaultsAreWorded(t *testing.T) {
	for _, tc := range []struct {
		name   string
		body   []byte
		reason string
	}{
		{"30 compressed", append([]byte{1}, analyzeFrame()[1:]...), "COMPRESSION_UNSUPPORTED"},
		{"29 flag", append([]byte{255}, analyzeFrame()[1:]...), "FRAMING_MALFORMED"},
		{"31 not a UUID", grpcFrame(appendText(nil, 1, "1-1-1-1-1")), "SPARK_SESSION_INVALID"},
		{"32 twice", grpcFrame(appendText(appendText(nil, 1, sparkUUID), 1, sparkUUID)), "MESSAGE_MALFORMED"},
		{"34 missing", grpcFrame(nil), "SPARK_SESSION_INVALID"},
		{"36 empty", nil, "MESSAGE_MISSING"},
		{"two messages", append(analyzeFrame(), analyzeFrame()...), "MESSAGE_EXTRA"},
		{"28 too large", []byte{0, 0, 0, 16, 1}, "MESSAGE_TOO_LARGE"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tr := newTestRouter(t, func(c *RouterConfig) { c.MaxMessage = 4096 })
			s := tr.send(sparkHead("AnalyzePlan"))
			v, e := s.edit(tc.body, true)
			if v != relay.Cut || reasonOf(t, e.Reply) != tc.reason {
				t.Errorf("verdict %v, reply %+v, want %s", v, e.Reply, tc.reason)
			}
			s.finish(relay.Stats{})
		})
	}
}

func TestUserIsStamped(t *testing.T) {
	tr := newTestRouter(t, nil)
	s := tr.send(sparkHead("AnalyzePlan"))
	body := analyzeFrame()
	v, e := s.edit(body, true)
	want := grpcFrame(appendMessage(appendText(nil, 1, sparkUUID), 2, appendText(nil, 1, "alice")))
	if got := e.AppendTo(nil, body); v != relay.Pass || !bytes.Equal(got, want) {
		t.Errorf("verdict %v\ngot  %x\nwant %x", v, got, want)
	}
	s.finish(relay.Stats{})
}

// Clients release an operation when they have its last message, and may end its stream
// only then: it keeps nobody's session busy, whichever end is seen first.
func TestReleasedOperationIsNotDetached(t *testing.T) {
	all := grpcFrame(appendMessage(appendText(appendText(nil, 1, sparkUUID), 3, operationID), 5, nil))
	until := grpcFrame(appendMessage(appendText(appendText(nil, 1, sparkUUID), 3, operationID), 6, nil))
	left := relay.Stats{Client: true, Err: errors.New("the client went")}
	for _, tc := range []struct {
		name         string
		release      []byte
		streamsFirst bool
		want         int
	}{
		{"stream ends last", all, false, 0},
		{"stream ends first", all, true, 0},
		{"a part is released", until, false, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tr := newTestRouter(t, nil)
			plan := tr.send(sparkHead("ExecutePlan"))
			plan.edit(reattachablePlan(), true)
			route := plan.call.(*call).to.route
			release := tr.send(sparkHead("ReleaseExecute"))
			release.edit(tc.release, true)
			if tc.streamsFirst {
				plan.finish(left)
			}
			release.finish(relay.Stats{Status: "0"})
			if !tc.streamsFirst {
				plan.finish(left)
			}
			if n := route.Detached(); n != tc.want {
				t.Errorf("%d operations to come back for, want %d", n, tc.want)
			}
		})
	}
}

// A client that has read a result to its end may end before it releases the operation:
// nothing runs any more then, whatever the stream's own end says of others.
func TestReadOperationIsNotDetached(t *testing.T) {
	ids := slices.Clip(appendText(appendText(appendText(nil, 1, sparkUUID), 12, operationID), 13, "response"))
	complete := appendText(appendMessage(ids, fieldComplete, nil), fieldServer, "server")
	for _, tc := range []struct {
		name    string
		answers [][]byte
		end     relay.Stats
		want    int
	}{
		{"complete", [][]byte{ids, complete}, relay.Stats{Status: "0"}, 0},
		{"Spark ends long streams for the client to reattach", [][]byte{ids, ids}, relay.Stats{Status: "0"}, 1},
		{"nothing came", nil, relay.Stats{Status: "0"}, 1},
		{"complete is not the end", [][]byte{complete, ids}, relay.Stats{Status: "0"}, 1},
		{"the end was not seen", [][]byte{complete, nil}, relay.Stats{Status: "0"}, 1},
		{"its number inside another field", [][]byte{appendMessage(ids, 3, complete)}, relay.Stats{Status: "0"}, 1},
		{"a large message", [][]byte{appendText(bytes.Clone(complete), 2, strings.Repeat("x", 1<<10))}, relay.Stats{Status: "0"}, 1},
		{"cut short", [][]byte{complete[:len(complete)-9]}, relay.Stats{Status: "0"}, 1},
		{"the client went", [][]byte{complete}, relay.Stats{Client: true, Reset: true, Err: errors.New("the client went")}, 1},
		{"the client went, with the end in its window", [][]byte{complete}, relay.Stats{Status: "0", Client: true, Reset: true}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tr := newTestRouter(t, nil)
			plan := tr.send(sparkHead("ExecutePlan"))
			plan.edit(reattachablePlan(), true)
			c := plan.call.(*call)
			if !c.Reads() {
				t.Fatal("it does not read")
			}
			for _, message := range tc.answers {
				c.Read(message)
			}
			plan.finish(tc.end)
			if n := c.to.route.Detached(); n != tc.want {
				t.Errorf("%d operations to come back for, want %d", n, tc.want)
			}
		})
	}
	t.Run("it was detached before", func(t *testing.T) {
		tr := newTestRouter(t, nil)
		plan := tr.send(sparkHead("ExecutePlan"))
		plan.edit(reattachablePlan(), true)
		route := plan.call.(*call).to.route
		plan.finish(relay.Stats{Status: "0"})
		if n := route.Detached(); n != 1 {
			t.Fatalf("%d operations to come back for, want 1", n)
		}
		again := tr.send(sparkHead("ReattachExecute"))
		again.edit(grpcFrame(appendText(appendText(nil, 1, sparkUUID), 3, operationID)), true)
		again.call.(*call).Read(complete)
		again.finish(relay.Stats{Status: "0"})
		if n := route.Detached(); n != 0 {
			t.Errorf("%d operations to come back for, want 0", n)
		}
	})
	t.Run("an older stream of it ends later", func(t *testing.T) {
		tr := newTestRouter(t, nil)
		plan := tr.send(sparkHead("ExecutePlan"))
		plan.edit(reattachablePlan(), true)
		route := plan.call.(*call).to.route
		again := tr.send(sparkHead("ReattachExecute"))
		again.edit(grpcFrame(appendText(appendText(nil, 1, sparkUUID), 3, operationID)), true)
		again.call.(*call).Read(complete)
		again.finish(relay.Stats{Status: "0"})
		plan.finish(relay.Stats{Client: true, Reset: true, Err: errors.New("the client went")})
		if n := route.Detached(); n != 0 {
			t.Errorf("%d operations to come back for, want 0", n)
		}
	})
	t.Run("calls without an operation are not read", func(t *testing.T) {
		tr := newTestRouter(t, nil)
		s := tr.send(sparkHead("AnalyzePlan"))
		s.edit(analyzeFrame(), true)
		if s.call.(*call).Reads() {
			t.Error("it is read")
		}
		s.finish(relay.Stats{Status: "0"})
	})
}

// One line for each stream, with ids and without secrets.
func TestStreamLog(t *testing.T) {
	var out bytes.Buffer
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&out), zap.DebugLevel)
	tr := newTestRouter(t, func(c *RouterConfig) { c.Logger = zap.New(core) })
	s := tr.send(sparkHead("ExecutePlan"))
	s.edit(reattachablePlan(), true)
	s.finish(relay.Stats{Status: "0", In: 7, Out: 9})
	tr.send(sparkHead("Config", "authorization: Bearer forged.secret.token"))
	tr.tokens.fail(aliceToken, errors.New("surprise"))
	tr.send(sparkHead("Config"))
	text := out.String()
	for _, want := range []string{
		`"method":"ExecutePlan"`, `"code":"OK"`, `"session":"` + aliceSession, `"user":"alice"`, `"operation":"` + operationID,
		`"spark_session":"` + sparkUUID, `"in":7`, `"out":9`, `"cluster":"spark"`, `"credential":"authorization"`, `"reason":"TOKEN_INVALID"`, `"error":"surprise"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("missing %s in %s", want, text)
		}
	}
	for _, secret := range []string{aliceToken, "forged.secret", "cluster-secret"} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
	if n := strings.Count(text, "stream ended"); n != 1 {
		t.Errorf("%d lines for one stream", n)
	}
}

func TestStreamLogNamesTheCredential(t *testing.T) {
	for want, change := range map[string][]string{
		"authorization":  {"authentication: Bearer " + aliceToken},
		"authentication": {"authorization:", "authentication: Bearer " + aliceToken},
	} {
		var out bytes.Buffer
		core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&out), zap.InfoLevel)
		tr := newTestRouter(t, func(c *RouterConfig) { c.Logger = zap.New(core) })
		tr.send(sparkHead("Config", change...)).finish(relay.Stats{Status: "0"})
		if text := out.String(); !strings.Contains(text, `"credential":"`+want+`"`) {
			t.Errorf("want %s, logged %s", want, text)
		}
	}
}

func TestStreamLogOffCostsNothing(t *testing.T) {
	var out bytes.Buffer
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&out), zap.InfoLevel)
	tr := newTestRouter(t, func(c *RouterConfig) { c.Logger, c.StreamLevel = zap.New(core), zap.DebugLevel })
	tr.send(sparkHead("Config")).finish(relay.Stats{Status: "0"})
	if out.Len() != 0 {
		t.Errorf("logged %s", out.String())
	}
	tr.send(sparkHead("Config")).finish(relay.Stats{Err: errors.New("reset by peer")})
	if !strings.Contains(out.String(), "reset by peer") {
		t.Error("an engine's failure was not logged")
	}
}

// A frame of an upload is checked, stamped and counted without an allocation,
// wherever in its message it begins.
func TestUploadAllocatesNothing(t *testing.T) {
	tr := newTestRouter(t, func(c *RouterConfig) { c.Quotas.Session.Artifacts = 1 << 40 })
	s := tr.send(sparkHead("AddArtifacts"))
	defer s.finish(relay.Stats{})
	// As PySpark sends a file: messages of some 32 KiB, so frames straddle them.
	const frame = 16 << 10
	message := grpcMessage(slices.Concat(field(1, sparkUUID), userContext("mallory"), field(3, strings.Repeat("x", 32<<10))))
	body := bytes.Repeat(message, 64)
	part := make([]byte, frame)
	var e relay.Edits
	frames, added := 0, 0
	upload := func() {
		for rest := body; len(rest) > 0; frames++ {
			n := copy(part, rest)
			rest = rest[n:]
			e.Reset()
			if v := s.call.Edit(part[:n], false, &e); v != relay.Pass {
				t.Fatalf("verdict %v", v)
			}
			added += e.Used()
		}
	}
	upload()
	if frames < 100 || added != len(body) {
		t.Fatalf("%d frames, %d of %d bytes", frames, added, len(body))
	}
	if n := testing.AllocsPerRun(20, upload); n != 0 {
		t.Errorf("%v allocations for %d frames", n, frames)
	}
}

package proxy

import (
	"bytes"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/sconce-dev/sconce/proto/spark/connect"
	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

const (
	firstEngine  = "aaaaaaaa-0000-4000-8000-000000000000"
	secondEngine = "bbbbbbbb-0000-4000-8000-000000000000"
)

// The numbers are PySpark's, of requests and of answers.
func TestServerIDsFollowPySparksNumbers(t *testing.T) {
	methods, fields := sparkFields(t)
	for name, w := range methods {
		m := sparkMethodsFor(t)[sparkService+name]
		if m.Observed == 0 {
			if _, has := fields[w[2]+".client_observed_server_side_session_id"]; has {
				t.Errorf("%s: the request has an observed id", name)
			}
		} else {
			checkSparkField(t, fields, w[2]+".client_observed_server_side_session_id", int(m.Observed), "string single")
		}
	}
	for answer, m := range map[proto.Message]string{
		&connect.ExecutePlanResponse{}: "ExecutePlan", &connect.AnalyzePlanResponse{}: "AnalyzePlan", &connect.ConfigResponse{}: "Config",
		&connect.AddArtifactsResponse{}: "AddArtifacts", &connect.ArtifactStatusesResponse{}: "ArtifactStatus",
		&connect.InterruptResponse{}: "Interrupt", &connect.ReleaseExecuteResponse{}: "ReleaseExecute",
		&connect.ReleaseSessionResponse{}: "ReleaseSession", &connect.FetchErrorDetailsResponse{}: "FetchErrorDetails",
		&connect.CloneSessionResponse{}: "CloneSession", &connect.GetStatusResponse{}: "GetStatus",
	} {
		field := answer.ProtoReflect().Descriptor().Fields().ByName("server_side_session_id")
		if field == nil || uint32(field.Number()) != sparkMethodsFor(t)[sparkService+m].ServerID {
			t.Errorf("%s: the answer has %v", m, field)
		}
	}
}

// From the second engine on a request names the engine's own id, whatever the
// client said; and where that is not known, says no more than the client.
func TestRequestsNameTheEnginesOwnID(t *testing.T) {
	for _, tc := range []struct{ said, engine, want string }{
		{firstEngine, secondEngine, secondEngine},
		{"", secondEngine, secondEngine},
		{secondEngine, "", secondEngine},
		{"", "", ""},
		{firstEngine, "short", firstEngine},
	} {
		for name, request := range map[string]interface {
			proto.Message
			GetClientObservedServerSideSessionId() string
		}{
			"ExecutePlan": &connect.ExecutePlanRequest{}, "AnalyzePlan": &connect.AnalyzePlanRequest{}, "Config": &connect.ConfigRequest{},
			"AddArtifacts": &connect.AddArtifactsRequest{}, "CloneSession": &connect.CloneSessionRequest{},
		} {
			m := sparkMethodsFor(t)[sparkService+name]
			d := newCarriedDrive(t, m, stampConfig{}, map[sessions.SparkID]string{sparkA: tc.engine})
			body := field(1, sparkA)
			if tc.said != "" {
				body = append(body, field(protowire.Number(m.Observed), tc.said)...)
			}
			d.feed(true, grpcMessage(body))
			d.passes()
			complete, more := d.messages()
			if len(complete) != 1 || more {
				t.Fatalf("%s: %d messages, more %v", name, len(complete), more)
			}
			proto.Reset(request)
			if err := proto.Unmarshal(complete[0], request); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got := request.GetClientObservedServerSideSessionId(); got != tc.want {
				t.Errorf("%s: said %q to an engine that says %q: it reads %q", name, tc.said, tc.engine, got)
			}
		}
	}
}

// An answer names the id that the client knows, from the first request on in which
// the client said it.
func TestAnswersNameTheIDThatTheClientKnows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTestRouter(t, nil)
		route := aliceRoute(tr.cluster).Carry(map[sessions.SparkID]sessions.Carried{sparkUUID: {ServerID: secondEngine}})
		tr.registry.set(aliceSession, route)
		for i, step := range []struct{ said, want string }{
			{"", ""}, {secondEngine, ""}, {firstEngine, firstEngine}, {"", firstEngine},
		} {
			s := tr.send(sparkHead("Config"))
			if got := s.out.Get("grpc-accept-encoding"); got != "identity" {
				t.Errorf("the engine is offered %q", got)
			}
			body := appendText(nil, 1, sparkUUID)
			if step.said != "" {
				body = appendText(body, 8, step.said)
			}
			if v, e := s.edit(grpcFrame(body), true); v != relay.Pass {
				t.Fatalf("verdict %v, %+v", v, e.Reply)
			}
			want := []byte(nil)
			if step.want != "" {
				want = appendText(nil, 4, step.want)
			}
			if got := s.call.(relay.Amender).Suffix(); !bytes.Equal(got, want) {
				t.Errorf("step %s: adds %q, want %q", strconv.Itoa(i), got, want)
			}
			s.finish(relay.Stats{Status: "0"})
		}
	})
}

// While the first engine lives nothing is added, and what the client says is its own.
func TestFirstEngineIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTestRouter(t, nil)
		s := tr.send(sparkHead("Config"))
		message := grpcFrame(appendText(appendText(nil, 1, sparkUUID), 8, firstEngine))
		var e relay.Edits
		s.call.Edit(slices.Clone(message), true, &e)
		if got := s.call.(relay.Amender).Suffix(); got != nil {
			t.Errorf("adds %q", got)
		}
		if got := s.out.Get("grpc-accept-encoding"); got == "identity" {
			t.Error("the engine is offered no compression")
		}
		s.finish(relay.Stats{Status: "0"})
	})
}

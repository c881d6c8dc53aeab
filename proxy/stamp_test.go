package proxy

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sconce-dev/sconce/proto/spark/connect"
	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
	"google.golang.org/protobuf/proto"
)

// stamped is what an engine must read for message m of alice.
func stamped(m []byte) []byte { return slices.Concat(m, userContext("alice")) }

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// executePlan is what PySpark sends, with mallory as the user.
func executePlan(t testing.TB) *connect.ExecutePlanRequest {
	t.Helper()
	return &connect.ExecutePlanRequest{
		SessionId:   sparkA,
		UserContext: &connect.UserContext{UserId: "mallory", UserName: "Mallory"},
		Plan:        &connect.Plan{OpType: &connect.Plan_Root{Root: &connect.Relation{RelType: &connect.Relation_Sql{Sql: &connect.SQL{Query: "SELECT 1"}}}}},
		ClientType:  proto.String("_SPARK_CONNECT_PYTHON spark/4.2.0"),
		RequestOptions: []*connect.ExecutePlanRequest_RequestOption{{
			RequestOption: &connect.ExecutePlanRequest_RequestOption_ReattachOptions{ReattachOptions: &connect.ReattachOptions{Reattachable: true}},
		}},
		OperationId: proto.String(sparkB),
		Tags:        []string{"t1", "t2"},
	}
}

func TestStampReplacesTheUserAndNothingElse(t *testing.T) {
	m := marshal(t, executePlan(t))
	body := grpcMessage(m)
	for _, c := range cuttings(len(body)) {
		for _, how := range []string{"known", "bound at once", "bound later"} {
			for _, apart := range []bool{false, true} { // END_STREAM in a frame of its own
				d := newDrive(t, "ExecutePlan")
				d.known[sparkA] = how == "known"
				d.later = how == "bound later"
				d.feed(!apart, c.cut(body)...)
				if complete, _ := d.messages(); apart && len(complete) > 0 {
					t.Fatalf("%s, %s: the message is complete before the stream's end", c.name, how)
				}
				if apart {
					d.feed(true)
				}
				d.passes()
				if want := grpcMessage(stamped(m)); !bytes.Equal(d.out, want) {
					t.Fatalf("%s, %s: engine reads\n%x\nwant\n%x", c.name, how, d.out, want)
				}
			}
		}
	}
	got := &connect.ExecutePlanRequest{}
	if err := proto.Unmarshal(stamped(m), got); err != nil {
		t.Fatal(err)
	}
	want := executePlan(t)
	want.UserContext.UserId = "alice"
	if !proto.Equal(got, want) {
		t.Errorf("engine reads %v, want %v", got, want)
	}
}

func TestStampSaysWhatTheRequestSaid(t *testing.T) {
	tests := []struct {
		name, method string
		m            []byte
		op           string
		reattachable bool
	}{
		{"ExecutePlan of PySpark", "ExecutePlan", marshal(t, executePlan(t)), sparkB, true},
		{"ExecutePlan of PySpark 3.4", "ExecutePlan", field(1, sparkA), "", false},
		{"ExecutePlan of Go", "ExecutePlan", slices.Concat(field(1, sparkA), reattach(false), field(6, "op")), "op", false},
		{"ExecutePlan, one option of three", "ExecutePlan", slices.Concat(field(1, sparkA), reattach(false), reattach(true), reattach(false)), "", true},
		{"ReattachExecute", "ReattachExecute", slices.Concat(field(1, sparkA), field(3, "op")), "op", true},
		{"ReleaseExecute", "ReleaseExecute", slices.Concat(field(1, sparkA), field(3, "op")), "op", false},
		{"Interrupt", "Interrupt", slices.Concat(field(1, sparkA), field(6, "op")), "op", false},
		{"operation too long to be one", "ReleaseExecute", slices.Concat(field(1, sparkA), field(3, strings.Repeat("o", relay.FollowText+1))), "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDrive(t, tt.method)
			if d.stamp.spark() != "" || d.stamp.operation() != nil {
				t.Error("known before the first byte")
			}
			d.feed(true, grpcMessage(tt.m))
			d.passes()
			if got := string(d.stamp.operation()); got != tt.op {
				t.Errorf("operation %q, want %q", got, tt.op)
			}
			if got := d.stamp.reattachable(); got != tt.reattachable {
				t.Errorf("reattachable %v, want %v", got, tt.reattachable)
			}
			if got := d.stamp.spark(); got != sparkA {
				t.Errorf("spark %q", got)
			}
			if tt.op != "" && !slices.Equal(d.heard, []string{tt.op}) {
				t.Errorf("operates heard %q", d.heard)
			}
		})
	}
}

func TestStampBindsTheFirstUseOnly(t *testing.T) {
	d := newDrive(t, "Config")
	d.feed(true, grpcMessage(field(1, sparkA)))
	if !slices.Equal(d.asked, []sessions.SparkID{sparkA}) {
		t.Errorf("asked to bind %q", d.asked)
	}
	d = newDrive(t, "Config")
	d.known[sparkA] = true
	d.feed(true, grpcMessage(field(1, sparkA)))
	d.passes()
	if d.asked != nil {
		t.Errorf("asked to bind %q, which is bound", d.asked)
	}
}

func TestStampLetsNothingGoBeforeTheSessionIsBound(t *testing.T) {
	d := newDrive(t, "ExecutePlan")
	d.later = true
	plan := strings.Repeat("p", 10_000)
	body := grpcMessage(slices.Concat(field(3, plan), field(1, sparkA), field(4, "late")))
	at := bytes.Index(body, []byte(sparkA)) + len(sparkA)
	for _, b := range body[:at-1] {
		d.feed(false, []byte{b})
		if d.verdict != relay.Wait {
			t.Fatalf("verdict %d before session_id", d.verdict)
		}
	}
	if d.out != nil {
		t.Fatalf("%d bytes went on before session_id", len(d.out))
	}
	d.feed(true, body[at-1:])
	d.passes()
	if len(d.asked) != 1 || d.resumed != 1 {
		t.Errorf("asked %q, resumed %d times", d.asked, d.resumed)
	}
}

func TestStampCutsThroughALargePlan(t *testing.T) {
	d := newDrive(t, "ExecutePlan")
	const pieces, size = 400, 16 << 10
	head := slices.Concat(field(1, sparkA), field(2, ""))
	m := slices.Concat(head, field(3, strings.Repeat("p", pieces*size)))
	body := grpcMessage(m)
	for at := 0; at < len(body); at += size {
		d.feed(false, body[at:min(at+size, len(body))])
		if d.verdict != relay.Pass || len(d.kept) > 0 {
			t.Fatalf("at %d: verdict %d, %d bytes kept", at, d.verdict, len(d.kept))
		}
	}
	d.feed(true)
	d.passes()
	if !bytes.Equal(d.out, grpcMessage(stamped(m))) {
		t.Error("the plan changed")
	}
	if d.maxWait > size {
		t.Errorf("%d bytes were held", d.maxWait)
	}
}

func TestStampStampsEachMessageOfAnUpload(t *testing.T) {
	first := slices.Concat(field(1, sparkA), userContext("mallory"), field(4, "begin"))
	second := slices.Concat(field(1, sparkA), field(5, strings.Repeat("chunk", 50)))
	third := field(1, sparkA)
	body := slices.Concat(grpcMessage(first), grpcMessage(second), grpcMessage(third))
	want := slices.Concat(grpcMessage(stamped(first)), grpcMessage(stamped(second)), grpcMessage(stamped(third)))
	for _, c := range cuttings(len(body)) {
		for _, later := range []bool{false, true} {
			d := newDrive(t, "AddArtifacts")
			d.later = later
			d.feed(false, c.cut(body)...)
			if !bytes.Equal(d.out, want) {
				t.Fatalf("%s: engine reads\n%x\nwant\n%x", c.name, d.out, want)
			}
			d.feed(true)
			d.passes()
			if len(d.asked) != 1 {
				t.Fatalf("%s: asked %q", c.name, d.asked)
			}
		}
	}
}

func TestStampBindsTheCloneToo(t *testing.T) {
	tests := map[string]struct {
		m     []byte
		clone sessions.SparkID
	}{
		"named by the client":        {slices.Concat(field(1, sparkA), userContext("mallory"), field(4, sparkB)), sparkB},
		"named before session_id":    {slices.Concat(field(4, sparkB), field(1, sparkA)), sparkB},
		"left to the server":         {slices.Concat(field(1, sparkA), field(3, "python")), sparkC},
		"a clone of the same name":   {slices.Concat(field(1, sparkA), field(4, sparkA)), sparkA},
		"nothing but the session_id": {field(1, sparkA), sparkC},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			body := grpcMessage(tt.m)
			want := grpcMessage(slices.Concat(tt.m, field(4, string(tt.clone)), userContext("alice")))
			for _, c := range cuttings(len(body)) {
				for _, later := range []bool{false, true} {
					d := newDrive(t, "CloneSession")
					d.later = later
					d.feed(true, c.cut(body)...)
					d.passes()
					if !bytes.Equal(d.out, want) {
						t.Fatalf("%s: engine reads\n%x\nwant\n%x", c.name, d.out, want)
					}
					if !slices.Equal(d.asked, []sessions.SparkID{sparkA, tt.clone}) {
						t.Fatalf("%s: asked %q", c.name, d.asked)
					}
				}
			}
		})
	}
}

func TestStampDoesNotCloneIntoAForeignSession(t *testing.T) {
	for _, later := range []bool{false, true} {
		d := newDrive(t, "CloneSession")
		d.later = later
		d.foreign[sparkB] = sessions.ErrForeignSpark
		d.feed(true, grpcMessage(slices.Concat(field(1, sparkA), field(4, sparkB))))
		if d.verdict != relay.Cut || !errors.Is(d.fault, sessions.ErrForeignSpark) {
			t.Errorf("verdict %d, fault %v", d.verdict, d.fault)
		}
		if complete, _ := d.messages(); len(complete) > 0 {
			t.Error("the engine has the message")
		}
	}
}

// The answer may come on any goroutine at any moment of the Edit that asks.
func TestStampHearsAnAnswerFromElsewhere(t *testing.T) {
	for range 300 {
		h := &elsewhere{drive: newDrive(t, "Config"), resumed: make(chan struct{}, 1)}
		h.stamp.host = h
		p, e := grpcMessage(field(1, sparkA)), &relay.Edits{}
		v := h.stamp.Edit(p, true, e)
		out := e.AppendTo(nil, p[:e.Used()])
		if v == relay.Hold {
			<-h.resumed
			rest := p[e.Used():]
			e.Reset()
			v = h.stamp.Edit(rest, true, e)
			out = e.AppendTo(out, rest)
		}
		h.answers.Wait()
		if v != relay.Pass || !bytes.Equal(out, grpcMessage(stamped(field(1, sparkA)))) {
			t.Fatalf("verdict %d, engine reads %x", v, out)
		}
	}
}

// elsewhere answers from a goroutine of its own.
type elsewhere struct {
	*drive
	answers sync.WaitGroup
	resumed chan struct{}
}

func (h *elsewhere) sparkBind(_ sessions.SparkID, answer func(error)) {
	h.answers.Go(func() { answer(nil) })
}

func (h *elsewhere) resume() { h.resumed <- struct{}{} }

func TestStampAllocatesNothing(t *testing.T) {
	d := newDrive(t, "ExecutePlan")
	d.known[sparkA] = true
	d.heard = make([]string, 0, 1<<12)
	body := grpcMessage(slices.Concat(field(1, sparkA), userContext("mallory"), field(3, "plan"), reattach(true)))
	p := make([]byte, len(body))
	cfg, user, m := d.stamp.cfg, d.stamp.user, d.stamp.method
	var s stamp
	n := testing.AllocsPerRun(1000, func() {
		copy(p, body)
		d.edits.Reset()
		s = stamp{}
		s.begin(cfg, user, m, d)
		if v := s.Edit(p, true, &d.edits); v != relay.Pass {
			t.Fatalf("verdict %d", v)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations for a message", n)
	}
}

func TestStampUserRefusesNoName(t *testing.T) {
	for _, subject := range []string{"", "\xff"} {
		if _, err := newStampUser(subject); err == nil {
			t.Errorf("%q accepted", subject)
		}
	}
}

func TestStampOfALongName(t *testing.T) {
	name := strings.Repeat("ü", 150)
	user, err := newStampUser(name)
	if err != nil {
		t.Fatal(err)
	}
	got := &connect.ConfigRequest{}
	if err := proto.Unmarshal(slices.Concat(field(1, sparkA), user.tail), got); err != nil {
		t.Fatal(err)
	}
	if got.GetUserContext().GetUserId() != name {
		t.Errorf("engine reads %q", got.GetUserContext().GetUserId())
	}
}

func BenchmarkStamp(b *testing.B) {
	d := newDrive(b, "ExecutePlan")
	d.known[sparkA] = true
	body := grpcMessage(slices.Concat(field(1, sparkA), userContext("mallory"), field(3, "a plan of forty bytes or a little more")))
	p := make([]byte, len(body))
	cfg, user, m := d.stamp.cfg, d.stamp.user, d.stamp.method
	var s stamp
	b.ReportAllocs()
	for b.Loop() {
		copy(p, body)
		d.edits.Reset()
		s = stamp{}
		s.begin(cfg, user, m, d)
		s.Edit(p, true, &d.edits)
	}
}

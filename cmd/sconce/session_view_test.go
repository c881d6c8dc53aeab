package main

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	sconcev1 "github.com/sconce-dev/sconce/proto/sconce/v1"
)

// Who looks at a session that failed reads the one way on that there is.
func TestWhatToDo(t *testing.T) {
	for name, tc := range map[string]struct {
		session *sconcev1.Session
		want    string
	}{
		"active":   {&sconcev1.Session{State: sconcev1.Session_ACTIVE}, ""},
		"idle":     {&sconcev1.Session{State: sconcev1.Session_IDLE, Wakeable: true}, ""},
		"failed":   {&sconcev1.Session{State: sconcev1.Session_FAILED, Generation: 1}, "close it and create a new one, by `sconce session close s-1` and `sconce session create`"},
		"wakeable": {&sconcev1.Session{State: sconcev1.Session_FAILED, Generation: 1, Wakeable: true}, "run the query again, which wakes it"},
	} {
		tc.session.Id = "s-1"
		if got := sheetRow(t, tc.session, "what to do"); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// A session is idle since then only while it is idle.
func TestIdleSince(t *testing.T) {
	at := timestamppb.New(time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC))
	for state, want := range map[sconcev1.Session_State]string{
		sconcev1.Session_IDLE: "idle since", sconcev1.Session_ACTIVE: "last idle", sconcev1.Session_CLOSED: "last idle",
	} {
		for _, row := range []string{"idle since", "last idle"} {
			got := sheetRow(t, &sconcev1.Session{State: state, IdleTime: at}, row)
			if (got != "") != (row == want) {
				t.Errorf("%s: %s %q", state, row, got)
			}
		}
	}
}

// sheetRow is what the sheet of a session says in that row; "" = it has none.
func sheetRow(t *testing.T, s *sconcev1.Session, name string) string {
	t.Helper()
	var b strings.Builder
	if err := sessionSheet(&b, viewSession(s)); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

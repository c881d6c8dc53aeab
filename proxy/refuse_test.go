package proxy

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/sconce-dev/sconce/sessions"
)

// Standard clients try again after an UNAVAILABLE, for minutes, so it is said only
// of what passes by itself. A failed session does not.
func TestControlSaysUnavailableOnlyWhereWaitingHelps(t *testing.T) {
	failed := &sessions.FailedError{Session: "s-1", Reason: "lost {id}"}
	cluster := &sessions.ClusterError{Cluster: "lake", Session: "s-1", Reason: "no answer"}
	for _, tc := range []struct {
		err    error
		reason string
		code   codes.Code
	}{
		{sessions.ErrUnavailable, "REGISTRY_UNAVAILABLE", codes.Unavailable},
		{sessions.ErrPending, "SESSION_PENDING", codes.Unavailable},
		{failed, "SESSION_FAILED", codes.FailedPrecondition},
		{fmt.Errorf("issue: %w", failed), "SESSION_FAILED", codes.FailedPrecondition},
		{sessions.ErrFailed, "SESSION_FAILED", codes.FailedPrecondition},
		{cluster, "CLUSTER_NOT_ACTIVE", codes.FailedPrecondition},
		{sessions.ErrClusterNotActive, "SESSION_FAILED", codes.FailedPrecondition},
		{errors.Join(cluster, sessions.ErrUnavailable), "CLUSTER_NOT_ACTIVE", codes.FailedPrecondition},
		{&sessions.LimitError{Limit: sessions.LimitEnginesPerOrg, Max: 3}, "LIMIT_REACHED", codes.ResourceExhausted},
		{&sessions.LimitError{Limit: sessions.LimitTokensPerSession, Max: 3}, "TOKENS_EXHAUSTED", codes.ResourceExhausted},
		{fmt.Errorf("record token: %w", &sessions.LimitError{Limit: sessions.LimitTokensPerOrg, Max: 3}), "TOKENS_EXHAUSTED", codes.ResourceExhausted},
		{&sessions.DrainError{Cluster: "lake"}, "CLUSTER_DRAINING", codes.FailedPrecondition},
		{sessions.ErrNameTaken, "NAME_TAKEN", codes.AlreadyExists},
		{sessions.ErrConflict, "CONFLICT", codes.Aborted},
		{sessions.ErrClosed, "SESSION_CLOSED", codes.FailedPrecondition},
	} {
		t.Run(fmt.Sprint(tc.err), func(t *testing.T) {
			r, ok := RefuseControl(tc.err, "")
			if !ok || r.Reason != tc.reason || r.Code != tc.code || (r.RetryAfter > 0) != (tc.code == codes.Unavailable) {
				t.Errorf("got %v %s %s, retry after %s", ok, r.Reason, r.Code, r.RetryAfter)
			}
			if names.MatchString(r.Message) {
				t.Errorf("%q is not filled in", r.Message)
			}
		})
	}
}

// What is said of a session names it. Whether there is one is not told to who may not
// touch it; who may not do what is about no session is sent to somebody who may.
func TestControlNamesTheSession(t *testing.T) {
	for err, want := range map[error]string{
		sessions.ErrClosed:           "session s-1 is closed",
		sessions.ErrPending:          "`sconce session describe s-1`",
		sessions.ErrClusterNotActive: "`sconce session close s-1`",
		sessions.ErrConflict:         "`sconce session describe s-1`",
		sessions.ErrUnknownToken:     "`sconce token list s-1`",
		&sessions.LimitError{Limit: sessions.LimitTokensPerSession, Max: 3}: "`sconce token revoke s-1`",
		sessions.ErrDenied: "no such session, or it is not yours: only its owner or an admin",
	} {
		r, ok := RefuseControl(fmt.Errorf("call: %w", err), "s-1")
		if !ok || !strings.Contains(r.Message, want) || strings.Contains(r.Message, "<session>") {
			t.Errorf("%v: %q, want %q", err, r.Message, want)
		}
	}
	for err, want := range map[error]string{
		sessions.ErrClosed: "session <session> is closed",
		sessions.ErrDenied: "your token does not allow this: ask an administrator",
	} {
		if r, ok := RefuseControl(err, ""); !ok || !strings.Contains(r.Message, want) {
			t.Errorf("%v of no session: %q, want %q", err, r.Message, want)
		}
	}
}

// A held query that may not have an engine is told by which limit, and clients do not
// ask again by themselves.
func TestEngineLimitIsTold(t *testing.T) {
	err := fmt.Errorf("wake: %w", &sessions.LimitError{Limit: sessions.LimitEnginesPerOwner, Max: 3})
	r, ok := refuseRoute(err, "s-1")
	if want := "the limit engines_per_owner (3) is reached: "; !ok || !strings.HasPrefix(r.Message, want) {
		t.Errorf("%v %q", ok, r.Message)
	}
	info, retry := detailsOf(t, statusOf(t, r.Reply()))
	if info.GetReason() != "LIMIT_REACHED" || info.GetMetadata()["limit"] != "limits.engines_per_owner" || retry != nil {
		t.Errorf("details %v, %v", info, retry)
	}
}

// A drain may last for days: the client of a held query is told so, and not to wait.
func TestDrainIsTold(t *testing.T) {
	for reason, want := range map[string]string{"new disks": "is draining (new disks) and", "": "is draining (no reason is given) and"} {
		r, ok := refuseRoute(fmt.Errorf("wake: %w", &sessions.DrainError{Cluster: "lake", Reason: reason}), "s-1")
		if !ok || r.Reason != "SESSION_CLUSTER_DRAINING" || r.RetryAfter != 0 || !strings.Contains(r.Message, "session s-1 cannot wake, since its cluster lake "+want) {
			t.Errorf("%v %s: %q", ok, r.Reason, r.Message)
		}
	}
}

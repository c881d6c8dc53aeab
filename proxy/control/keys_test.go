package control_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sconce-dev/sconce/auth"
	sconcev1 "github.com/sconce-dev/sconce/proto/sconce/v1"
	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/sessions"
)

// What is done by an API key is said to be, in the log and in the trail, by the key's
// id; the key itself is in neither.
func TestAuditNamesTheKey(t *testing.T) {
	a := start(t)
	made, err := a.keys.CreateKey(a.as(t, "root", "acme", true), &sconcev1.CreateKeyRequest{Subject: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	key := bearer(t, made.GetSecret())
	session, err := a.CreateSession(key, &sconcev1.CreateSessionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.IssueSessionToken(key, &sconcev1.IssueSessionTokenRequest{SessionId: session.GetSession().GetId()}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.DescribeSession(key, &sconcev1.DescribeSessionRequest{SessionId: "s-00000000000000000000000000"}); err == nil {
		t.Error("a session that never was is described")
	}
	via := "key:" + made.GetKey().GetKeyId()
	want := []string{"root key.create done", "ann session.create done " + via, "ann token.issue done " + via, "ann session.describe denied " + via}
	lines := a.log.FilterMessage("audit").All()
	if len(lines) != len(want) || len(a.trail.entries) != len(want) {
		t.Fatalf("%d lines, %d entries, want %d of both", len(lines), len(a.trail.entries), len(want))
	}
	for i, e := range a.trail.entries {
		f := lines[i].ContextMap()
		logged, _ := f["via"].(string)
		for _, got := range []string{
			fmt.Sprint(e.Actor, " ", e.Action, " ", e.Outcome, " ", e.Via), fmt.Sprint(f["actor"], " ", f["action"], " ", f["outcome"], " ", logged),
		} {
			if strings.TrimSpace(got) != want[i] {
				t.Errorf("%d: %s, want %s", i, got, want[i])
			}
		}
		if strings.Contains(fmt.Sprint(e, f), made.GetSecret()) {
			t.Errorf("%d holds the key", i)
		}
	}
}

// principals believe our own tokens and those of an outside issuer, whose keys
// come a moment after they are asked for.
func (a *api) principals(t *testing.T) *auth.Principals {
	t.Helper()
	a.trusted = proxytest.StartOIDC(t, nil)
	var keys *auth.PublishedKeys
	keys = auth.NewPublishedKeys(func() error {
		if len(keys.KeyIDs()) > 0 {
			return auth.ErrUnknownKey
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			if _, err := keys.Replace(a.trusted.JWKS()); err != nil {
				t.Error(err)
			}
		}()
		return &auth.PendingError{Done: done}
	})
	trust := need(auth.NewTrust(auth.TrustConfig{
		Issuer: a.trusted.URL, Audience: "sconce", Keys: keys, AdminRoles: []string{"sconce-admin"},
		Claims: auth.ClaimNames{Org: "org", Roles: "realm_access.roles"},
	}))(t)
	return need(auth.NewPrincipals(a.verifier, trust))(t)
}

// bearer returns a context with that credential.
func bearer(t *testing.T, credential string) context.Context {
	t.Helper()
	return with(t, "authorization", "Bearer "+credential)
}

// One person is the same whatever they come with: a control token, a token of a
// trusted issuer, an API key.
func TestOneOwnerThreeCredentials(t *testing.T) {
	a := start(t)
	token := bearer(t, a.trusted.Token("ann", "acme"))
	made, err := a.CreateSession(token, &sconcev1.CreateSessionRequest{Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	admin := bearer(t, a.trusted.Token("root", "acme", proxytest.Admin()...))
	key, err := a.keys.CreateKey(admin, &sconcev1.CreateKeyRequest{Name: "ci", Subject: "ann", Lifetime: durationpb.New(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if k := key.GetKey(); k.GetSubject() != "ann" || k.GetOrganisation() != "acme" || k.GetCreatedBy() != "root" || k.GetAdmin() {
		t.Errorf("made %v", k)
	}
	for name, ctx := range map[string]context.Context{
		"a control token": a.as(t, "ann", "acme", false), "the issuer's": token, "an API key": bearer(t, key.GetSecret()), "an admin": admin,
	} {
		got, err := a.DescribeSession(ctx, &sconcev1.DescribeSessionRequest{SessionId: made.GetSession().GetId()})
		if err != nil || got.GetSession().GetOwner() != "ann" {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestKeyCalls(t *testing.T) {
	a := start(t)
	admin, ann, bob := a.as(t, "root", "acme", true), a.as(t, "ann", "acme", false), a.as(t, "bob", "acme", false)
	made, err := a.keys.CreateKey(admin, &sconcev1.CreateKeyRequest{Subject: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	key, id := bearer(t, made.GetSecret()), made.GetKey().GetKeyId()
	if _, err := a.ListSessions(key, &sconcev1.ListSessionsRequest{}); err != nil {
		t.Errorf("by the key: %v", err)
	}
	list, err := a.keys.ListKeys(ann, &sconcev1.ListKeysRequest{})
	if err != nil || len(list.GetKeys()) != 1 || list.GetKeys()[0].GetLastUseTime() == nil {
		t.Errorf("ann's keys: %v, %v", list, err)
	}
	_, create := a.keys.CreateKey(ann, &sconcev1.CreateKeyRequest{})
	_, listOrg := a.keys.ListKeys(ann, &sconcev1.ListKeysRequest{Organisation: true})
	_, foreign := a.keys.RevokeKey(bob, &sconcev1.RevokeKeyRequest{KeyId: id})
	_, none := a.keys.RevokeKey(bob, &sconcev1.RevokeKeyRequest{KeyId: "0000000000000000"})
	_, life := a.keys.CreateKey(admin, &sconcev1.CreateKeyRequest{Lifetime: durationpb.New(-time.Hour)})
	_, name := a.keys.CreateKey(admin, &sconcev1.CreateKeyRequest{Name: "a/b"})
	for what, err := range map[string]error{"create by no admin": create, "the organisation's, by no admin": listOrg, "another's": foreign, "none": none} {
		wantRefusal(t, what, err, codes.PermissionDenied)
	}
	if foreign.Error() != none.Error() {
		t.Errorf("a stranger learns that a key exists: %v, or not: %v", foreign, none)
	}
	wantRefusal(t, "a life below zero", life, codes.InvalidArgument)
	wantRefusal(t, "a name with a slash", name, codes.InvalidArgument)

	if revoked, err := a.keys.RevokeKey(ann, &sconcev1.RevokeKeyRequest{KeyId: id}); err != nil || revoked.GetKey().GetRevokeTime() == nil {
		t.Fatalf("revoked: %v, %v", revoked, err)
	}
	secret := made.GetSecret()
	for words, credential := range map[string]string{
		"was revoked":     secret,
		"is damaged":      secret[:len(secret)-1],
		"no such API key": need4(auth.NewAPIKey(strings.NewReader(strings.Repeat("n", 30)))),
	} {
		_, err := a.ListSessions(bearer(t, credential), &sconcev1.ListSessionsRequest{})
		wantRefusal(t, words, err, codes.Unauthenticated)
		if !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), credential) {
			t.Errorf("%v, want %q in it and no key", err, words)
		}
	}
	for range 3 { // as many as the memory takes
		_, err = a.keys.CreateKey(admin, &sconcev1.CreateKeyRequest{})
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.keys.CreateKey(admin, &sconcev1.CreateKeyRequest{})
	if reason, _ := wantRefusal(t, "too many", err, codes.ResourceExhausted); reason != "KEYS_EXHAUSTED" {
		t.Errorf("reason %s", reason)
	}
	a.memory.Fail(sessions.ErrUnavailable)
	_, err = a.ListSessions(bearer(t, secret), &sconcev1.ListSessionsRequest{})
	wantRefusal(t, "registry away", err, codes.Unavailable)
}

func need4(key, _ string, _ auth.KeyHash, err error) string {
	if err != nil {
		panic(err)
	}
	return key
}

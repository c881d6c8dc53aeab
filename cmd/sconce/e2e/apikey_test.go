package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
)

// TestAPIKey: what a person or a job with a key does instead of one with a token. The
// search of all that the run wrote, at its end, is for the key, too.
func TestAPIKey(t *testing.T) {
	w := needs(t)
	g := w.gate
	ask := func(token string, answer any, args ...string) {
		t.Helper()
		out, err := g.run(token, append(args, "--output", "json")...)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(out), answer); err != nil {
			t.Fatalf("sconce %s: %v", args[0], err)
		}
	}
	var admin struct{ Token string }
	ask("", &admin, "token", "control", "--config", g.config, "--subject", "root", "--org", "e2e", "--admin")
	var key struct {
		Secret string
		ID     string `json:"key_id"`
	}
	ask(remember(admin.Token), &key, "key", "create", "--name", "e2e-job", "--subject", "ada", "--ca", g.ca, "--tls")
	remember(key.Secret)
	var made, token struct{ ID, Token string }
	ask(key.Secret, &made, "session", "create", "--cluster", w.sail.cluster, "--ca", g.ca, "--tls")
	ask(key.Secret, &token, "token", "issue", made.ID, "--ca", g.ca, "--tls")
	s := &session{gate: g, ID: made.ID, Owner: "ada", Token: remember(token.Token)}
	if err := s.query(t); err != nil {
		t.Errorf("by a token that the key issued: %v", err)
	}
	byKey := &session{gate: g, ID: made.ID, Owner: "ada", Token: key.Secret}
	refusal(t, byKey.query(t), codes.Unauthenticated, "TOKEN_INVALID", "")
	s.close(t)
	if _, err := g.run(admin.Token, "key", "revoke", key.ID, "--ca", g.ca, "--tls"); err != nil {
		t.Fatal(err)
	}
	if _, err := g.run(key.Secret, "session", "list", "--ca", g.ca, "--tls"); err == nil || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("with a key that was revoked: %v", err)
	}
}

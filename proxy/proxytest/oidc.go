package proxytest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// OIDC is an outside OpenID Connect issuer on loopback, with one key.
type OIDC struct {
	// URL is its iss.
	URL string

	keys   *Keys
	server *httptest.Server
	down   atomic.Bool
	asked  atomic.Int64
}

// StartOIDC serves discovery and keys until the test ends; now may be nil for time.Now.
func StartOIDC(t testing.TB, now func() time.Time) *OIDC {
	t.Helper()
	o := &OIDC{keys: NewKeys(t, now)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		o.answer(w, []byte(JSON(map[string]any{"issuer": o.URL, "jwks_uri": o.URL + "/keys"})))
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		o.asked.Add(1)
		o.answer(w, o.JWKS())
	})
	o.server = httptest.NewUnstartedServer(mux)
	o.URL = "http://" + o.server.Listener.Addr().String() // before it serves: who asks may be another process
	o.server.Start()
	t.Cleanup(o.server.Close)
	return o
}

func (o *OIDC) answer(w http.ResponseWriter, body []byte) {
	if o.down.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body)
}

// Down makes it answer 503, or no longer.
func (o *OIDC) Down(down bool) { o.down.Store(down) }

// Asked is how often its keys were asked for.
func (o *OIDC) Asked() int { return int(o.asked.Load()) }

// JWKS is its keys.
func (o *OIDC) JWKS() []byte {
	point, err := o.keys.private.PublicKey.Bytes()
	o.keys.must(err)
	b, err := json.Marshal(map[string]any{"keys": []map[string]string{{
		"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": o.keys.Key.KeyID(), "x": encode(point[1:33]), "y": encode(point[33:]),
	}}})
	o.keys.must(err)
	return b
}

// Token is an ID token for the audience "sconce", good for an hour, with the
// claims changed by pairs as by Change.
func (o *OIDC) Token(subject, org string, pairs ...any) string {
	now := o.keys.now().Unix()
	claims := map[string]any{
		"iss": o.URL, "aud": []string{"account", "sconce"}, "sub": subject, "org": org, "iat": now, "exp": now + 3600,
		"realm_access": map[string]any{"roles": []string{"user"}},
	}
	return o.keys.Sign(map[string]any{"alg": "ES256", "kid": o.keys.Key.KeyID(), "typ": "JWT"}, Change(claims, pairs...))
}

// Admin changes the claims of a Token to those of an administrator.
func Admin() []any {
	return []any{"realm_access", map[string]any{"roles": []string{"user", "sconce-admin"}}}
}

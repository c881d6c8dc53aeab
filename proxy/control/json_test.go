package control_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap/zapcore"

	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/proxy/control"
	"github.com/sconce-dev/sconce/sessions"
)

// web is the JSON API of an api behind net/http.
type web struct {
	*api
	t      *testing.T
	client *http.Client
	url    string
	token  string // of ann, of acme; "" = none is sent
}

// dress is how a connection speaks.
type dress struct {
	name    string
	h2, tls bool
}

var dresses = []dress{{"HTTP/1.1", false, false}, {"HTTP/2", true, false}, {"HTTP/1.1 TLS", false, true}, {"HTTP/2 TLS", true, true}}

func startWeb(t *testing.T, d dress) *web {
	t.Helper()
	a := start(t)
	handler := need(control.NewJSON(a.service))(t)
	server := httptest.NewUnstartedServer(handler)
	server.Config.Protocols, server.EnableHTTP2 = new(http.Protocols), d.h2
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetHTTP2(d.h2)
	server.Config.Protocols.SetUnencryptedHTTP2(d.h2)
	tr := &http.Transport{Protocols: new(http.Protocols)}
	if d.tls {
		server.StartTLS()
		tr.TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig
	} else {
		server.Start()
	}
	tr.Protocols.SetHTTP1(!d.h2)
	tr.Protocols.SetHTTP2(d.h2)
	tr.Protocols.SetUnencryptedHTTP2(d.h2 && !d.tls)
	t.Cleanup(func() { tr.CloseIdleConnections(); server.Close() })
	return &web{api: a, t: t, client: &http.Client{Transport: tr}, url: server.URL, token: a.control(t, "ann", "acme", false)}
}

// control makes a control token.
func (a *api) control(t *testing.T, subject, org string, admin bool) string {
	t.Helper()
	token, _, err := a.issuer.Issue(auth.Grant{Kind: auth.KindControl, Subject: subject, Org: org, Admin: admin})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// told is an answer.
type told struct {
	*http.Response
	text string
	tree map[string]any
}

// at reads what stands under names, one below the other.
func (a *told) at(names ...string) any {
	var v any = a.tree
	for _, n := range names {
		m, _ := v.(map[string]any)
		v = m[n]
	}
	return v
}

func (a *told) text1(names ...string) string { s, _ := a.at(names...).(string); return s }

// reason is the ErrorInfo's, of the domain sconce.
func (a *told) reason() string {
	details, _ := a.tree["details"].([]any)
	for _, d := range details {
		if m, _ := d.(map[string]any); m["@type"] == "type.googleapis.com/google.rpc.ErrorInfo" && m["domain"] == "sconce" {
			s, _ := m["reason"].(string)
			return s
		}
	}
	return ""
}

// call sends a request; more are header names and values, and a name without a
// value is not sent. With a body it is JSON unless more says otherwise.
func (w *web) call(verb, path, body string, more ...string) *told {
	w.t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(w.t.Context(), verb, w.url+path, r)
	if err != nil {
		w.t.Fatal(err)
	}
	if w.token != "" {
		req.Header.Set("Authorization", "Bearer "+w.token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(more); i += 2 {
		if req.Header.Del(more[i]); more[i+1] != "" {
			req.Header.Set(more[i], more[i+1])
		}
	}
	return w.do(req)
}

func (w *web) do(req *http.Request) *told {
	w.t.Helper()
	resp, err := w.client.Do(req)
	if err != nil {
		w.t.Fatalf("%s %s: %v", req.Method, req.URL.Path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	a := &told{Response: resp, text: string(b)}
	if err := json.Unmarshal(b, &a.tree); err != nil || !bytes.HasSuffix(b, []byte("\n")) && req.URL.Path != "/openapi.json" {
		w.t.Errorf("%s %s: no line of JSON: %v: %q", req.Method, req.URL.Path, err, b)
	}
	h := resp.Header
	if h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" {
		w.t.Errorf("%s %s: header %v", req.Method, req.URL.Path, h)
	}
	if h.Get("Access-Control-Allow-Origin") != "" {
		w.t.Errorf("%s %s: other origins are let in", req.Method, req.URL.Path)
	}
	return a
}

// good is a call that must succeed.
func (w *web) good(verb, path, body string) *told {
	w.t.Helper()
	a := w.call(verb, path, body)
	if a.StatusCode != 200 || len(a.Header.Get("X-Request-Id")) != 36 {
		w.t.Fatalf("%s %s: %s %v %s", verb, path, a.Status, a.Header, a.text)
	}
	return a
}

func TestJSONStory(t *testing.T) {
	for _, d := range dresses {
		t.Run(d.name, func(t *testing.T) {
			w := startWeb(t, d)
			made := w.good("POST", "/v1/sessions", `{"name": "notebook", "request_id": "r1"}`)
			id := made.text1("session", "id")
			if made.text1("session", "state") != "ACTIVE" || made.text1("session", "owner") != "ann" || made.text1("session", "generation") != "1" ||
				made.text1("session", "createTime") == "" || made.at("session", "reason") != "" || made.at("session", "closeTime") != nil {
				t.Errorf("made %s", made.text)
			}
			if again := w.good("POST", "/v1/sessions", `{"name": "notebook", "requestId": "r1"}`); again.text1("session", "id") != id {
				t.Errorf("the same request made another session: %s", again.text)
			}
			if list := w.good("GET", "/v1/sessions?pageSize=1&closed=false&name=notebook", ""); !strings.Contains(list.text, id) {
				t.Errorf("listed %s", list.text)
			}
			if none := w.good("GET", "/v1/sessions?name=other", ""); none.at("sessions") == nil {
				t.Errorf("an empty list is not there: %s", none.text)
			}
			if seen := w.good("GET", "/v1/sessions/"+id, ""); seen.text1("session", "id") != id {
				t.Errorf("described %s", seen.text)
			}
			issued := w.good("POST", "/v1/sessions/"+id+"/tokens", `{"lifetime": "600s", "name": "bi"}`)
			who, err := w.verifier.Verify(issued.text1("token"), auth.KindSession)
			if err != nil || who.Session != id || issued.text1("connectionString") != "sc://sconce.test:8085/;token="+issued.text1("token")+";x-session-id="+id {
				t.Errorf("the token says %+v, %v; the answer %s", who, err, issued.text)
			}
			known := w.good("GET", "/v1/sessions/"+id+"/tokens", "")
			if !strings.Contains(known.text, issued.text1("tokenId")) || strings.Contains(known.text, issued.text1("token")) {
				t.Errorf("tokens %s", known.text)
			}
			ended := w.good("POST", "/v1/sessions/"+id+"/tokens:revoke", `{"token_ids": ["`+issued.text1("tokenId")+`"]}`)
			if !strings.Contains(ended.text, "revokeTime") {
				t.Errorf("revoked %s", ended.text)
			}
			if closed := w.good("POST", "/v1/sessions/"+id+":close", ""); closed.text1("session", "state") != "CLOSED" {
				t.Errorf("closed %s", closed.text)
			}
			if again := w.good("POST", "/v1/sessions/"+id+":close", "{}"); again.text1("session", "closeTime") == "" {
				t.Errorf("closed again %s", again.text)
			}
		})
	}
}

// A list is narrowed by labels, each named with its key; what names none is refused.
func TestJSONListsByLabel(t *testing.T) {
	w := startWeb(t, dresses[0])
	risk := w.good("POST", "/v1/sessions", `{"labels": {"team": "risk", "org/tier": "1"}}`).text1("session", "id")
	arts := w.good("POST", "/v1/sessions", `{"labels": {"team": "arts"}}`).text1("session", "id")
	for query, want := range map[string][]string{
		"labels[team]=risk":                             {risk},
		"labels%5Bteam%5D=arts":                         {arts},
		"labels[team]=risk&labels[org/tier]=1&closed=1": {risk},
		"labels[team]=risk&labels[org/tier]=2":          nil,
	} {
		list := w.good("GET", "/v1/sessions?"+query, "").text
		for _, id := range []string{risk, arts} {
			if strings.Contains(list, id) != slices.Contains(want, id) {
				t.Errorf("%s: listed %s, want %v", query, list, want)
			}
		}
	}
	for _, query := range []string{
		"labels=risk", "labels[]=risk", "labels[team]=a&labels[team]=b", "labels[a][b]=c", "labels[a%0Ab]=c", "labels[team=risk", "label[team]=risk", "name[team]=risk",
	} {
		if got := w.call("GET", "/v1/sessions?"+query, ""); got.StatusCode != 400 || got.reason() == "" {
			t.Errorf("%s: %s %s", query, got.Status, got.text)
		}
	}
}

// What callers of gRPC are refused for, callers of JSON are in the same words.
func TestJSONRefusals(t *testing.T) {
	w := startWeb(t, dresses[0])
	id := w.good("POST", "/v1/sessions", `{"name": "a"}`).text1("session", "id")
	closed := w.good("POST", "/v1/sessions", `{}`).text1("session", "id")
	w.good("POST", "/v1/sessions/"+closed+":close", "")
	bob := "Bearer " + w.control(t, "bob", "acme", false)
	none := "s-034t1qv2i0g6u5p4c3b2a1908g"
	for _, c := range []struct {
		name, verb, path, body string
		more                   []string
		status                 int
		reason, words          string
	}{
		{"no token", "GET", "/v1/sessions", "", []string{"Authorization", ""}, 401, "CONTROL_TOKEN_INVALID", "none was sent"},
		{"another scheme", "GET", "/v1/sessions", "", []string{"Authorization", "Basic eDp5"}, 401, "CONTROL_TOKEN_INVALID", "bearer"},
		{"rubbish", "GET", "/v1/sessions", "", []string{"Authorization", "Bearer x.y.z"}, 401, "CONTROL_TOKEN_INVALID", ""},
		{"not ASCII", "GET", "/v1/sessions", "", []string{"Authorization", "Bearer ä"}, 401, "CONTROL_TOKEN_INVALID", ""},
		{"a session token", "GET", "/v1/sessions", "", []string{"Authorization", "Bearer " + w.sessionToken(t)}, 401, "CONTROL_TOKEN_INVALID", "not a control token"},
		{"metadata of gRPC", "GET", "/v1/sessions", "", []string{"Authorization", "", "Grpc-Metadata-Authorization", "Bearer " + w.token}, 401, "CONTROL_TOKEN_INVALID", "none was sent"},
		{"a token in the query", "GET", "/v1/sessions?access_token=" + w.token, "", []string{"Authorization", ""}, 400, "JSON_INVALID", "access_token"},
		{"a colleague's session", "GET", "/v1/sessions/" + id, "", []string{"Authorization", bob}, 403, "NOT_ALLOWED", "no such session, or it is not yours"},
		{"no such session", "GET", "/v1/sessions/" + none, "", nil, 403, "NOT_ALLOWED", "no such session, or it is not yours"},
		{"no session id", "GET", "/v1/sessions/notebook", "", nil, 400, "ARGUMENT_INVALID", "session_id"},
		{"a name with a slash", "POST", "/v1/sessions", `{"name": "a/b"}`, nil, 400, "ARGUMENT_INVALID", "name"},
		{"a name that is taken", "POST", "/v1/sessions", `{"name": "a"}`, nil, 409, "NAME_TAKEN", ""},
		{"what is for admins", "GET", "/v1/sessions?organisation=true", "", nil, 403, "NOT_ALLOWED", "ask an administrator"},
		{"no such cluster", "POST", "/v1/sessions", `{"cluster": "none"}`, nil, 400, "CLUSTER_UNKNOWN", ""},
		{"a closed session", "POST", "/v1/sessions/" + closed + "/tokens", "{}", nil, 400, "SESSION_CLOSED", "session " + closed + " is closed, and a closed session never reopens"},
		{"an unknown token", "POST", "/v1/sessions/" + id + "/tokens:revoke", `{"tokenIds": ["x"]}`, nil, 404, "TOKEN_UNKNOWN", "`sconce token list " + id + "`"},
	} {
		got := w.call(c.verb, c.path, c.body, c.more...)
		if got.StatusCode != c.status || got.reason() != c.reason || !strings.Contains(got.text1("message"), c.words) {
			t.Errorf("%s: %s %s, want %d %s with %q", c.name, got.Status, got.text, c.status, c.reason, c.words)
		}
		if has := got.Header.Get("WWW-Authenticate") == `Bearer realm="sconce"`; has != (c.status == 401) {
			t.Errorf("%s: WWW-Authenticate %q", c.name, got.Header.Get("WWW-Authenticate"))
		}
		if passed := c.reason != "JSON_INVALID"; passed != (got.Header.Get("X-Request-Id") != "") {
			t.Errorf("%s: request id %q", c.name, got.Header.Get("X-Request-Id"))
		}
	}
	there, not := w.call("GET", "/v1/sessions/"+id, "", "Authorization", bob), w.call("GET", "/v1/sessions/"+none, "", "Authorization", bob)
	// What is sent of it may differ by a space.
	if a, b := there.text1("message"), not.text1("message"); a != b || there.Status != not.Status || len(there.text) != len(not.text) {
		t.Errorf("a stranger learns that a session exists: %s, or not: %s", there.text, not.text)
	}
	w.memory.Fail(sessions.ErrUnavailable)
	if got := w.call("GET", "/v1/sessions/"+id, ""); got.StatusCode != 503 || got.reason() != "REGISTRY_UNAVAILABLE" || got.Header.Get("Retry-After") != "2" {
		t.Errorf("registry away: %s %v %s", got.Status, got.Header, got.text)
	}
}

func TestJSONTwoTokens(t *testing.T) {
	w := startWeb(t, dresses[0])
	req, err := http.NewRequestWithContext(t.Context(), "GET", w.url+"/v1/sessions", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, second := range []string{w.token, "ä"} {
		req.Header["Authorization"] = []string{"Bearer " + w.token, "Bearer " + second}
		if got := w.do(req); got.StatusCode != 400 || got.reason() != "TOKEN_AMBIGUOUS" {
			t.Errorf("%s %s", got.Status, got.text)
		}
	}
}

// The audit log tells JSON from gRPC by nothing, and has the caller's address.
func TestJSONIsAudited(t *testing.T) {
	w := startWeb(t, dresses[0])
	made := w.call("POST", "/v1/sessions", "{}", "X-Sconce-Peer", "192.0.2.7:4711")
	issued := w.good("POST", "/v1/sessions/"+made.text1("session", "id")+"/tokens", "")
	lines := w.log.FilterMessage("audit").FilterLevelExact(zapcore.InfoLevel).All()
	if len(lines) != 2 {
		t.Fatalf("%d lines", len(lines))
	}
	got := lines[0].ContextMap()
	if got["source"] != "192.0.2.7:4711" || got["actor"] != "ann" || got["action"] != "session.create" || got["request_id"] != made.Header.Get("X-Request-Id") {
		t.Errorf("audited %v, the answer %v", got, made.Header)
	}
	for _, l := range lines {
		for k, v := range l.ContextMap() {
			if s, ok := v.(string); ok && (strings.Contains(s, issued.text1("token")) || strings.Contains(s, w.token)) {
				t.Errorf("%s holds a token", k)
			}
		}
	}
}

// The description names the paths there are, and is for everybody.
func TestOpenAPI(t *testing.T) {
	w := startWeb(t, dresses[0])
	w.token = ""
	doc := w.call("GET", "/openapi.json", "")
	paths, _ := doc.at("paths").(map[string]any)
	var list []string
	for p := range paths {
		list = append(list, p)
	}
	slices.Sort(list)
	want := []string{"/v1/sessions", "/v1/sessions/{sessionId}", "/v1/sessions/{sessionId}/tokens", "/v1/sessions/{sessionId}/tokens:revoke", "/v1/sessions/{sessionId}:close"}
	for _, p := range want {
		if !slices.Contains(list, p) {
			t.Errorf("no %s among %v", p, list)
		}
	}
	for p, verbs := range paths {
		for verb := range verbs.(map[string]any) {
			path := strings.ReplaceAll(p, "{sessionId}", "s-034t1qv2i0g6u5p4c3b2a1908g")
			if got := w.call(strings.ToUpper(verb), path, ""); got.StatusCode != 401 {
				t.Errorf("%s %s: %s", verb, path, got.Status)
			}
		}
	}
}

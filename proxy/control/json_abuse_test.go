package control_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/proxy"
	"github.com/sconce-dev/sconce/proxy/control"
	"github.com/sconce-dev/sconce/sessions"
)

// What is no call reaches no session: it is refused with what is wrong.
func TestJSONBadInput(t *testing.T) {
	deep := strings.Repeat(`{"name":`, 10_000)
	many := strings.Repeat("[", 60_000)
	for _, d := range dresses[:2] {
		t.Run(d.name, func(t *testing.T) {
			w := startWeb(t, d)
			id := w.good("POST", "/v1/sessions", `{}`).text1("session", "id")
			one := "/v1/sessions/" + id
			for _, c := range []struct {
				name, verb, path, body string
				more                   []string
				status                 int
				reason, words          string
			}{
				{"no JSON", "POST", "/v1/sessions", `name=a`, nil, 400, "JSON_INVALID", "invalid value name"},
				{"half of it", "POST", "/v1/sessions", `{"name": "a`, nil, 400, "JSON_INVALID", "unexpected"},
				{"more behind it", "POST", "/v1/sessions", `{"name": "a"} {}`, nil, 400, "JSON_INVALID", "unexpected token"},
				{"a list", "POST", "/v1/sessions", `[]`, nil, 400, "JSON_INVALID", "unexpected token ["},
				{"null", "POST", "/v1/sessions", `null`, nil, 400, "JSON_INVALID", "unexpected token null"},
				{"deep objects", "POST", "/v1/sessions", deep, nil, 413, "BODY_TOO_LARGE", "65536"},
				{"less deep objects", "POST", "/v1/sessions", deep[:40_000], nil, 400, "JSON_INVALID", "invalid value for string"},
				{"deep lists", "POST", "/v1/sessions", many, nil, 400, "JSON_INVALID", "unexpected token ["},
				{"an unknown field", "POST", "/v1/sessions", `{"name": "a", "owner": "root"}`, nil, 400, "JSON_INVALID", `unknown field "owner"`},
				{"a field of another case", "POST", "/v1/sessions", `{"Name": "a"}`, nil, 400, "JSON_INVALID", `unknown field "Name"`},
				{"a field twice", "POST", "/v1/sessions", `{"name": "a", "name": "b"}`, nil, 400, "JSON_INVALID", `duplicate field "name"`},
				{"a field in both spellings", "POST", "/v1/sessions", `{"requestId": "a", "request_id": "b"}`, nil, 400, "JSON_INVALID", "duplicate field"},
				{"a number for a name", "POST", "/v1/sessions", `{"name": 1}`, nil, 400, "JSON_INVALID", "invalid value for string"},
				{"broken Unicode", "POST", "/v1/sessions", "{\"name\": \"\xff\"}", nil, 400, "JSON_INVALID", "UTF-8"},
				{"half a surrogate", "POST", "/v1/sessions", `{"name": "\ud800"}`, nil, 400, "JSON_INVALID", ""},
				{"a lifetime without end", "POST", one + "/tokens", `{"lifetime": "1e400s"}`, nil, 400, "JSON_INVALID", "Duration"},
				{"a lifetime beyond Duration", "POST", one + "/tokens", `{"lifetime": "315576000001s"}`, nil, 400, "JSON_INVALID", "Duration"},
				{"the longest Duration", "POST", one + "/tokens", `{"lifetime": "315576000000s"}`, nil, 400, "ARGUMENT_INVALID", "lifetime"},
				{"a lifetime in no unit", "POST", one + "/tokens", `{"lifetime": 600}`, nil, 400, "JSON_INVALID", ""},
				{"another session in the body", "POST", one + "/tokens", `{"sessionId": "s-0"}`, nil, 400, "JSON_INVALID", "stands in the path"},
				{"the same, as in the .proto", "POST", one + ":close", `{"session_id": "s-0"}`, nil, 400, "JSON_INVALID", "stands in the path"},
				{"a body too many", "POST", "/v1/sessions", `{"name": "` + strings.Repeat("a", 64<<10) + `"}`, nil, 413, "BODY_TOO_LARGE", "65536"},
				{"a body with GET", "GET", "/v1/sessions", `{}`, nil, 400, "JSON_INVALID", "there is to be none"},

				{"a form", "POST", "/v1/sessions", `name=a`, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "NOT_JSON", "curl --json"},
				{"no content-type", "POST", "/v1/sessions", `{}`, []string{"Content-Type", ""}, 415, "NOT_JSON", ""},
				{"text", "POST", "/v1/sessions", `{}`, []string{"Content-Type", "text/json"}, 415, "NOT_JSON", "text/json"},
				{"another alphabet", "POST", "/v1/sessions", `{}`, []string{"Content-Type", "application/json; charset=utf-16"}, 415, "NOT_JSON", "utf-16"},
				{"gzip", "POST", "/v1/sessions", "\x1f\x8b", []string{"Content-Encoding", "gzip"}, 415, "NOT_JSON", "gzip"},
				{"a broken content-type", "POST", "/v1/sessions", `{}`, []string{"Content-Type", "application/json; ="}, 415, "NOT_JSON", ""},

				{"an unknown field in the query", "GET", "/v1/sessions?owner=root", "", nil, 400, "JSON_INVALID", "owner"},
				{"the same twice", "GET", "/v1/sessions?name=a&name=b", "", nil, 400, "JSON_INVALID", "name"},
				{"both spellings", "GET", "/v1/sessions?pageSize=1&page_size=2", "", nil, 400, "JSON_INVALID", "page_size"},
				{"a number too large", "GET", "/v1/sessions?pageSize=99999999999", "", nil, 400, "JSON_INVALID", "out of range"},
				{"no number", "GET", "/v1/sessions?pageSize=1e3", "", nil, 400, "JSON_INVALID", "page_size"},
				{"a negative one", "GET", "/v1/sessions?pageSize=-1", "", nil, 400, "ARGUMENT_INVALID", "page_size"},
				{"a broken escape", "GET", "/v1/sessions?name=%zz", "", nil, 400, "JSON_INVALID", "well encoded"},
				{"a query with POST", "POST", "/v1/sessions?name=a", `{}`, nil, 400, "JSON_INVALID", "name"},
				{"the path's field in the query", "GET", one + "?sessionId=s-0", "", nil, 400, "JSON_INVALID", "sessionId"},

				{"no such path", "GET", "/v1/catalogs", "", nil, 404, "PATH_UNKNOWN", "/v1/catalogs"},
				{"no id", "GET", "/v1/sessions/", "", nil, 404, "PATH_UNKNOWN", "openapi"},
				{"a slash too many", "GET", "//v1/sessions", "", nil, 404, "PATH_UNKNOWN", ""},
				{"a slash at the end", "GET", one + "/tokens/", "", nil, 404, "PATH_UNKNOWN", ""},
				{"up and away", "GET", "/v1/sessions/../sessions", "", nil, 404, "PATH_UNKNOWN", ""},
				{"the same in disguise", "GET", "/v1/sessions/%2e%2e", "", nil, 400, "ARGUMENT_INVALID", "session_id"},
				{"a slash in disguise", "GET", one + "%2Ftokens", "", nil, 400, "ARGUMENT_INVALID", "session_id"},
				{"a slash in double disguise", "GET", one + "%252Ftokens", "", nil, 400, "ARGUMENT_INVALID", "session_id"},
				{"a colon in disguise", "POST", one + "%3Aclose", "", nil, 405, "VERB_UNKNOWN", ""},
				{"a name in disguise", "GET", "/v1/%73essions", "", nil, 404, "PATH_UNKNOWN", ""},
				{"nothing at all in an id", "GET", "/v1/sessions/%00", "", nil, 400, "ARGUMENT_INVALID", "session_id"},
				{"another verb behind the colon", "POST", one + ":reopen", "", nil, 404, "PATH_UNKNOWN", ""},
				{"words for people only", "GET", "/v1/%1b%5b31m%E2%80%AE", "", nil, 404, "PATH_UNKNOWN", "/v1/?[31m?"},

				{"DELETE", "DELETE", one, "", nil, 405, "VERB_UNKNOWN", "send GET"},
				{"PUT", "PUT", "/v1/sessions", `{}`, nil, 405, "VERB_UNKNOWN", "send GET or POST"},
				{"GET that would change", "GET", one + ":close", "", nil, 405, "VERB_UNKNOWN", "send POST"},
				{"OPTIONS of a browser", "OPTIONS", "/v1/sessions", "", []string{"Origin", "https://evil.test", "Access-Control-Request-Method", "POST"}, 405, "VERB_UNKNOWN", ""},
				{"TRACE", "TRACE", "/v1/sessions", "", nil, 405, "VERB_UNKNOWN", ""},
				{"another verb in a header", "GET", one + ":close", "", []string{"X-HTTP-Method-Override", "POST"}, 405, "VERB_UNKNOWN", ""},
				{"POST to the description", "POST", "/openapi.json", "", nil, 405, "VERB_UNKNOWN", "send GET"},
			} {
				got := w.call(c.verb, c.path, c.body, c.more...)
				if got.StatusCode != c.status || got.reason() != c.reason || !strings.Contains(got.text1("message"), c.words) {
					t.Errorf("%s: %s %s, want %d %s with %q", c.name, got.Status, got.text, c.status, c.reason, c.words)
				}
				if len(got.text) > 1024 {
					t.Errorf("%s: an answer of %d bytes", c.name, len(got.text))
				}
				if (got.Header.Get("Allow") != "") != (c.status == 405) {
					t.Errorf("%s: Allow %q", c.name, got.Header.Get("Allow"))
				}
			}
			if list := w.good("GET", "/v1/sessions?closed=true", ""); strings.Count(list.text, `"id"`) != 1 {
				t.Errorf("there are more sessions than the one: %s", list.text)
			}
		})
	}
}

// inMemory serves the JSON API on connections that are in memory, so that time can
// be the test's.
func inMemory(t *testing.T, ln net.Listener, h2 bool) *web {
	t.Helper()
	a := startBare(t)
	server := &http.Server{Handler: need(control.NewJSON(a.service))(t), Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(ln) }()
	tr := &http.Transport{Protocols: new(http.Protocols)}
	if memory, ok := ln.(*proxy.Memory); ok {
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return memory.Dial(ctx) }
	}
	tr.Protocols.SetHTTP1(!h2)
	tr.Protocols.SetUnencryptedHTTP2(h2)
	t.Cleanup(func() { tr.CloseIdleConnections(); server.Close(); <-done })
	return &web{api: a, t: t, client: &http.Client{Transport: tr}, url: "http://memory", token: a.control(t, "ann", "acme", false)}
}

// slowBody gives a byte each 0.7 s, for ever: never at the moment in which the answer
// comes, when the connection may end under the write.
type slowBody struct{ end <-chan struct{} }

func (b slowBody) Read(p []byte) (int, error) {
	select {
	case <-time.After(700 * time.Millisecond):
		p[0] = ' '
		return 1, nil
	case <-b.end:
		return 0, io.ErrUnexpectedEOF
	}
}

// A body that does not end is not waited for, and a call that takes longer than a
// body may is not cut.
func TestJSONSlowBody(t *testing.T) {
	for name, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := inMemory(t, proxy.NewMemory("json"), h2)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				for _, verb := range []string{"POST", "GET"} {
					req, err := http.NewRequestWithContext(ctx, verb, w.url+"/v1/sessions", slowBody{ctx.Done()})
					if err != nil {
						t.Fatal(err)
					}
					req.Header.Set("Content-Type", "application/json")
					req.Header.Set("Authorization", "Bearer "+w.token)
					begun := time.Now()
					got, took := w.do(req), time.Since(begun)
					if got.StatusCode != 408 || got.reason() != "BODY_TOO_SLOW" || took < 10*time.Second || took > 11*time.Second {
						t.Errorf("%s: after %s: %s %s", verb, took, got.Status, got.text)
					}
				}
				w.engine.slow = 25 * time.Second
				if got := w.call("POST", "/v1/sessions", "{}"); got.StatusCode != 200 {
					t.Errorf("a slow call: %s %s", got.Status, got.text)
				}
			})
		})
	}
}

// endless is a body of which nothing may be read.
type endless struct{ t *testing.T }

func (b endless) Read([]byte) (int, error) {
	b.t.Error("the body is read")
	return 0, io.EOF
}

func (endless) Close() error { return nil }

// Nothing is held for who shows no credential at all.
func TestJSONReadsNoBodyWithoutACredential(t *testing.T) {
	j := need(control.NewJSON(startBare(t).service))(t)
	for name, header := range map[string]http.Header{
		"none": {}, "another scheme": {"Authorization": {"Basic eDp5"}}, "an empty one": {"Authorization": {"Bearer "}},
		"another field": {"Authentication": {"Bearer x"}}, "two": {"Authorization": {"Bearer x", "Bearer x"}},
	} {
		req := httptest.NewRequest("POST", "/v1/sessions", endless{t})
		header.Set("Content-Type", "application/json")
		req.Header = header
		w := httptest.NewRecorder()
		if j.ServeHTTP(w, req); w.Code != 401 && name != "two" || w.Code != 400 && name == "two" || w.Header().Get("X-Request-Id") == "" {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

// pipes hands out connections without a buffer.
type pipes struct {
	*proxy.Memory
	conns chan net.Conn
}

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

// Who does not read the answer does not hold the connection.
func TestJSONSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := pipes{proxy.NewMemory("json"), make(chan net.Conn, 1)}
		near, far := net.Pipe()
		defer near.Close()
		ln.conns <- far
		close(ln.conns)
		inMemory(t, ln, false)
		if _, err := io.WriteString(near, "GET /openapi.json HTTP/1.1\r\nHost: sconce\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(31 * time.Second)
		answer, err := io.ReadAll(near)
		if err != nil || len(answer) > 4<<10 {
			t.Errorf("after 31 s %d bytes still came, %v", len(answer), err)
		}
	})
}

// What net/http is for: shapes by which one request is to be read as two.
func TestJSONSmuggling(t *testing.T) {
	for name, c := range map[string]struct{ say, status string }{
		"two lengths":           {"Content-Length: 2\r\nContent-Length: 30\r\n\r\n{}", "400"},
		"a length and chunks":   {"Content-Length: 30\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/x HTTP/1.1\r\nHost: x\r\n\r\n", "401 404"}, // the chunks count
		"chunks in disguise":    {"Transfer-Encoding: xchunked\r\n\r\n{}", "501"},
		"chunks twice":          {"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "501"},
		"a space in a name":     {"Content-Length : 2\r\n\r\n{}", "400"},
		"a negative length":     {"Content-Length: -1\r\n\r\n{}", "400"},
		"a chunk without size":  {"Authorization: Bearer x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", "400"},
		"a bare line feed":      {"Authorization: Bearer x\r\nTransfer-Encoding: chunked\r\n\r\n2;\n{}\r\n0\r\n\r\n", "400"},
		"a folded header":       {"Authorization: Bearer\r\n x\r\nContent-Length: 0\r\n\r\n", "401"},
		"a body longer than it": {"Content-Length: 2\r\n\r\n{}GET /v1/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "401 404"},
	} {
		t.Run(name, func(t *testing.T) {
			w := startWeb(t, dresses[0])
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(w.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			if _, err := io.WriteString(conn, "POST /v1/sessions HTTP/1.1\r\nHost: sconce\r\nContent-Type: application/json\r\n"+c.say); err != nil {
				t.Fatal(err)
			}
			if half, ok := conn.(*net.TCPConn); ok {
				_ = half.CloseWrite()
			}
			all, _ := io.ReadAll(conn)
			var got []string
			for line := range strings.SplitSeq(string(all), "\n") {
				if status, ok := strings.CutPrefix(line, "HTTP/1.1 "); ok {
					got = append(got, status[:3])
				}
			}
			if strings.Join(got, " ") != c.status {
				t.Errorf("answered %v, want %s: %s", got, c.status, all)
			}
		})
	}
}

// nobody believes no token.
type nobody struct{}

func (nobody) Verify(string, auth.Kind) (*auth.Identity, error) { return nil, auth.ErrMalformed }

// Whatever comes, without a token nothing is done, and the answer is JSON that
// lays no blame on us.
func FuzzJSON(f *testing.F) {
	service, err := control.New(control.Config{Sessions: &sessions.Manager{}, Verifier: nobody{}, Endpoint: "h:1"})
	if err != nil {
		f.Fatal(err)
	}
	handler, err := control.NewJSON(service)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("POST", "/v1/sessions", "", []byte(`{"name": "a", "requestId": "r"}`))
	f.Add("GET", "/v1/sessions", "pageSize=1&closed=true", []byte(nil))
	f.Add("GET", "/v1/sessions/s-0%2f..", "", []byte(nil))
	f.Add("POST", "/v1/sessions/s-0/tokens", "", []byte(`{"lifetime": "1.5s", "replace": true}`))
	f.Add("POST", "/v1/sessions/s-0/tokens:revoke", "", []byte(`{"tokenIds": ["\ud83d\ude00"], "all": false}`))
	f.Add("POST", "/v1/sessions/s-0:close", "", []byte(nil))
	f.Add("GET", "/openapi.json", "", []byte(nil))
	f.Fuzz(func(t *testing.T, verb, path, query string, body []byte) {
		at, err := url.ParseRequestURI(path)
		if err != nil || !strings.HasPrefix(path, "/") {
			return
		}
		at.RawQuery = query
		req := &http.Request{Method: verb, URL: at, Header: http.Header{"Authorization": {"Bearer x"}, "Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(body))}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, req.WithContext(t.Context()))
		if w.Code == 200 && at.Path == "/openapi.json" {
			return
		}
		if w.Code < 400 || w.Code > 499 || !json.Valid(w.Body.Bytes()) || w.Body.Len() > 2048 {
			t.Errorf("%s %q?%q %q: %d %s", verb, path, query, body, w.Code, w.Body)
		}
	})
}

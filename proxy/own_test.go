package proxy

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

func newOwnTest(t *testing.T, ready *Ready) *Own {
	t.Helper()
	own, err := NewOwn(OwnConfig{Ready: ready, Version: "v1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- own.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ran; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return own
}

// memoryHTTP is a client over the own HTTP server, by HTTP/1.1 or by h2c.
func memoryHTTP(t *testing.T, own *Own, h2 bool) *http.Client {
	t.Helper()
	tr := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return own.DialHTTP(ctx) },
		Protocols:   new(http.Protocols),
	}
	tr.Protocols.SetHTTP1(!h2)
	tr.Protocols.SetUnencryptedHTTP2(h2)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func get(t *testing.T, client *http.Client, url, accept string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestOwnPages(t *testing.T) {
	for name, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			ready := NewReady("redis", "port")
			client := memoryHTTP(t, newOwnTest(t, ready), h2)
			if code, body := get(t, client, "http://sconce/", ""); code != 200 || !strings.Contains(body, "Sconce v1.2.3") {
				t.Errorf("/: %d %q", code, body)
			}
			if code, body := get(t, client, "http://sconce/healthz", ""); code != 200 || body != "ok\n" {
				t.Errorf("/healthz: %d %q", code, body)
			}
			if code, body := get(t, client, "http://sconce/readyz", ""); code != 503 || body != "not ready\nredis\nport\n" {
				t.Errorf("/readyz: %d %q", code, body)
			}
			ready.Met("port")
			ready.Fail("redis", "connection refused")
			ready.Note("issuer https://idp.test", "its keys cannot be fetched")
			code, body := get(t, client, "http://sconce/readyz", "application/json")
			var answer struct {
				Status string
				Unmet  []Unmet
				Notes  []Unmet
			}
			if err := json.Unmarshal([]byte(body), &answer); err != nil {
				t.Fatal(err)
			}
			if code != 503 || answer.Status != "not ready" || !slices.Equal(answer.Unmet, []Unmet{{"redis", ""}}) || answer.Notes != nil || strings.Contains(body, "reason") {
				t.Errorf("/readyz as JSON: %d %s", code, body)
			}
			ready.Met("redis")
			if code, body := get(t, client, "http://sconce/readyz", ""); code != 200 || body != "ok\n" {
				t.Errorf("/readyz when ready: %d %q", code, body)
			}
			if code, _ := get(t, client, "http://sconce/other", ""); code != 404 {
				t.Errorf("/other: %d", code)
			}
		})
	}
}

// The JSON API gets all that begins as it does, as it was written, and who calls.
func TestOwnJSON(t *testing.T) {
	own, err := NewOwn(OwnConfig{Ready: NewReady(), JSON: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s%s%s", r.URL.EscapedPath(), r.Header.Values(PeerHeader), r.Header.Values("X-Sconce-Other"))
	})})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, path, addr, want string }{
		{"by the relay", "/v1/x", "own http", "/v1/x[claimed][x]"},
		{"directly, with a lie", "/v1/x", "192.0.2.1:5", "/v1/x[192.0.2.1:5][]"},
		{"a path that pages would clean", "/v1/../%2e/x", "192.0.2.1:5", "/v1/../%2e/x[192.0.2.1:5][]"},
		{"the description", "/openapi.json", "192.0.2.1:5", "/openapi.json[192.0.2.1:5][]"},
		{"a page", "/healthz", "192.0.2.1:5", "ok\n"},
	} {
		req := httptest.NewRequest("GET", c.path, nil)
		req.RemoteAddr = c.addr
		req.Header.Set(PeerHeader, "claimed")
		req.Header.Set("X-Sconce-Other", "x")
		w := httptest.NewRecorder()
		own.http.Handler.ServeHTTP(w, req)
		if w.Body.String() != c.want {
			t.Errorf("%s: %q, want %q", c.name, w.Body, c.want)
		}
	}
	own.cfg.JSON = nil
	w := httptest.NewRecorder()
	if own.http.Handler.ServeHTTP(w, httptest.NewRequest("GET", "/v1/sessions", nil)); w.Code != 404 {
		t.Errorf("without a JSON API: %d", w.Code)
	}
}

func TestOwnGRPCHealthFollowsReady(t *testing.T) {
	ready := NewReady("port")
	own := newOwnTest(t, ready)
	conn, err := grpc.NewClient("passthrough:///own", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return own.DialGRPC(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	watch, err := healthpb.NewHealthClient(conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	expect := func(want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		for {
			resp, err := watch.Recv()
			if err != nil {
				t.Fatalf("waiting for %s: %v", want, err)
			}
			if resp.Status == want {
				return
			}
		}
	}
	expect(healthpb.HealthCheckResponse_NOT_SERVING)
	ready.Met("port")
	expect(healthpb.HealthCheckResponse_SERVING)
	ready.Fail("drain", "shutting down")
	expect(healthpb.HealthCheckResponse_NOT_SERVING)
}

func TestOwnServesAConnectionOfHTTP1UntilItsEnd(t *testing.T) {
	own := newOwnTest(t, NewReady())
	near, far := memPair(t)
	served := make(chan struct{})
	go func() { own.ServeHTTP1(far); close(served) }()
	r := bufio.NewReader(near)
	for range 2 { // one connection, two requests
		io.WriteString(near, "GET /healthz HTTP/1.1\r\nHost: sconce\r\n\r\n")
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("got %v, %v", resp, err)
		}
		io.Copy(io.Discard, resp.Body)
	}
	select {
	case <-served:
		t.Error("ServeHTTP1 returned with the connection open")
	default:
	}
	near.Close()
	<-served
}

func TestOwnAfterItsEnd(t *testing.T) {
	own, err := NewOwn(OwnConfig{Ready: NewReady()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := own.Run(ctx); err != nil {
		t.Fatal(err)
	}
	_, far := memPair(t)
	own.ServeHTTP1(far) // returns
	if _, err := own.DialHTTP(t.Context()); err == nil {
		t.Error("DialHTTP still connects")
	}
}

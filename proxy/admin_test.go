package proxy

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestAdmin(t *testing.T) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sconce_test", Help: "x"}, func() float64 { return 42 }))
	ready := NewReady("redis")
	ready.Note("issuer https://idp.test", "its keys cannot be fetched")
	admin, err := NewAdmin(AdminConfig{Ready: ready, Metrics: reg})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]struct {
		code int
		text string
	}{
		"/metrics":                       {200, "sconce_test 42"},
		"/healthz":                       {200, "ok"},
		"/readyz":                        {503, "not ready\nredis: starting\nissuer https://idp.test: its keys cannot be fetched\n"},
		"/debug/pprof/":                  {200, "goroutine"},
		"/debug/pprof/goroutine?debug=1": {200, "goroutine profile"},
		"/":                              {404, ""},
	} {
		w := httptest.NewRecorder()
		admin.server.Handler.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != want.code || !strings.Contains(w.Body.String(), want.text) {
			t.Errorf("%s: %d %.200q", path, w.Code, w.Body)
		}
	}
}

func TestAdminServesUntilItsContextEnds(t *testing.T) {
	admin, err := NewAdmin(AdminConfig{Ready: NewReady(), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	ln := NewMemory("admin")
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- admin.Serve(ctx, ln) }()
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return ln.Dial(ctx) },
	}}
	if code, _ := get(t, client, "http://admin/healthz", ""); code != 200 {
		t.Errorf("/healthz: %d", code)
	}
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

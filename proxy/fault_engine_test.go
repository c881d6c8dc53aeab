package proxy_test

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/proxytest/gateway"
	"github.com/sconce-dev/sconce/proxy/relay"
)

// What is wrong with an engine, while people work on it and on another. In each of
// these: each query is whole in the end, none goes to the other engine, and who works
// there notices nothing.

// sick is a fleet whose first engine is behind a way that can be made bad.
type sick struct {
	*fleet
	way     *toxiproxy.Proxy
	address atomic.Pointer[string] // where the way begins
	before  map[*member]int64      // how often people were told to come again before all this
}

func newSick(t *testing.T, limits relay.Limits) *sick {
	t.Helper()
	s := &sick{before: map[*member]int64{}}
	s.fleet = newFleet(t, gateway.Config{Limits: limits, ConnectTimeout: time.Second, Dial: func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", *s.address.Load())
	}})
	s.way = newToxic(t, s.replicas[0].Spark.Addr())
	s.address.Store(&s.way.Listen)
	s.work()
	s.progress(2)
	for _, m := range s.members {
		s.before[m] = m.again.Load()
	}
	return s
}

// suffers: people on the first engine are told to come again, those on the other work on.
func (s *sick) suffers() {
	s.t.Helper()
	for _, m := range s.on(gateway.Cluster) {
		before := m.again.Load()
		s.await("they are told to come again", func() bool { return m.again.Load() > before })
	}
	s.progressOn("second", 5)
}

// over: all is as it was.
func (s *sick) over() {
	s.t.Helper()
	s.progress(5)
	s.end()
	for _, m := range s.on("second") {
		if n := m.again.Load() - s.before[m]; n != 0 {
			s.t.Errorf("people on the other engine were told %d times to come again", n)
		}
	}
	s.checkEngines()
	s.checkOwners()
}

// All connections of the engine break, again and again.
func TestFaultEngineCut(t *testing.T) {
	s := newSick(t, relay.Limits{})
	for range 10 {
		s.replicas[0].Spark.Cut()
		s.progress(1)
	}
	s.over()
}

// The engine is there and says nothing any more, nor does its machine.
func TestFaultEngineHung(t *testing.T) {
	s := newSick(t, relay.Limits{PingAfter: 2 * time.Second, PingTimeout: 5 * time.Second})
	for _, direction := range []string{"upstream", "downstream"} {
		if _, err := s.way.Toxics.AddToxicJson(strings.NewReader(`{"type": "timeout", "stream": "` + direction + `", "attributes": {"timeout": 0}}`)); err != nil {
			t.Fatal(err)
		}
	}
	s.suffers()
	s.way.Toxics.ResetToxics(t.Context())
	s.over()
}

// Something else answers at the engine's address.
func TestFaultEngineSpeaksNonsense(t *testing.T) {
	s := newSick(t, relay.Limits{})
	for _, says := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", strings.Repeat("\x00", 1<<16), "\x16\x03\x01\x02\x00\x01", "",
	} {
		address := nonsense(t, says)
		s.address.Store(&address)
		s.replicas[0].Spark.Cut()
		s.suffers()
	}
	s.address.Store(&s.way.Listen)
	s.over()
}

// nonsense is a server that says one thing to everybody and hangs up.
func nonsense(t *testing.T, says string) string {
	t.Helper()
	ln := proxytest.TCP(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			_, _ = c.Write([]byte(says))
			c.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String()
}

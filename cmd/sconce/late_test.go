package main

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// mute is a way to a Redis whose answers may wait.
type mute struct {
	*storetest.Way

	mu   sync.Mutex
	wait chan struct{} // answers go on when it is closed; nil = at once
}

func newMute(t *testing.T, server string) *mute {
	t.Helper()
	m := &mute{}
	m.Way = storetest.StartWay(t, server, m.held)
	t.Cleanup(m.speak)
	return m
}

func (m *mute) held() bool {
	m.mu.Lock()
	wait := m.wait
	m.mu.Unlock()
	if wait != nil {
		<-wait
	}
	return true
}

func (m *mute) hush() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wait = make(chan struct{})
}

func (m *mute) speak() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.wait != nil {
		close(m.wait)
		m.wait = nil
	}
}

const lateSpark = "6f9619ff-8b86-4d01-b42d-00c04fc964ff"

// A replica that is cut off from Redis lets a plan through, as it may, of a session that
// another one has closed, and of which that has told the engine. When it hears of the
// close it tells the engine again: else the plan would run on there, and nobody could
// reach it.
func TestServeReleasesWhatCameAfterAClose(t *testing.T) {
	plan := proxytest.Message(proxytest.ExecutePlan(lateSpark, "ada", "00112233-4455-4677-8899-aabbccddeeff", true, make([]byte, 1000)))
	for name, before := range map[string]int{"all of the plan": 0, "the end of the plan": len(plan) / 2} {
		t.Run(name, func(t *testing.T) {
			s := startServe(t)
			way := newMute(t, s.redis)
			other := s.beside(way.Addr)
			credentials := s.credentials()
			dial := func(ctx context.Context) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "tcp", other.addr)
			}
			caller := proxytest.NewCaller(t, dial)
			if _, err := caller.Unary(proxytest.With(t.Context(), credentials...), proxytest.SparkService+"Config", proxytest.Request(lateSpark, "ada")); err != nil {
				t.Fatal(err)
			}
			conn, err := dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			s.spark.Script("ExecutePlan", func(x *proxytest.Exchange) error {
				x.Drain()
				return proxytest.Hang()(x)
			})
			client := proxytest.Client(t, conn, proxytest.PeerConfig{})
			call := proxytest.Call(proxytest.SparkService+"ExecutePlan", credentials...)
			var stream uint32
			if before > 0 {
				stream = client.Open(call, false)
				client.Data(stream, false, plan[:before])
				s.spark.WaitCalls(t, "ExecutePlan", 1)
			}
			way.hush()
			s.command("session", "close", "lake")
			await(t, func() bool { return s.released() == 1 }, "the engine to be told of the close")
			if before == 0 {
				stream = client.Open(call, false)
			}
			client.Data(stream, true, plan[before:])
			late := s.spark.WaitCalls(t, "ExecutePlan", 1)[0]
			await(t, func() bool { return late.HalfClosed() }, "the engine to have the plan")
			if n := s.released(); n != 1 {
				t.Errorf("the engine was told %d times before there was anything to tell", n)
			}
			way.speak()
			if got := client.Response(stream); !strings.Contains(got.Header("grpc-message")+got.Trailer("grpc-message"), "closed") {
				t.Errorf("the stream ended with %v", got.Blocks)
			}
			await(t, func() bool { return s.released() == 2 }, "the engine to be told again")
		})
	}
}

// released is how often the engine was told to forget that Spark session.
func (s *served) released() (n int) {
	for _, call := range s.spark.Recorded("ReleaseSession") {
		for _, m := range call.Messages() {
			if proxytest.Field(m, 1) == lateSpark {
				n++
			}
		}
	}
	return n
}

package main

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/sconce-dev/sconce/proxy/proxytest"
)

// mute is a way to a server whose answers may wait.
type mute struct {
	net.Listener
	server string
	links  sync.WaitGroup

	mu   sync.Mutex
	wait chan struct{} // answers go on when it is closed; nil = at once
}

func newMute(t *testing.T, server string) *mute {
	t.Helper()
	m := &mute{Listener: proxytest.TCP(t), server: server}
	m.links.Go(func() {
		for {
			near, err := m.Accept()
			if err != nil {
				return
			}
			m.links.Go(func() { m.link(near) })
		}
	})
	t.Cleanup(func() {
		m.speak()
		m.Close()
		m.links.Wait()
	})
	return m
}

func (m *mute) link(near net.Conn) {
	defer near.Close()
	far, err := net.Dial("tcp", m.server)
	if err != nil {
		return
	}
	defer far.Close()
	m.links.Go(func() {
		_ = copyTo(far, near, func() {})
		far.Close()
	})
	_ = copyTo(near, far, m.held)
}

// copyTo calls before for each piece.
func copyTo(to, from net.Conn, before func()) error {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return err
		}
		before()
		if _, err := to.Write(b[:n]); err != nil {
			return err
		}
	}
}

func (m *mute) held() {
	m.mu.Lock()
	wait := m.wait
	m.mu.Unlock()
	if wait != nil {
		<-wait
	}
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
			other := s.beside(way.Addr().String())
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

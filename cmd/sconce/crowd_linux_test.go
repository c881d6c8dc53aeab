package main

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/sconce-dev/sconce/proxy/proxytest"
)

const (
	crowdSize = 9000
	// crowdEach is what one of them may cost the gateway, all told, in bytes.
	crowdEach = 25 << 10
	// crowdRounds is how many slices are taken at least before anything is judged.
	crowdRounds = 5

	crowdSpark = "6f9619ff-8b86-4d01-b42d-00c04fc964ff"
)

// Nine thousand clients had an answer each and do nothing more. They cost little memory,
// and who comes anew is served at half the speed at least that a replica without them
// has: by the medians of slices that are taken in turn.
func TestCrowdOfIdleConnections(t *testing.T) {
	for name, secure := range map[string]bool{"plaintext": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			s := startServe(t)
			creds := s.credentials()
			crowded, alone := s.process(), s.process()
			visit(t, crowded, secure, creds)
			visit(t, alone, secure, creds)
			before := crowded.resident()
			crowd := gather(t, crowded, secure, creds, room(t))
			var with, without proxytest.Pace
			slowed := func() bool { return !proxytest.Raced && 2*with.Median() < without.Median() }
			for n := 0; n < crowdRounds || n < 6*crowdRounds && slowed(); n++ {
				without.Take(func() { visit(t, alone, secure, creds) })
				with.Take(func() { visit(t, crowded, secure, creds) })
			}
			if slowed() {
				t.Errorf("%v visits beside the crowd, %v without it", with, without)
			}
			each := func() int { return (crowded.resident() - before) / len(crowd.conns) }
			t.Logf("%d connections of %d bytes each; %d visits, %d without them", len(crowd.conns), each(), with.Median(), without.Median())
			await(t, func() bool { return proxytest.Raced || each() <= crowdEach }, "a gateway that gives back what it does not need")
			crowd.leave(t)
		})
	}
}

// room is how many connections there are descriptors for, here and in the gateway. Where
// no number is judged some hundreds do.
func room(t *testing.T) int {
	t.Helper()
	if proxytest.Raced {
		return crowdSize / 20
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Max > crowdSize+1000 {
		return crowdSize
	}
	t.Logf("the row says %d connections, and there are descriptors for %d", crowdSize, limit.Max)
	return int(limit.Max) / 2
}

// visit is one new client with one question.
func visit(t *testing.T, p *process, secure bool, creds []string) {
	t.Helper()
	c := p.caller(secure)
	defer c.Conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), proxytest.Patience)
	defer cancel()
	if _, err := c.Unary(proxytest.With(ctx, creds...), proxytest.SparkService+"Config", proxytest.Request(crowdSpark, "ada")); err != nil {
		t.Fatal(err)
	}
}

// crowd are clients that stay, and answer when they are asked whether they live.
type crowd struct {
	conns []net.Conn
	done  sync.WaitGroup
	left  chan error // why a reader ended
}

func gather(t *testing.T, p *process, secure bool, creds []string, n int) *crowd {
	t.Helper()
	c := &crowd{left: make(chan error, n)}
	t.Cleanup(c.close)
	question := proxytest.Message(proxytest.Request(crowdSpark, "ada"))
	answered := make(chan struct{})
	for range n {
		conn, err := p.dial(t.Context(), secure)
		if err != nil {
			t.Fatal(err)
		}
		c.conns = append(c.conns, conn)
		forgetful(t, conn)
		f := proxytest.NewFoe(conn, true)
		id := f.Open(proxytest.Call(proxytest.SparkService+"Config", creds...), false)
		f.Data(id, true, question)
		if !f.Flush() {
			t.Fatal("a client of the crowd cannot ask")
		}
		c.done.Go(func() { c.left <- listen(conn, answered) })
		select {
		case <-answered:
		case err := <-c.left:
			t.Fatalf("a client of the crowd: %v", err)
		case <-time.After(proxytest.Patience):
			t.Fatal("a client of the crowd has no answer")
		}
	}
	return c
}

// forgetful has the system keep nothing of a connection once it is closed: thousands would
// use up the port numbers for a minute.
func forgetful(t *testing.T, conn net.Conn) {
	t.Helper()
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
}

// listen reads until the connection ends.
func listen(conn net.Conn, answered chan<- struct{}) error {
	framer := http2.NewFramer(conn, conn)
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			return err
		}
		switch f := f.(type) {
		case *http2.HeadersFrame:
			if f.StreamEnded() {
				answered <- struct{}{}
			}
		case *http2.SettingsFrame:
			if !f.IsAck() {
				err = framer.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				err = framer.WritePing(true, f.Data)
			}
		}
		if err != nil {
			return err
		}
	}
}

// leave ends the crowd, all of whom are still there.
func (c *crowd) leave(t *testing.T) {
	t.Helper()
	if gone := len(c.left); gone > 0 {
		t.Errorf("%d connections ended: %v", gone, <-c.left)
	}
	c.close()
}

func (c *crowd) close() {
	for _, conn := range c.conns {
		conn.Close()
	}
	c.done.Wait()
}

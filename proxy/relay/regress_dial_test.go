package relay_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
	"golang.org/x/net/http2"
)

// A connection that ends before the backend's SETTINGS is a failed attempt: the
// next one waits its turn, and streams are answered when ConnectTimeout is over.
func TestBackendThatHangsUpIsNotDialedInAStorm(t *testing.T) {
	const patience = 10 * time.Second
	synctest.Test(t, func(t *testing.T) {
		var dials atomic.Int64
		b, err := relay.NewBackend(relay.BackendConfig{
			Name: "hangs up", ConnectTimeout: patience,
			Dial: func(ctx context.Context) (net.Conn, error) {
				if dials.Add(1) > 1000 {
					<-ctx.Done() // or the storm would never let the clock go on
					return nil, ctx.Err()
				}
				near, far := proxytest.Pipe()
				return near, far.Close() // a balancer without a target
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		r := newRig(t, rigConfig{router: func(_ *rig, s *relay.Stream) {
			w := newWitness()
			w.reply = unavailable("no connection")
			s.Forward(b, s.Header(), w)
		}})
		c := r.client(proxytest.PeerConfig{})
		began := time.Now()
		id := c.Open(proxytest.Call(method), true)
		if got := c.Response(id); got.Header("grpc-status") != "14" {
			t.Errorf("the client read %v", got.Blocks)
		}
		if took := time.Since(began); took > patience+time.Second {
			t.Errorf("answered after %s, the stream was to wait for %s", took, patience)
		}
		// Pauses double from 50 ms to 2 s: a dozen attempts or so in 10 s.
		if n := dials.Load(); n < 2 || n > 30 {
			t.Errorf("%d attempts in %s", n, patience)
		}
	})
}

// One connection that could not be made does not leave all clients on another for as
// long as that lives: later ones have it tried again, and wait for nothing.
func TestBackendDialsAgainBesideAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dials atomic.Int64
		var r *rig
		b, err := relay.NewBackend(relay.BackendConfig{
			Name: "failed once",
			Dial: func(ctx context.Context) (net.Conn, error) {
				if dials.Add(1) == 2 {
					return nil, errors.New("no more files")
				}
				return r.dialPeer(ctx)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		r = newRig(t, rigConfig{router: func(_ *rig, s *relay.Stream) { s.Forward(b, s.Header(), newWitness()) }})
		ask := func() {
			c := r.client(proxytest.PeerConfig{})
			c.Open(proxytest.Call(method), true)
			time.Sleep(time.Second)
		}
		ask()
		one := r.accept(proxytest.PeerConfig{})
		time.Sleep(time.Second)
		ask()
		one.WaitOpened(2)
		if n := dials.Load(); n != 2 {
			t.Fatalf("%d attempts for the second client", n)
		}
		time.Sleep(2 * time.Second)
		ask()
		one.WaitOpened(3) // it did not wait
		r.accept(proxytest.PeerConfig{})
		if n := dials.Load(); n != 3 {
			t.Errorf("%d attempts when the third client had come", n)
		}
	})
}

// A stream does not wait for ever where every connection is full and there may
// be no more of them.
func TestWaitForRoomHasAnEnd(t *testing.T) {
	const patience = 10 * time.Second
	synctest.Test(t, func(t *testing.T) {
		var r *rig
		b, err := relay.NewBackend(relay.BackendConfig{
			Name: "full", ConnectTimeout: patience, MaxConns: 1,
			Dial: func(ctx context.Context) (net.Conn, error) { return r.dialPeer(ctx) },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		r = newRig(t, rigConfig{router: func(_ *rig, s *relay.Stream) { s.Forward(b, s.Header(), newWitness()) }})
		c := r.client(proxytest.PeerConfig{})
		began := time.Now()
		id := c.Open(proxytest.Call(method), true)
		r.accept(proxytest.PeerConfig{Settings: []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 0}}})
		if got := c.Response(id); got.Header("grpc-status") != "14" {
			t.Errorf("the client read %v", got.Blocks)
		}
		if took := time.Since(began); took > patience+time.Second {
			t.Errorf("answered after %s, the stream was to wait for %s", took, patience)
		}
	})
}

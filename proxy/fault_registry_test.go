package proxy_test

import (
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/rs/zerolog"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/proxytest/gateway"
	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// What is wrong with the registry, while people work. In each of these: no request
// reaches another engine than its session's own, no session changes its owner, a
// closed session stays closed, and each query is answered whole.

// under is one fault and what is watched beside the work of the fleet.
type under struct {
	*fleet
	closed, stranger *member
	long             *long
	longs            *member
	callers          []*proxytest.Caller // one for each replica
}

// newUnder begins the work, a stream that lasts, and closes one session; nobody has
// heard of the stranger yet.
func newUnder(t *testing.T, registry gateway.Registry, grace time.Duration, newcomers bool) *under {
	t.Helper()
	logging.Disable()
	u := &under{fleet: newFleet(t, gateway.Config{Registry: &registry, Grace: grace})}
	u.newcomers = newcomers
	u.closed, u.stranger = u.member("owner-1", "second"), u.member("owner-2", "second")
	for _, g := range u.replicas {
		u.callers = append(u.callers, proxytest.NewCaller(t, g.Dial))
	}
	u.work()
	u.long, u.longs = u.openLong()
	u.progress(2)
	for _, c := range u.callers {
		if err := u.closed.query(c, u.closed.spark); err != nil {
			t.Fatal(err)
		}
	}
	u.close(u.closed)
	for _, c := range u.callers {
		u.await("the close is heard of", func() bool { return reason(u.closed.ask(c)) == "SESSION_CLOSED" })
	}
	u.staysClosed()
	return u
}

// close closes a session as often as it takes.
func (u *under) close(m *member) {
	u.t.Helper()
	u.await("the close", func() bool {
		_, err := u.replicas[0].Store.Transition(u.t.Context(), m.id, sessions.CloseAt(time.Now(), ""))
		return err == nil || errors.Is(err, sessions.ErrClosed)
	})
}

// staysClosed: no replica lets anybody into the closed session; and once the
// registry answers, each says why.
func (u *under) staysClosed() {
	u.t.Helper()
	for _, c := range u.callers {
		u.await("the closed session is refused", func() bool {
			err := u.closed.ask(c)
			if err == nil {
				u.t.Error("the closed session is open")
			}
			return err == nil || reason(err) == "SESSION_CLOSED"
		})
	}
}

// outage waits until both replicas tell people of sessions that they do not know to
// come again.
func (u *under) outage() {
	u.t.Helper()
	for _, c := range u.callers {
		u.await("a stranger is told to come again", func() bool {
			err := u.stranger.ask(c)
			return comeAgain(err) && reason(err) == "REGISTRY_UNAVAILABLE"
		})
	}
}

// lasts waits until what was read before the fault is not taken for true any more (2 s).
func (u *under) lasts(since time.Time) {
	u.t.Helper()
	u.await("the fault lasts", func() bool { return time.Since(since) > 3*time.Second })
}

// goesOn: while the registry is as it is, those who are known work on, the stream
// goes on, and the closed session is closed.
func (u *under) goesOn() {
	u.t.Helper()
	u.progress(5)
	u.long.drip(3)
	for _, c := range u.callers {
		if err := u.closed.ask(c); err == nil {
			u.t.Error("the closed session is open")
		}
	}
}

// over: the registry answers again, and everything is as it was.
func (u *under) over() {
	u.t.Helper()
	for _, c := range u.callers {
		u.await("the stranger is let in", func() bool { return u.stranger.ask(c) == nil })
	}
	u.goesOn()
	u.staysClosed()
	u.long.finish()
	u.end()
	u.checkEngines()
	u.checkOwners(u.closed, u.stranger, u.longs)
	for _, m := range u.members {
		u.t.Logf("%s: %d queries, %d times told to come again", m.id, m.done.Load(), m.again.Load())
	}
}

func TestFaultRedisKilled(t *testing.T) {
	dir := t.TempDir()
	keep := []string{"--appendonly", "yes", "--appendfsync", "always", "--dir", dir}
	server := storetest.StartRedis(t, keep...)
	u := newUnder(t, gateway.Registry{Addresses: []string{server.Addr}}, 0, true)
	began := time.Now()
	server.Kill()
	u.outage()
	u.lasts(began)
	u.goesOn()
	storetest.StartRedisAt(t, server.Port(), keep...)
	u.over()
}

func TestFaultRedisHung(t *testing.T) {
	server := storetest.StartRedis(t)
	u := newUnder(t, gateway.Registry{Addresses: []string{server.Addr}}, 0, true)
	began := time.Now()
	if err := server.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	u.outage()
	u.lasts(began)
	u.goesOn()
	if err := server.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	u.over()
}

// An outage that is longer than known sessions go on for: all are told to come again,
// and all of them finish.
func TestFaultRedisAwayForLong(t *testing.T) {
	server := storetest.StartRedis(t)
	u := newUnder(t, gateway.Registry{Addresses: []string{server.Addr}}, 3*time.Second, true)
	if err := server.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for _, m := range u.members {
		u.await("each is told to come again, many times", func() bool { return m.again.Load() > 20 })
	}
	u.long.drip(3)
	if err := server.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	u.over()
}

// Each answer of Redis takes 150 ms, and some connections are reset. Also people of
// whom nobody has heard are let in, at once or when they come again.
func TestFaultRedisSlow(t *testing.T) {
	server := storetest.StartRedis(t)
	way := newToxic(t, server.Addr)
	u := newUnder(t, gateway.Registry{Addresses: []string{way.Listen}, Timeout: time.Second}, 0, true)
	var strangers []*member
	for range 8 {
		strangers = append(strangers, u.member("owner-1", "second"))
	}
	for _, toxic := range []string{
		`{"type": "latency", "stream": "downstream", "attributes": {"latency": 150}}`,
		`{"type": "reset_peer", "stream": "downstream", "toxicity": 0.05, "attributes": {"timeout": 0}}`,
	} {
		if _, err := way.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
			t.Fatal(err)
		}
	}
	for i, m := range strangers {
		u.await("a stranger is let in", func() bool {
			err := m.ask(u.callers[i%2])
			if err != nil && !comeAgain(err) {
				t.Errorf("a stranger reads %v", err)
			}
			return err == nil
		})
		u.goesOn()
	}
	way.Toxics.ResetToxics(t.Context())
	u.over()
}

// newToxic is a way to address on which there may be toxics.
func newToxic(t *testing.T, address string) *toxiproxy.Proxy {
	t.Helper()
	p := toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.New(io.Discard)), "redis", "127.0.0.1:0", address)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

// Redis loses everything: who is known goes on for the grace, then nobody is, and
// nothing of the old is ever back.
func TestFaultRedisEmptied(t *testing.T) {
	server := storetest.StartRedis(t)
	u := newUnder(t, gateway.Registry{Addresses: []string{server.Addr}}, 0, false)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer rdb.Close()
	began := time.Now()
	if err := rdb.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	u.lasts(began)
	for _, c := range u.callers {
		var err error
		u.await("a stranger is told", func() bool { err = u.stranger.ask(c); return !comeAgain(err) })
		if err == nil {
			t.Error("a session that nobody knows any more lets its owner in")
		}
	}
	u.goesOn()
	u.long.finish()
	u.end()
	u.checkEngines()
	for _, m := range append(u.members, u.closed, u.stranger) {
		if list := u.recorded(m); len(list) != 0 {
			t.Errorf("%s is back: %+v", m.id, list)
		}
	}
}

// The master dies, and its sentinel makes the replica the master.
func TestFaultRedisFailsOver(t *testing.T) {
	master := storetest.StartRedis(t)
	replica := storetest.StartRedis(t, "--replicaof", "127.0.0.1 "+master.Port())
	sentinel := storetest.StartSentinel(t, master)
	u := newUnder(t, gateway.Registry{Addresses: []string{sentinel.Addr}, Master: "main"}, 0, true)
	u.await("the replica has all", func() bool { return master.Followed(t.Context(), sentinel) })
	began := time.Now()
	master.Kill()
	u.lasts(began)
	u.goesOn()
	u.over()
	s := redis.NewSentinelClient(&redis.Options{Addr: sentinel.Addr})
	defer s.Close()
	if at, err := s.GetMasterAddrByName(t.Context(), "main").Result(); err != nil || at[1] != replica.Port() {
		t.Errorf("the master is at %v, %v", at, err)
	}
}

// The hash slots of all sessions move from node to node of a Redis Cluster.
func TestFaultRedisResharded(t *testing.T) {
	cluster := storetest.StartRedisCluster(t, 3)
	u := newUnder(t, gateway.Registry{Addresses: cluster.Addrs, Cluster: true}, 0, true)
	for _, m := range append(u.members, u.closed, u.stranger) {
		cluster.Move("sconce:s:{"+string(m.id)+"}", u.goesOn)
	}
	u.over()
}

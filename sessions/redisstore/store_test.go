package redisstore_test

import (
	"cmp"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"

	"github.com/sconce-dev/sconce/sessions/redisstore"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

func TestMain(m *testing.M) {
	logging.Disable() // servers are killed here, and the client would say so
	// The client's dialler to a server that was killed ends up to a second after Close.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// open has patience with Redis; tests that are about its time set Timeout: shipped.
func open(t testing.TB, c redisstore.Config) *redisstore.Store {
	t.Helper()
	c.Timeout = cmp.Or(c.Timeout, patience)
	c.DialTimeout = cmp.Or(c.DialTimeout, c.Timeout)
	c.MaxBound, c.MaxTokens, c.MaxKeys = storetest.MaxBound, storetest.MaxTokens, storetest.MaxKeys
	c.MaxOwned, c.MaxInOrg = storetest.MaxOwned, storetest.MaxInOrg
	c.MaxOwnedTokens, c.MaxOrgTokens = storetest.MaxOwnedTokens, storetest.MaxOrgTokens
	c.MaxOwnedEngines, c.MaxOrgEngines = storetest.MaxOwnedEngines, storetest.MaxOrgEngines
	c.MaxJournal, c.MaxJournals, c.MaxBlobs = storetest.MaxJournal, storetest.MaxJournals, storetest.MaxBlobs
	c.MaxEntries = cmp.Or(c.MaxEntries, storetest.MaxEntries)
	s, err := redisstore.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

const (
	// patience is for stores whose test is not about time: also on a machine that has much
	// else to do they are answered.
	patience = 20 * time.Second
	// shipped is the default of redisstore.Config.
	shipped = 200 * time.Millisecond
)

func TestConformanceMiniredis(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	stop := make(chan struct{})
	var clock sync.WaitGroup
	clock.Go(func() { // its keys expire only when they are told that time passes
		for {
			select {
			case <-time.After(10 * time.Millisecond):
				server.FastForward(10 * time.Millisecond)
			case <-stop:
				return
			}
		}
	})
	t.Cleanup(func() { close(stop); clock.Wait() })
	storetest.Run(t, func(t *testing.T) storetest.Registry {
		return open(t, redisstore.Config{Addresses: []string{server.Addr()}})
	})
}

func TestConformanceRealRedis(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t)
	storetest.Run(t, func(t *testing.T) storetest.Registry {
		return open(t, redisstore.Config{Addresses: []string{server.Addr}})
	})
}

package storetest

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
)

// The ports that servers of tests are given: below those that systems give to
// connections that go out (Linux from 32768, others from 49152), so that none of
// those takes a port between its choice and its use.
const firstPort, ports = 16384, 16384

// nextPort goes round: what was given a moment ago is not given to another. It begins
// anywhere, for tests of other packages run beside these.
var nextPort = func() *atomic.Uint32 {
	var n atomic.Uint32
	n.Store(rand.Uint32N(ports)) //nolint:gosec // no secret
	return &n
}()

// FindPort finds a port of loopback that nobody listens on now.
func FindPort() (int, error) {
	for range ports {
		port := firstPort + int(nextPort.Add(1)%ports)
		ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, ln.Close()
		}
	}
	return 0, errors.New("no port of loopback is free")
}

// FreePort is FindPort for a test.
func FreePort(t testing.TB) string {
	t.Helper()
	port, err := FindPort()
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(port)
}

// FreeAddress is an address of loopback on which nobody listens now.
func FreeAddress(t testing.TB) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", FreePort(t))
}

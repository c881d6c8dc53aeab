package main

import (
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/sconce-dev/sconce/proxy/proxytest"
)

// rewrite changes the configuration file and sends SIGHUP; old must be there.
func (s *served) rewrite(pairs ...string) {
	s.t.Helper()
	text, err := os.ReadFile(s.file)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(string(text), pairs[i]) {
			s.t.Fatalf("no %q in the configuration", pairs[i])
		}
	}
	if err := os.WriteFile(s.file, []byte(strings.NewReplacer(pairs...).Replace(string(text))), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.hangups <- syscall.SIGHUP
}

func (s *served) dial() net.Conn {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	return conn
}

// SIGHUP takes over what may change while it serves, and says what that was.
func TestReload(t *testing.T) {
	s := startServe(t)
	s.rewrite("drain_timeout: 20s", "drain_timeout: 21s\nmax_connection_age: 1s\nlog: {level: debug}")
	s.await(`"msg":"configuration reloaded","changed":["drain_timeout","max_connection_age","log.level"]`)
	// The age holds for connections that come now.
	c := proxytest.Client(t, s.dial(), proxytest.PeerConfig{Lenient: true})
	c.WaitGoAway(2)
	c.WaitClosed()
	// And the level: only debug has a line for a connection that ends so early.
	short := s.dial()
	if _, err := short.Write([]byte{22, 3, 1}); err != nil {
		t.Fatal(err)
	}
	short.Close()
	s.await(`"level":"debug"`)
}

// What cannot be taken over, or is faulty, changes nothing at all, also not what
// stands beside it; once it is mended, all is taken over.
func TestReloadIsRefusedWhole(t *testing.T) {
	s := startServe(t)
	s.rewrite("drain_timeout: 20s", "drain_timeout: 21s\nlog: {level: debug}\nhold_timeout: 7s")
	s.await(`these keys want a restart; restart, or write their former values and send SIGHUP again","keys":["hold_timeout"]`)
	s.rewrite("hold_timeout: 7s", "hold_timeot: 7s")
	s.await(`"msg":"configuration fault","fault":"sconce.yaml:`)
	s.await("hold_timeot")
	if log := s.log.String(); strings.Contains(log, `"level":"debug"`) || strings.Contains(log, "configuration reloaded") {
		t.Errorf("something was taken over:\n%s", log)
	}
	s.rewrite("\nhold_timeot: 7s", "")
	s.await(`"msg":"configuration reloaded","changed":["drain_timeout","log.level"]`)
}

// The process itself catches SIGHUP, which else would end it.
func TestHangups(t *testing.T) {
	caught, silence := hangups()
	defer silence()
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if s := <-caught; s != syscall.SIGHUP {
		t.Errorf("caught %v", s)
	}
}

// A cluster's token is no part of what is said of a reload.
func TestReloadTellsNoValues(t *testing.T) {
	s := startServe(t)
	s.rewrite("  - name: fake\n", "  - name: fake\n    token: a-secret-token\n")
	s.await(`"keys":["clusters"]`)
	if strings.Contains(s.log.String(), "a-secret-token") {
		t.Error("the token of a cluster is in the log")
	}
}

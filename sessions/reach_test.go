package sessions_test

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sconce-dev/sconce/sessions"
)

// say sets what the engine answers to Version.
func (e *engine) say(version string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.version = version
}

// mute has it answer Version by err; nil = as before.
func (e *engine) mute(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.silent = err
}

// told takes how often the engine was asked for its version since the last time.
func (e *engine) told() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := len(e.asked)
	e.asked = nil
	return n
}

// addressTest has a session on cluster "a", which is an address.
type addressTest struct {
	*managerTest
	t *testing.T
	s sessions.Session
}

func inAddressTest(t *testing.T, test func(x *addressTest)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m, _ := clustersTest(t)
		m.engine.say("4.1.0")
		s, err := m.Create(t.Context(), ann, sessions.CreateRequest{Cluster: "a"})
		if err != nil {
			t.Fatal(err)
		}
		test(&addressTest{managerTest: m, t: t, s: s})
	})
}

// tells checks what the cluster and its session show, "-" being an address that does
// not answer, and how often the engine was asked for its version.
func (x *addressTest) tells(version string, asked int) {
	x.t.Helper()
	c, err := x.DescribeCluster(x.t.Context(), bob, "a")
	if err != nil {
		x.t.Fatal(err)
	}
	want, of := map[string]int{version: 1}, version
	if version == "-" {
		want, of = map[string]int{}, ""
	}
	if !maps.Equal(c.Engines, want) {
		x.t.Errorf("the cluster tells %v, want %v", c.Engines, want)
	}
	if got := x.EngineVersion(x.t.Context(), x.s); got != of {
		x.t.Errorf("its session tells %q, want %q", got, of)
	}
	if n := x.engine.told(); n != asked {
		x.t.Errorf("asked %d times, want %d", n, asked)
	}
}

// An address is asked for its version once a minute at most, however many look.
func TestAddressVersion(t *testing.T) {
	inAddressTest(t, func(x *addressTest) {
		x.tells("4.1.0", 1)
		x.engine.say("4.2.0")
		for range 9 {
			time.Sleep(6 * time.Second)
			x.tells("4.1.0", 0)
		}
		time.Sleep(6 * time.Second)
		x.tells("4.2.0", 1)
		if _, err := x.DrainCluster(t.Context(), sessions.Actor{Subject: "op", Org: "acme"}, "a", ""); err != nil {
			t.Fatal(err)
		}
		x.tells("4.2.0", 0)
	})
}

// Whoever looks at a session alone has an address asked no more often than that, and
// not even whether it answers.
func TestSessionVersion(t *testing.T) {
	inAddressTest(t, func(x *addressTest) {
		probes := x.engine.probes
		for range 9 {
			if got := x.EngineVersion(t.Context(), x.s); got != "4.1.0" {
				t.Errorf("got %q", got)
			}
			time.Sleep(6 * time.Second)
		}
		if x.engine.probes != probes+1 || x.engine.told() != 1 {
			t.Errorf("%d probes", x.engine.probes-probes)
		}
		idle, gone := x.s, x.s
		idle.State, gone.Cluster = sessions.Idle, "gone"
		launched := x.s
		launched.Cluster = "c"
		for _, s := range []sessions.Session{idle, gone, launched} {
			if got := x.EngineVersion(t.Context(), s); got != "" {
				t.Errorf("%s on %s tells %q", s.State, s.Cluster, got)
			}
		}
		launched.Engine = &sessions.Instance{Version: "9"}
		if got := x.EngineVersion(t.Context(), launched); got != "9" || x.engine.told() != 0 {
			t.Errorf("a launched engine tells %q", got)
		}
	})
}

// An address that was away is asked anew, and one that does not tell is asked with the
// next probe; of what it says only what may be shown is.
func TestAddressVersionUnknown(t *testing.T) {
	inAddressTest(t, func(x *addressTest) {
		x.tells("4.1.0", 1)
		x.engine.set(errors.New("away"))
		time.Sleep(6 * time.Second)
		x.tells("-", 0)
		x.engine.set(nil)
		x.engine.say("5\x1b[2J" + strings.Repeat("0", 100))
		time.Sleep(6 * time.Second)
		x.tells("5[2J"+strings.Repeat("0", 59), 1)

		x.engine.mute(errors.New("no"))
		time.Sleep(time.Minute)
		x.tells("", 1)
		x.tells("", 0)
		x.engine.mute(nil)
		x.engine.say("5.0.0")
		time.Sleep(6 * time.Second)
		x.tells("5.0.0", 1)
	})
}

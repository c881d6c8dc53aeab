package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sconce-dev/sconce/bench/load"
	"github.com/sconce-dev/sconce/bench/peers"
	"github.com/sconce-dev/sconce/bench/workload"
)

// stage holds what all runs share: programs, backend, certificate, identity.
type stage struct {
	o       options
	dir     string
	backend *peers.Process
	cert    *peers.Certificate
	cast    []actor
	few     *peers.Sconce // nil without Sconce
	many    *peers.Sconce // for W9; nil if it is not wanted
	lost    []error       // what else could not be set up
	target  load.Target
}

// actor is a chosen peer: ready, or missing and why.
type actor struct {
	peer    peers.Peer
	version string
	missing error
}

// bearer is as long as a usual session token, for runs without Sconce.
const bearer = 900

func newStage(ctx context.Context, o options, dir string) (*stage, error) {
	say("building and starting the backend")
	tools, err := peers.Build(ctx, o.module, dir)
	if err != nil {
		return nil, err
	}
	s := &stage{o: o, dir: dir}
	if s.backend, err = peers.StartBackend(ctx, tools); err != nil {
		return nil, err
	}
	if s.cert, err = peers.NewCertificate(dir); err != nil {
		s.close()
		return nil, err
	}
	s.target = load.Target{Token: strings.Repeat("t", bearer), Session: "s-bench", Spark: peers.SparkID}
	for _, p := range peers.All(peers.Programs{Tools: tools, Envoy: o.envoy}) {
		if o.wants(p.Name) {
			s.cast = append(s.cast, audition(p))
		}
	}
	if o.wants(peers.SconceName) {
		s.addSconce(ctx)
	}
	return s, ctx.Err()
}

func audition(p peers.Peer) actor {
	version, err := p.Version()
	return actor{peer: p, version: version, missing: err}
}

// addSconce sets up Sconce's registry and session. All peers then carry its token.
func (s *stage) addSconce(ctx context.Context) {
	say("building Sconce, starting Redis, making a session")
	var err error
	if s.few, err = s.newSconce(ctx, peers.SconceName, 1); err != nil {
		s.cast = append(s.cast, actor{peer: peers.Peer{Name: peers.SconceName}, missing: err})
		return
	}
	s.cast = append(s.cast, audition(s.few.Peer()))
	s.target.Token, s.target.Session = s.few.Token, s.few.Session
	if !s.wantsScale() {
		return
	}
	say("making %d sessions", s.o.sessions)
	if s.many, err = s.newSconce(ctx, peers.SconceMany, s.o.sessions); err != nil {
		say("%s: %v", peers.SconceMany, err)
		s.lost = append(s.lost, fmt.Errorf("%s: %w", peers.SconceMany, err))
	}
}

func (s *stage) newSconce(ctx context.Context, name string, sessions int) (*peers.Sconce, error) {
	dir, err := os.MkdirTemp(s.dir, "sconce-")
	if err != nil {
		return nil, err
	}
	return peers.NewSconce(ctx, peers.SconceConfig{
		Name:       name,
		Repository: filepath.Dir(s.o.module),
		Dir:        dir,
		Backend:    s.backend.Addr,
		Sessions:   sessions,
	})
}

func (s *stage) wantsScale() bool {
	for _, w := range s.o.workloads {
		if w.Scale {
			return true
		}
	}
	return false
}

func (s *stage) close() {
	for _, r := range []*peers.Sconce{s.few, s.many} {
		if r != nil {
			r.Close()
		}
	}
	if s.backend != nil {
		s.backend.Stop()
	}
}

// players are the peers that a workload is for.
func (s *stage) players(w workload.Workload) []actor {
	if w.Scale {
		return s.scalePlayers()
	}
	var list []actor
	if !w.NoDirect && s.o.wants(peers.Direct) {
		list = append(list, actor{peer: peers.Peer{Name: peers.Direct}})
	}
	return append(list, s.cast...)
}

func (s *stage) scalePlayers() []actor {
	var list []actor
	for _, r := range []*peers.Sconce{s.few, s.many} {
		if r != nil {
			list = append(list, audition(r.Peer()))
		}
	}
	return list
}

// identity is as whom the client comes when it goes through that peer.
func (s *stage) identity(name string) load.Target {
	t := s.target
	if s.many != nil && name == peers.SconceMany {
		t.Token, t.Session = s.many.Token, s.many.Session
	}
	return t
}

// ready waits until a proxy answers a whole call: it may listen before it can.
func ready(ctx context.Context, t load.Target) error {
	t.Timeout = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		err := oneCall(ctx, t)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it answers no call: %w", errors.Join(err, ctx.Err()))
		case <-time.After(readyPoll):
		}
	}
}

const (
	readyTimeout = 15 * time.Second
	readyPoll    = 50 * time.Millisecond
)

func oneCall(ctx context.Context, t load.Target) error {
	pool, err := load.Dial(ctx, t, 1)
	if err != nil {
		return err
	}
	defer pool.Close()
	_, err = pool.Conns[0].Unary(1, 1)
	return err
}

// connections is how many client connections this machine's limit of open files
// allows: a proxy needs two files for each, and some more.
func connections() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 400
	}
	return max(int(min(limit.Cur, 1<<20))/2-500, 100)
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }

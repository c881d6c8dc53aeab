package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sconce-dev/sconce/bench/peers"
	"github.com/sconce-dev/sconce/bench/table"
	"github.com/sconce-dev/sconce/bench/workload"
)

// runAll does every workload with every peer, as often as is wanted: all of
// them once, then all again, each time beginning with another peer.
func (s *stage) runAll(ctx context.Context) []table.Run {
	var runs []table.Run
	for rep := range s.o.repetitions {
		for i, w := range s.o.workloads {
			if w.Most > 0 && rep >= w.Most {
				continue
			}
			players := s.players(w)
			for k := range players {
				if ctx.Err() != nil {
					return runs
				}
				a := players[(k+rep+i)%len(players)]
				if a.missing != nil {
					continue
				}
				runs = append(runs, s.runOne(ctx, rep+1, w, a))
			}
		}
	}
	return runs
}

// runOne does one workload with one freshly started peer.
func (s *stage) runOne(ctx context.Context, rep int, w workload.Workload, a actor) table.Run {
	began := time.Now()
	r := table.Run{Workload: w.Name, Peer: a.peer.Name, Repetition: rep}
	r.Values, r.Err = s.through(ctx, w, a.peer)
	took := time.Since(began).Seconds()
	if r.Err != nil {
		say("%d/%d %s %s: %.1f s, FAILED: %v", rep, s.o.repetitions, w.Name, r.Peer, took, r.Err)
	} else {
		say("%d/%d %s %s: %.1f s, CPU %.2f s", rep, s.o.repetitions, w.Name, r.Peer, took, r.Values["cpu_s"])
	}
	return r
}

func (s *stage) through(ctx context.Context, w workload.Workload, p peers.Peer) (table.Values, error) {
	rig := workload.Rig{Target: s.identity(p.Name), Quick: s.o.quick, Connections: connections()}
	if p.Name == peers.Direct {
		rig.Target.Addr = s.backend.Addr
		return w.Run(ctx, rig)
	}
	dir, err := os.MkdirTemp(s.dir, "peer-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	var cert *peers.Certificate
	if w.TLS {
		cert = s.cert
		rig.Target.TLS = cert.Client()
	}
	proc, err := peers.StartPeer(ctx, p, dir, s.backend.Addr, cert)
	if err != nil {
		return nil, err
	}
	defer proc.Stop()
	rig.Target.Addr, rig.PID = proc.Addr, proc.PID()
	if err := ready(ctx, rig.Target); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, proc.Said())
	}
	v, err := w.Run(ctx, rig)
	if err != nil && proc.Said() != "" {
		say("%s said: %s", p.Name, proc.Said())
	}
	return v, err
}

// faults are what makes the exit code 1: a peer that is missing without having
// been left out, and a run that failed.
func (s *stage) faults(runs []table.Run) error {
	faults := s.lost
	for _, a := range s.cast {
		if a.missing != nil && !a.peer.Optional {
			faults = append(faults, fmt.Errorf("%s: %w (or leave it out with -peers)", a.peer.Name, a.missing))
		}
	}
	failed := 0
	for _, r := range runs {
		if r.Err != nil {
			failed++
		}
	}
	if failed > 0 {
		faults = append(faults, fmt.Errorf("%d of %d runs failed: see the remarks", failed, len(runs)))
	}
	return errors.Join(faults...)
}

package launch

import (
	"context"
	"os"
	"time"

	"go.uber.org/zap"
)

// How often Run looks for engines that ended, and how long what is left of one is
// kept for Alive to tell of it.
const (
	pollEvery = time.Second
	keepEnded = time.Hour
)

// Run tells the keepers that a Sconce is there, hears of engines that end, and
// clears away after them, until ctx ends. The engines go on then: whoever runs
// next finds them.
func (p *Process) Run(ctx context.Context) error {
	defer p.reapAll()
	beat := time.NewTicker(max(p.cfg.OrphanAfter/12, time.Millisecond))
	defer beat.Stop()
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	p.poll()
	for first := true; ; first = false {
		if err := p.touch(); err != nil && first {
			return err
		} else if err != nil {
			p.log.Error("engines will end: the heartbeat cannot be touched", zap.Error(err))
		}
		for next := false; !next; {
			select {
			case <-ctx.Done():
				return nil
			case <-beat.C:
				next = true
			case <-poll.C:
				p.poll()
			}
		}
	}
}

// poll looks at all engines once.
func (p *Process) poll() {
	folders, err := p.folders()
	if err != nil {
		p.log.Error("the state folder cannot be read", zap.Error(err))
		return
	}
	there := map[string]bool{}
	for _, f := range folders {
		there[f.id()] = true
		kept, err := f.kept()
		if err != nil {
			p.log.Error("an engine cannot be looked at", zap.String("engine", f.id()), zap.Error(err))
		}
		if !kept && err == nil {
			p.ended(f)
		}
	}
	p.mu.Lock()
	var lost []string
	for id := range p.known {
		if !there[id] { // another process stopped it: no news
			lost = append(lost, id)
		}
	}
	p.mu.Unlock()
	for _, id := range lost {
		p.forget(id)
		p.reap(id)
	}
}

// ended sees to an engine that has.
func (p *Process) ended(f folder) {
	p.mu.Lock()
	in, known := p.known[f.id()]
	delete(p.known, f.id())
	p.mu.Unlock()
	if known {
		sweep(mark(f.id())) // its keeper may have been killed
		p.reap(f.id())
		why := p.gone(f, in.Token)
		p.log.Warn("an engine has ended", zap.String("engine", in.ID), zap.String("reason", why.Reason))
		if p.cfg.OnExit != nil {
			p.cfg.OnExit(in, why)
		}
		return
	}
	if age(f) > keepEnded {
		if err := p.remove(f); err != nil {
			p.log.Warn("what is left of an engine cannot be removed", zap.String("engine", f.id()), zap.Error(err))
		}
	}
}

// age is how long nothing has changed in a folder.
func age(f folder) time.Duration {
	info, err := os.Stat(string(f))
	if err != nil {
		return 0
	}
	return time.Since(info.ModTime())
}

// reapAll waits for those of our keepers that have ended.
func (p *Process) reapAll() {
	p.mu.Lock()
	var ids []string
	for id := range p.keepers {
		ids = append(ids, id)
	}
	p.mu.Unlock()
	for _, id := range ids {
		if f, err := p.folder(id); err == nil {
			if kept, err := f.kept(); err == nil && !kept {
				p.reap(id)
			}
		}
	}
}

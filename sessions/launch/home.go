package launch

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sconce-dev/sconce/sessions"
)

// errElsewhere: an engine's address is of the loopback of another machine, where
// something else may listen here.
var errElsewhere = errors.New("it runs on another machine, whose Sconce sees to it")

// fileHome holds a name for this machine, or what is one to those who share the
// state folder. It is made once.
const fileHome = "home"

// home is that name.
func (p *Process) home() (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.place != "" {
		return p.place, nil
	}
	path := filepath.Join(p.dir, fileHome)
	name, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		name, err = makeHome(p.dir, path)
	}
	p.place = string(name)
	return p.place, err
}

// makeHome writes the name whole or not at all; of several processes one succeeds,
// and all return what it wrote.
func makeHome(dir, path string) ([]byte, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, "."+fileHome)
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(rand.Text())
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return os.ReadFile(path)
}

// Reaches says whether an engine was started by a Sconce of this machine.
func (p *Process) Reaches(in sessions.Instance) bool {
	home, err := p.home()
	return err == nil && (in.Home == "" || in.Home == home)
}

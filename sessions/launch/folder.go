package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/sconce-dev/sconce/sessions"
)

// folder is where all that is known of one engine is kept. Nobody else may read
// it. Who writes which file:
//
//	lock         held by the keeper as long as it lives
//	engine.json  record: by Process when the engine serves, and when it is claimed
//	pid          the engine's process: by the keeper
//	stop         there when the engine shall end: by any Process
//	exit.json    how it ended: by the keeper
//	log          by the engine
//	work/        its working folder
type folder string

const (
	fileLock   = "lock"
	fileRecord = "engine.json"
	filePID    = "pid"
	fileStop   = "stop"
	fileExit   = "exit.json"
	fileLog    = "log"
	fileWork   = "work"
	fileClaim  = "claim"
)

// recordFormat is that of engine.json; engines of another one are let be.
const recordFormat = 1

// record is what a Sconce must know of an engine that another one started.
type record struct {
	Format int `json:"format"`
	sessions.Launched
	// Hash tells whether an engine would be started the same way today.
	Hash string `json:"hash"`
	// Keeper is who keeps it.
	Keeper process `json:"keeper"`
	// StopTimeout is how long the keeper gives the engine.
	StopTimeout time.Duration `json:"stop_timeout"`
}

// ending is what exit.json holds.
type ending struct {
	// Reason is for people: "exit status 3".
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// mark is the variable by which an engine's processes are told.
func mark(id string) string { return "SCONCE_ENGINE_ID=" + id }

func (f folder) id() string              { return filepath.Base(string(f)) }
func (f folder) path(name string) string { return filepath.Join(string(f), name) }

// make creates the folder, and takes its lock for the keeper.
func (f folder) make() (*os.File, error) {
	if err := os.MkdirAll(f.path(fileWork), 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(f.path(fileLock), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil { // whoever looks holds it for a moment
		lock.Close()
		return nil, fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	return lock, nil
}

// kept says whether a keeper lives, and so its engine. It asks the lock, which the
// kernel takes from a process that ends however it ends, and which counts also
// where pids cannot be compared. A folder that is gone is kept by nobody.
func (f folder) kept() (bool, error) {
	lock, err := os.Open(f.path(fileLock))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	defer lock.Close()
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// claim runs do while no other process does the same to this engine.
func (f folder) claim(do func() error) error {
	lock, err := os.OpenFile(f.path(fileClaim), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	return do()
}

func (f folder) record() (record, error) {
	var r record
	if err := readJSON(f.path(fileRecord), &r); err != nil {
		return r, err
	}
	if r.Format != recordFormat {
		return r, fmt.Errorf("%s has format %d, and this Sconce knows %d", f.path(fileRecord), r.Format, recordFormat)
	}
	return r, nil
}

// engine is the engine's process; the zero value = not known.
func (f folder) engine() process {
	var p process
	_ = readJSON(f.path(filePID), &p)
	return p
}

// ended says how the engine ended.
func (f folder) ended() ending {
	var e ending
	if err := readJSON(f.path(fileExit), &e); err != nil {
		return ending{Reason: "its keeper was killed"}
	}
	return e
}

func readJSON(path string, into any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// write replaces a file whole: whoever reads it sees the old one or the new one.
func (f folder) write(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(string(f), "."+name) // mode 0600
	if err != nil {
		return err
	}
	_, err = file.Write(append(b, '\n'))
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), f.path(name))
	}
	if err != nil {
		os.Remove(file.Name())
	}
	return err
}

var idForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,127}$`)

// isGone says whether an error only means that an engine's folder was removed.
func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) }

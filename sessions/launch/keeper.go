package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

// order is what a keeper is told on its standard input. It comes that way since
// the environment holds secrets. After it the pipe stays open until the launch is
// done: "kept" means that the engine shall go on alone, an end of the pipe without
// it that nobody wants it any more.
type order struct {
	Folder      folder         `json:"folder"`
	Argv        []string       `json:"argv"`
	Env         []string       `json:"env"`
	StopSignal  syscall.Signal `json:"stop_signal"`
	StopTimeout time.Duration  `json:"stop_timeout"`
	// Heartbeat is the file that each Sconce touches.
	Heartbeat string `json:"heartbeat"`
	// OrphanAfter is how long it may stay untouched.
	OrphanAfter time.Duration `json:"orphan_after"`
}

// orderKept is what follows an order when the launch succeeded.
const orderKept = "kept"

// lockFD is where a keeper finds its lock.
const lockFD = 3

// Looks are how often a keeper looks at the heartbeat in OrphanAfter, and how
// often at once at whether it shall stop.
const (
	looks    = 20
	lookStop = 250 * time.Millisecond
)

// Keep is the whole of a keeper: the process that Process starts for each engine
// by Config.Keeper. It reads its order from stdin, starts the engine, and returns
// when nothing of the engine runs. It ignores what a terminal sends.
func Keep(stdin io.Reader) error {
	syscall.CloseOnExec(lockFD) // else the engine would hold the lock too
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(asked)
	signal.Ignore(syscall.SIGHUP)
	in := json.NewDecoder(stdin)
	var o order
	if err := in.Decode(&o); err != nil {
		return fmt.Errorf("a keeper is started by Sconce, and there is no order on its standard input: %w", err)
	}
	k := &keeper{order: o, asked: asked, launched: make(chan bool, 1)}
	go k.hear(in)
	return k.keep()
}

// keeper keeps one engine. Its fields are those of keep's goroutine.
type keeper struct {
	order
	asked    <-chan os.Signal
	launched chan bool // how the launch went; once

	kept      bool      // it went well
	beat      time.Time // of the heartbeat, when it was last looked at
	unchanged int       // looks since it changed
}

// hear waits for the end of the launch. It ends with the pipe.
func (k *keeper) hear(in *json.Decoder) {
	var word string
	err := in.Decode(&word)
	k.launched <- err == nil && word == orderKept
}

func (k *keeper) keep() error {
	cmd := exec.Command(k.Argv[0], k.Argv[1:]...) //nolint:gosec // what the configuration says
	cmd.Env = slices.Concat(k.Env, []string{mark(k.Folder.id())})
	cmd.Dir = k.Folder.path(fileWork)
	engine, err := Begin(cmd, k.Folder.path(fileLog))
	if err != nil {
		return errors.Join(err, k.end("it cannot be started: "+reason(err)))
	}
	err = k.Folder.write(filePID, identify(cmd.Process.Pid))
	why := "its folder cannot be written"
	patience := time.Duration(0)
	if err == nil {
		why, patience = k.watch(engine)
	}
	select {
	case <-engine.Done():
	default:
		k.note(why) // it is known why, should we be killed now
	}
	ask := k.StopSignal
	if patience == 0 {
		ask = syscall.SIGKILL
	}
	engine.Stop(ask, patience)
	sweep(mark(k.Folder.id()))
	if why == "" {
		why = reason(engine.Err())
	}
	return errors.Join(err, k.end(why))
}

// watch returns when the engine has ended, or shall: why, and how long it has for
// that. "" = it ended by itself.
func (k *keeper) watch(engine *Program) (why string, patience time.Duration) {
	beat := time.NewTicker(max(k.OrphanAfter/looks, time.Millisecond))
	defer beat.Stop()
	stop := time.NewTicker(lookStop)
	defer stop.Stop()
	for {
		select {
		case <-engine.Done():
			return "", 0
		case kept := <-k.launched:
			if !kept { // nothing in it is worth an orderly end
				return "its launch was given up", 0
			}
			k.kept = true
		case <-k.asked:
			return "it was stopped", k.StopTimeout
		case <-stop.C:
			if _, err := os.Lstat(k.Folder.path(fileStop)); err == nil {
				return "it was stopped", k.StopTimeout
			}
		case <-beat.C:
			if k.orphaned() {
				return fmt.Sprintf("no Sconce was there for %s", k.OrphanAfter), k.StopTimeout
			}
		}
	}
}

// orphaned looks at the heartbeat. Looks are counted, and time is not measured: a
// clock that jumps, or a machine that was suspended, ends no engine.
func (k *keeper) orphaned() bool {
	var beat time.Time
	if info, err := os.Stat(k.Heartbeat); err == nil {
		beat = info.ModTime()
	}
	k.unchanged++
	if !k.kept || !beat.Equal(k.beat) {
		k.beat, k.unchanged = beat, 0
	}
	return k.unchanged >= looks
}

// note writes why the engine ends, and end that it has.
func (k *keeper) note(why string) {
	_ = k.end(why) // end says it again
}

func (k *keeper) end(why string) error {
	err := k.Folder.write(fileExit, ending{Reason: why, At: time.Now()})
	if errors.Is(err, os.ErrNotExist) { // whoever removed the folder knows
		return nil
	}
	return err
}

// reason is how a program ended, without paths.
func reason(err error) string {
	var path *os.PathError
	switch {
	case err == nil:
		return "it ended by itself, with exit status 0"
	case errors.As(err, &path):
		return path.Err.Error()
	}
	return err.Error()
}

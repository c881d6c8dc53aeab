package sessions

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Isolation says who shares an engine.
type Isolation string

const (
	// IsolateSession: each session has an engine of its own.
	IsolateSession Isolation = "session"
	// IsolateNone: one engine for all sessions of a cluster, kept up while any of
	// them is active.
	IsolateNone Isolation = "shared"
)

// Instance is one engine that a Launcher brought up. It is kept in the registry,
// so that every replica finds the way to it.
type Instance struct {
	// ID names it for ever; the launcher chose it.
	ID string `json:"id"`
	// Home names the machine that it runs on, where only that one reaches it; "" =
	// all do.
	Home string `json:"home,omitempty"`
	// Address is host:port.
	Address string `json:"address"`
	// Token is the pre-shared token it asks for; "" = none. Never logged.
	Token string `json:"token,omitempty"`
	// Version is what the engine says it is; "" = it does not tell.
	Version string `json:"version,omitempty"`
	// UI is the address of its web pages, http://host:port; "" = none.
	UI        string    `json:"ui,omitempty"`
	StartedAt time.Time `json:"started_at"`
}

// LaunchSpec says for whom an engine is brought up.
type LaunchSpec struct {
	// Cluster is the cluster's name.
	Cluster string `json:"cluster"`
	// Session is the one that it is for; "" = the cluster is shared.
	Session ID `json:"session,omitempty"`
	// Generation is the one that the session (or the shared cluster) gets with it.
	Generation uint64 `json:"generation"`
	// KeepFor is how long the engine must remember a Spark session that nobody
	// uses: longer than Sconce does, so that it never forgets first.
	KeepFor time.Duration `json:"keep_for"`
}

// Launched is an engine and whom it was brought up for.
type Launched struct {
	Instance
	Spec LaunchSpec `json:"spec"`
}

// Launcher brings engines of one cluster up and down. Methods are safe for any
// goroutine.
type Launcher interface {
	// Launch brings an engine up and returns once it answers grpc.health, or a
	// *LaunchError, behind which nothing of it runs. stage hears what is being
	// done, in a word or two; it must not block.
	Launch(ctx context.Context, spec LaunchSpec, stage func(string)) (Instance, error)
	// Stop ends an engine; behind it nothing of the engine runs. One that has ended
	// already is no error, whoever started it.
	Stop(ctx context.Context, in Instance) error
	// Alive says whether an engine runs, or why it does not: an ErrGone. Any other
	// error means that it could not be told.
	Alive(ctx context.Context, in Instance) error
	// Reaches says whether an engine can be reached from here. On another machine
	// its address is something else's.
	Reaches(in Instance) bool
	// Running returns all engines of the cluster that run, those of other replicas
	// and of processes before this one too. With an error it returns those that it could
	// tell of.
	Running(ctx context.Context) ([]Launched, error)
}

// ErrGone: an engine has ended.
var ErrGone = errors.New("the engine has ended")

// LaunchError says why an engine could not be brought up.
type LaunchError struct {
	Cluster string
	// Reason is for the owner to read: no paths, no addresses.
	Reason string
	// Log is the last lines that the engine wrote; "" = none.
	Log string
	// Final: another try will not do better.
	Final bool
}

func (e *LaunchError) Error() string {
	return fmt.Sprintf("engine of cluster %s does not start: %s", e.Cluster, e.Reason)
}

// Standby says that an engine waits for somebody to need it.
func (l Launched) Standby() bool { return l.Spec.Session == "" && l.Spec.Generation == 0 }

// key is that of the engine that it was brought up as.
func (s LaunchSpec) key() EngineKey {
	if s.Session == "" {
		return EngineKey("cluster:" + s.Cluster)
	}
	return EngineKey("session:" + string(s.Session))
}

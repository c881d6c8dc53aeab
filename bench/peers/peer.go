package peers

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// Direct is the name under which workloads run without any proxy.
const Direct = "direct"

// ErrNotInstalled says that a peer's program is not on this machine.
var ErrNotInstalled = errors.New("not installed")

// Peer is one kind of proxy.
type Peer struct {
	// Name is how flags and tables call it.
	Name string
	// Version says which program was found; ErrNotInstalled if none was.
	Version func() (string, error)
	// Command writes the settings into Setup.Dir and returns what to run there:
	// the program and its arguments.
	Command func(Setup) ([]string, error)
	// Optional says that nobody is to be blamed for its absence.
	Optional bool
	// Remark is a known fault that the tables should say; "" if there is none.
	Remark string
}

// Setup is where a peer stands.
type Setup struct {
	// Dir is a directory of its own, for settings and sockets.
	Dir string
	// Port is the loopback port to listen on.
	Port int
	// Backend is the backend's host:port.
	Backend string
	// TLS has the certificate for the front; nil means plaintext.
	TLS *Certificate
}

// Programs are the paths of what is not looked up by a fixed name.
type Programs struct {
	// Tools are our own programs, built for this run.
	Tools Tools
	// Envoy is the path or name of the envoy program.
	Envoy string
}

// All returns every peer but Sconce, which is started by its own type since it
// needs a registry and a session. The order is that of the tables.
func All(p Programs) []Peer {
	return []Peer{tcpCopy(p.Tools), nginx(), haproxy(), nghttpx(), envoy(p.Envoy), grpcRaw(p.Tools)}
}

// found returns the first line that the program prints about its version.
func found(program, debian string, args ...string) (string, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("%s is %w: %s", program, ErrNotInstalled, debian)
	}
	out, err := exec.Command(path, args...).CombinedOutput() //nolint:noctx // the peers are programs named here
	if err != nil {
		return "", fmt.Errorf("%s does not tell its version: %w", program, err)
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line, nil
}

// debian is the hint for a peer that comes as a Debian package.
func debian(name string) string { return "apt-get install " + name }

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// stateDir is the folder in which `sconce dev` keeps what it makes once, and
// where the client commands look for what it left: .sconce under the current
// folder, unless SCONCE_STATE names another. Nobody else may read it.
type stateDir string

func (a *app) stateDir() stateDir {
	if dir := a.env("SCONCE_STATE"); dir != "" {
		return stateDir(dir)
	}
	return ".sconce"
}

// What the folder holds.
const (
	stateCA       = "ca.pem"         // to be trusted by clients
	stateCAKey    = "ca-key.pem"     // signs cert.pem
	stateCert     = "cert.pem"       // the port's
	stateKey      = "key.pem"        // of cert.pem
	stateSigning  = "signing.pem"    // signs tokens
	stateControl  = "control.token"  // lets the client commands in; new at each start
	stateEndpoint = "endpoint"       // host:port of the gateway that runs, if one does
	stateRedis    = "redis.password" // of the embedded Redis; new at each start
)

func (d stateDir) path(name string) string { return filepath.Join(string(d), name) }

func (d stateDir) make() error {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return fmt.Errorf("make the folder for keys and certificates: %w: set SCONCE_STATE to one that can be written", err)
	}
	return os.Chmod(string(d), 0o700) //nolint:gosec // a folder, which needs its x
}

// read returns a file's text without the line end, or "" if there is none.
func (d stateDir) read(name string) (string, error) {
	b, err := os.ReadFile(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(b)), err
}

// write replaces a file whole: whoever reads it sees the old one or the new one.
func (d stateDir) write(name string, data []byte) error {
	f, err := os.CreateTemp(string(d), "."+name)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(0o600), f.Close()); err == nil {
		err = os.Rename(f.Name(), d.path(name))
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

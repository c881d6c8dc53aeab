package peers

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// SconceName is how tables call Sconce.
const SconceName = "sconce"

// SconceMany is how tables call Sconce with a registry of many sessions.
const SconceMany = "sconce+"

// SparkID is the session_id that all requests carry.
const SparkID = "8a2f1a52-0f2f-4f4c-9d5e-0123456789ab"

// SconceConfig says which Sconce to set up.
type SconceConfig struct {
	// Name is the peer's name.
	Name string
	// Repository is the folder of Sconce's module.
	Repository string
	// Dir is a directory of its own.
	Dir string
	// Backend is the only cluster's host:port.
	Backend string
	// Sessions is how many sessions the registry has, at least 1.
	Sessions int
}

// Sconce is a registry with a session in it, and the program and settings to
// serve it.
type Sconce struct {
	// Token and Session are what a client sends.
	Token, Session string

	cfg     SconceConfig
	binary  string
	version string
	key     string       // signing key file
	cert    *Certificate // where a Setup has none: Sconce wants one
	redis   *Process
}

// NewSconce builds Sconce, starts a registry, and makes a session and its token
// as a person would, with the command line.
func NewSconce(ctx context.Context, cfg SconceConfig) (*Sconce, error) {
	s := &Sconce{
		cfg:    cfg,
		binary: filepath.Join(cfg.Dir, "sconce"),
		key:    filepath.Join(cfg.Dir, "signing.pem"),
	}
	if err := goBuild(ctx, cfg.Repository, s.binary, "./cmd/sconce"); err != nil {
		return nil, err
	}
	var err error
	if s.version, err = s.command(ctx, nil, "version"); err != nil {
		return nil, err
	}
	if s.cert, err = NewCertificate(cfg.Dir); err != nil {
		return nil, err
	}
	if s.redis, err = StartRedis(ctx, cfg.Dir); err != nil {
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Close stops the registry.
func (s *Sconce) Close() {
	if s.redis != nil {
		s.redis.Stop()
	}
}

// Peer is Sconce as a peer.
func (s *Sconce) Peer() Peer {
	return Peer{
		Name:    s.cfg.Name,
		Version: func() (string, error) { return s.version, nil },
		Command: func(at Setup) ([]string, error) {
			path := filepath.Join(at.Dir, "sconce.yaml")
			settings, err := s.settings(at)
			if err != nil {
				return nil, err
			}
			if err := os.WriteFile(path, []byte(settings), 0o600); err != nil {
				return nil, err
			}
			return []string{s.binary, "serve", "--config", path}, nil
		},
	}
}

// settings are the defaults but for one thing: ten thousand connections come
// from one address here. Like the peers it writes no line for each stream. The
// port takes TLS and, from this machine, plaintext.
func (s *Sconce) settings(at Setup) (string, error) {
	admin, err := FreePort()
	if err != nil {
		return "", err
	}
	cert := s.cert
	if at.TLS != nil {
		cert = at.TLS
	}
	return fmt.Sprintf(`listen: %s
admin:
  listen: %s
tls:
  cert: %s
  key: %s
redis:
  addresses: [%s]
auth:
  signing_key: %s
clusters:
  - name: bench
    address: %s
limits: # that one client of the benchmark does not reach, but which are counted
  connections_per_ip: 16384
  control_streams: 1000000
  token_requests: 1000000
  session_requests: 1000000
  owner_requests: 1000000
  token_streams: 1000000
  session_streams: 1000000
  owner_streams: 1000000
  org_streams: 1000000
  process_streams: 1000000
  session_in_flight: 1024GiB
  owner_in_flight: 1024GiB
  org_in_flight: 1024GiB
  process_in_flight: 1024GiB
drain_timeout: 1s
log:
  level: warn
`, loopback(at.Port), loopback(admin), cert.Cert, cert.Key, s.redis.Addr, s.key, s.cfg.Backend), nil
}

// prepare makes the signing key, and with a first gateway the session and its token.
func (s *Sconce) prepare(ctx context.Context) error {
	if _, err := s.command(ctx, nil, "key", "generate", "--out", s.key); err != nil {
		return err
	}
	gateway, err := StartPeer(ctx, s.Peer(), s.cfg.Dir, s.cfg.Backend, nil)
	if err != nil {
		return err
	}
	defer gateway.Stop()
	if err := s.makeSession(ctx, gateway.Addr); err != nil {
		return fmt.Errorf("%w\n%s", err, gateway.Said())
	}
	if s.cfg.Sessions > 1 {
		return populate(ctx, s.redis.Addr, s.cfg.Sessions-1)
	}
	return nil
}

// tokenLifetime outlasts every run.
const tokenLifetime = "12h"

func (s *Sconce) makeSession(ctx context.Context, endpoint string) error {
	control, err := s.field(ctx, nil, "token", "token", "control",
		"--config", filepath.Join(s.cfg.Dir, "sconce.yaml"), "--subject", "bench", "--org", "bench")
	if err != nil {
		return err
	}
	env := []string{"SCONCE_TOKEN=" + control, "SCONCE_ENDPOINT=" + endpoint}
	if s.Session, err = s.field(ctx, env, "id", "session", "create", "--name", "bench"); err != nil {
		return err
	}
	s.Token, err = s.field(ctx, env, "token", "token", "issue", s.Session, "--lifetime", tokenLifetime)
	return err
}

// command runs the program and returns what it printed.
func (s *Sconce) command(ctx context.Context, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, s.binary, args...)
	cmd.Dir = s.cfg.Dir
	cmd.Env = append(os.Environ(), env...)
	var said tail
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("sconce %s: %w: %s", strings.Join(args[:min(2, len(args))], " "), err, &said)
	}
	return strings.TrimSpace(string(out)), nil
}

// field runs a command that prints JSON and returns one of its fields.
func (s *Sconce) field(ctx context.Context, env []string, name string, args ...string) (string, error) {
	out, err := s.command(ctx, env, append(args, "--output", "json")...)
	if err != nil {
		return "", err
	}
	var object map[string]any
	if err := json.Unmarshal([]byte(out), &object); err != nil {
		return "", fmt.Errorf("sconce %s: %w", args[0], err)
	}
	value, _ := object[name].(string)
	if value == "" {
		return "", fmt.Errorf("sconce %s: its answer has no %q", args[0], name)
	}
	return value, nil
}

package peers

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
)

// Tools are the paths of our own programs.
type Tools struct {
	TCPCopy, GRPCRaw, Backend string
}

// Build builds our own programs into dir. module is the folder of this module.
func Build(ctx context.Context, module, dir string) (Tools, error) {
	t := Tools{
		TCPCopy: filepath.Join(dir, "tcpcopy"),
		GRPCRaw: filepath.Join(dir, "grpcraw"),
		Backend: filepath.Join(dir, "backend"),
	}
	for path, pkg := range map[string]string{
		t.TCPCopy: "./peers/tcpcopy", t.GRPCRaw: "./peers/grpcraw", t.Backend: "./cmd/backend",
	} {
		if err := goBuild(ctx, module, path, pkg); err != nil {
			return Tools{}, err
		}
	}
	return t, nil
}

func goBuild(ctx context.Context, module, path, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, pkg)
	cmd.Dir = module
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// StartBackend starts the benchmark's backend on a free port.
func StartBackend(ctx context.Context, t Tools) (*Process, error) {
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	addr := loopback(port)
	return Start(ctx, ".", addr, t.Backend, "-listen", addr, "-quiet")
}

// StartPeer starts a peer in dir on a free port, before the given backend.
func StartPeer(ctx context.Context, p Peer, dir, backend string, cert *Certificate) (*Process, error) {
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	argv, err := p.Command(Setup{Dir: dir, Port: port, Backend: backend, TLS: cert})
	if err != nil {
		return nil, fmt.Errorf("set up %s: %w", p.Name, err)
	}
	return Start(ctx, dir, loopback(port), argv...)
}

func tcpCopy(t Tools) Peer { return own("tcp", t.TCPCopy) }

func grpcRaw(t Tools) Peer { return own("grpcraw", t.GRPCRaw) }

// own is a peer that is one of our programs.
func own(name, path string) Peer {
	return Peer{
		Name:    name,
		Version: func() (string, error) { return runtime.Version(), nil },
		Command: func(s Setup) ([]string, error) {
			args := []string{path, "-listen", loopback(s.Port), "-to", s.Backend}
			if s.TLS != nil {
				args = append(args, "-cert", s.TLS.Cert, "-key", s.TLS.Key)
			}
			return args, nil
		},
	}
}

// BuildSconce compiles the program of Sconce's module in that folder.
func BuildSconce(ctx context.Context, repository, path string) error {
	return goBuild(ctx, repository, path, "./cmd/sconce")
}

package peers

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
)

// StartRedis starts a redis-server that keeps nothing on disk.
func StartRedis(ctx context.Context, dir string) (*Process, error) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return nil, fmt.Errorf("redis-server is %w: %s", ErrNotInstalled, debian("redis-server"))
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	p, err := Start(ctx, dir, loopback(port), "redis-server", "--port", strconv.Itoa(port),
		"--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
	if err != nil {
		return nil, errors.Join(errors.New("no registry"), err)
	}
	return p, nil
}

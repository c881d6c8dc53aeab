package spark

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sconce-dev/sconce/bench/peers"
	"github.com/sconce-dev/sconce/bench/proc"
	"github.com/sconce-dev/sconce/bench/table"
)

//go:embed query.py
var query string

// Config says what to measure.
type Config struct {
	// Python is the folder of a virtual environment with pysail and PySpark.
	Python string
	// Repository is the folder of Sconce's module.
	Repository string
	// Dir is a directory for what is made.
	Dir string
	// Rows is how many rows a query brings, Times how often each Python process
	// asks for them.
	Rows, Times int
}

// Rig is a Sail server and a Sconce before it.
type Rig struct {
	cfg     Config
	script  string
	sail    *peers.Process
	sconce  *peers.Sconce
	gateway *peers.Process
}

// Names of the two ways.
const (
	Direct  = "direct"
	Through = "sconce"
)

// Start starts everything.
func Start(ctx context.Context, cfg Config) (*Rig, error) {
	r := &Rig{cfg: cfg, script: filepath.Join(cfg.Dir, "query.py")}
	if err := os.WriteFile(r.script, []byte(query), 0o600); err != nil {
		return nil, err
	}
	if err := r.start(ctx); err != nil {
		r.Stop()
		return nil, err
	}
	return r, nil
}

func (r *Rig) start(ctx context.Context) error {
	sail := filepath.Join(r.cfg.Python, "bin", "sail")
	if _, err := os.Stat(sail); err != nil {
		return fmt.Errorf("no Sail in %s: run `make setup-sail`, or name another virtual environment with -venv: %w", r.cfg.Python, err)
	}
	port, err := peers.FreePort()
	if err != nil {
		return err
	}
	addr := "127.0.0.1:" + strconv.Itoa(port)
	r.sail, err = peers.Start(ctx, r.cfg.Dir, addr, sail, "spark", "server", "--ip", "127.0.0.1", "--port", strconv.Itoa(port))
	if err != nil {
		return err
	}
	r.sconce, err = peers.NewSconce(ctx, peers.SconceConfig{
		Name: Through, Repository: r.cfg.Repository, Dir: r.cfg.Dir, Backend: addr, Sessions: 1,
	})
	if err != nil {
		return err
	}
	r.gateway, err = peers.StartPeer(ctx, r.sconce.Peer(), r.cfg.Dir, addr, nil)
	return err
}

// Stop stops what was started.
func (r *Rig) Stop() {
	for _, p := range []*peers.Process{r.gateway, r.sail} {
		if p != nil {
			p.Stop()
		}
	}
	if r.sconce != nil {
		r.sconce.Close()
	}
}

// Measure runs one Python process by one of the two ways.
func (r *Rig) Measure(ctx context.Context, way string) (table.Values, error) {
	if way == Direct {
		return r.python(ctx, connection(r.sail.Addr, ""))
	}
	tree, err := proc.Tree(r.gateway.PID())
	if err != nil {
		return nil, err
	}
	if err := proc.ResetPeak(tree); err != nil {
		return nil, err
	}
	before, err := proc.Read(tree)
	if err != nil {
		return nil, err
	}
	v, err := r.python(ctx, connection(r.gateway.Addr, ";token="+r.sconce.Token+";x-session-id="+r.sconce.Session))
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, r.gateway.Said())
	}
	after, err := proc.Read(tree)
	if err != nil {
		return nil, err
	}
	v["cpu_s"] = after.Sub(before).CPU().Seconds() / float64(r.cfg.Times)
	v["rss_peak_bytes"] = float64(after.Peak)
	return v, nil
}

// connection is a Spark Connect string. PySpark speaks plaintext with a token
// to "localhost" alone.
func connection(addr, params string) string {
	_, port, _ := strings.Cut(addr, ":")
	return "sc://localhost:" + port + "/" + params
}

// python returns the median of the times of one process.
func (r *Rig) python(ctx context.Context, url string) (table.Values, error) {
	python := filepath.Join(r.cfg.Python, "bin", "python")
	cmd := exec.CommandContext(ctx, python, r.script, url, strconv.Itoa(r.cfg.Rows), strconv.Itoa(r.cfg.Times))
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("PySpark: %w\n%s", err, said.String())
	}
	return summary(out)
}

// summary reads the JSON lines of query.py.
func summary(out []byte) (table.Values, error) {
	var walls []float64
	v := table.Values{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		var one struct {
			Wall  float64 `json:"wall_s"`
			Rows  float64 `json:"rows"`
			Bytes float64 `json:"bytes"`
		}
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			return nil, fmt.Errorf("PySpark printed %q: %w", lines.Text(), err)
		}
		walls = append(walls, one.Wall)
		v["rows"], v["bytes"] = one.Rows, one.Bytes
	}
	v["wall_s"] = table.Median(walls)
	return v, lines.Err()
}

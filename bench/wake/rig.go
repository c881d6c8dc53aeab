package wake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/sconce-dev/sconce/bench/peers"
	"github.com/sconce-dev/sconce/bench/table"
)

// Config says what to measure.
type Config struct {
	// Python is the folder of a virtual environment by the engine's preset.
	Python map[string]string
	// Repository is the folder of Sconce's module.
	Repository string
	// Dir is a directory for what is made.
	Dir string
}

// Ways are what is measured: an engine, and whether one stands by.
var Ways = []Way{{"sail", false}, {"sail", true}, {"spark", false}, {"spark", true}}

// Way is one cluster.
type Way struct {
	Preset string
	Warm   bool
}

func (w Way) String() string {
	if w.Warm {
		return w.Preset + ", one engine standing by"
	}
	return w.Preset
}

func (w Way) cluster() string {
	if w.Warm {
		return w.Preset + "-warm"
	}
	return w.Preset
}

// Rig is a Sconce with its Redis, which starts engines.
type Rig struct {
	cfg     Config
	binary  string
	env     []string
	addr    string
	admin   string
	redis   *peers.Process
	gateway *peers.Process
}

// Start builds Sconce and starts it. Engines start when they are measured, those
// that stand by at once.
func Start(ctx context.Context, cfg Config) (*Rig, error) {
	r := &Rig{cfg: cfg, binary: filepath.Join(cfg.Dir, "sconce")}
	if err := r.start(ctx); err != nil {
		r.Stop()
		return nil, err
	}
	return r, nil
}

func (r *Rig) start(ctx context.Context) error {
	if err := peers.BuildSconce(ctx, r.cfg.Repository, r.binary); err != nil {
		return err
	}
	cert, err := peers.NewCertificate(r.cfg.Dir)
	if err != nil {
		return err
	}
	if r.redis, err = peers.StartRedis(ctx, r.cfg.Dir); err != nil {
		return err
	}
	key := filepath.Join(r.cfg.Dir, "signing.pem")
	if _, err := r.command(ctx, "key", "generate", "--out", key); err != nil {
		return err
	}
	config := filepath.Join(r.cfg.Dir, "sconce.yaml")
	settings, err := r.settings(cert, key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(config, []byte(settings), 0o600); err != nil {
		return err
	}
	if r.gateway, err = peers.Start(ctx, r.cfg.Dir, r.addr, r.binary, "serve", "--config", config); err != nil {
		return err
	}
	control, err := r.field(ctx, "token", "token", "control", "--config", config, "--subject", "bench", "--org", "bench", "--lifetime", "12h")
	r.env = []string{"SCONCE_TOKEN=" + control, "SCONCE_ENDPOINT=" + r.addr}
	return err
}

// idleAfter is the shortest idle timeout there is.
const idleAfter = 2 * time.Second

func (r *Rig) settings(cert *peers.Certificate, key string) (string, error) {
	var ports [2]int
	for i := range ports {
		port, err := peers.FreePort()
		if err != nil {
			return "", err
		}
		ports[i] = port
	}
	r.addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[0]))
	r.admin = "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[1]))
	var b strings.Builder
	fmt.Fprintf(&b, "listen: %s\nadmin: {listen: %q}\ntls: {cert: %q, key: %q}\nredis: {addresses: [%q]}\nauth: {signing_key: %q}\n",
		r.addr, strings.TrimPrefix(r.admin, "http://"), cert.Cert, cert.Key, r.redis.Addr, key)
	fmt.Fprintf(&b, "registry_grace: 1s\ndrain_timeout: 1s\nlog: {level: warn}\nstate_dir: %q\nclusters:\n", filepath.Join(r.cfg.Dir, "state"))
	for _, w := range Ways {
		warm := 0
		if w.Warm {
			warm = 1
		}
		fmt.Fprintf(&b, "  - {name: %s, launch: {preset: %s, python: %q}, warm: %d, min_idle_timeout: %s}\n",
			w.cluster(), w.Preset, filepath.Join(r.cfg.Python[w.Preset], "bin", "python"), warm, idleAfter)
	}
	return b.String(), nil
}

// Stop stops what was started.
func (r *Rig) Stop() {
	for _, p := range []*peers.Process{r.gateway, r.redis} {
		if p != nil {
			p.Stop()
		}
	}
}

// Measure times the first row of a new session, and that of the same session when
// it is idle.
func (r *Rig) Measure(ctx context.Context, w Way) (v table.Values, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w\n%s", w, err, r.gateway.Said())
		}
	}()
	if err := r.standing(ctx, w); err != nil {
		return nil, err
	}
	v = table.Values{}
	before, err := r.stages(ctx, w)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	id, err := r.field(ctx, "id", "session", "create", "--cluster", w.cluster(), "--idle-timeout", idleAfter.String())
	if err != nil {
		return nil, err
	}
	v["create_s"] = time.Since(began).Seconds()
	if err := r.split(ctx, w, before, "create", v); err != nil {
		return nil, err
	}
	created := time.Now()
	token, err := r.field(ctx, "token", "token", "issue", id)
	if err != nil {
		return nil, err
	}
	client, err := dial(r.addr, token, id)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	if err := client.firstRow(ctx); err != nil {
		return nil, err
	}
	v["create_row_s"] = time.Since(created).Seconds()
	v["create_to_row_s"] = v["create_s"] + v["create_row_s"]
	for range 2 { // what an engine does once
		if err := client.firstRow(ctx); err != nil {
			return nil, err
		}
	}
	if err := r.asleep(ctx, id); err != nil {
		return nil, err
	}
	if err := r.standing(ctx, w); err != nil {
		return nil, err
	}
	return v, r.awake(ctx, w, client, id, v)
}

// awake times the first row of a session that is idle.
func (r *Rig) awake(ctx context.Context, w Way, client *client, id string, v table.Values) error {
	before, err := r.stages(ctx, w)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := client.firstRow(ctx); err != nil {
		return err
	}
	v["wake_to_row_s"] = time.Since(began).Seconds()
	if err := r.split(ctx, w, before, "wake", v); err != nil {
		return err
	}
	v["wake_row_s"] = v["wake_to_row_s"] - v["wake_engine_s"] - v["wake_state_s"]
	_, err = r.command(ctx, "session", "close", id)
	return err
}

// split puts into v how long the stages since before took: to get an engine, and to
// bring the session's state and settings onto it.
func (r *Rig) split(ctx context.Context, w Way, before map[string]float64, what string, v table.Values) error {
	after, err := r.stages(ctx, w)
	if err != nil {
		return err
	}
	v[what+"_engine_s"], v[what+"_state_s"] = 0, 0
	for stage, sum := range after {
		part := "_engine_s"
		if strings.HasPrefix(stage, "restoring") || strings.HasPrefix(stage, "trying") {
			part = "_state_s"
		}
		v[what+part] += sum - before[stage]
	}
	return nil
}

// stages is the time that each stage of wakes took so far, in seconds.
func (r *Rig) stages(ctx context.Context, w Way) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.admin+"/metrics", http.NoBody)
	if err != nil {
		return nil, err
	}
	reply, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer reply.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(reply.Body)
	if err != nil {
		return nil, err
	}
	sums := map[string]float64{}
	for _, m := range families["sconce_wake_stage_seconds"].GetMetric() {
		labels := map[string]string{}
		for _, l := range m.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		if labels["cluster"] == w.cluster() {
			sums[labels["stage"]] = m.GetHistogram().GetSampleSum()
		}
	}
	return sums, nil
}

// asleep waits until the session is idle and its engine is stopped.
func (r *Rig) asleep(ctx context.Context, id string) error {
	for {
		state, err := r.field(ctx, "state", "session", "describe", id)
		if err != nil {
			return err
		}
		if state == "idle" {
			return wait(ctx, 5*time.Second) // registry_grace and a second, and the stop
		}
		if err := wait(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

// standing waits until an engine stands by, where one is to.
func (r *Rig) standing(ctx context.Context, w Way) error {
	for w.Warm {
		records, err := filepath.Glob(filepath.Join(r.cfg.Dir, "state", "engines", w.cluster(), "*", "engine.json"))
		if err != nil {
			return err
		}
		for _, path := range records {
			text, err := os.ReadFile(path)
			var engine struct{ Spec struct{ Generation uint64 } }
			if err == nil && json.Unmarshal(text, &engine) == nil && engine.Spec.Generation == 0 {
				return wait(ctx, time.Second) // it has just started
			}
		}
		if err := wait(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// command runs the program as a person would and returns what it printed.
func (r *Rig) command(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, r.binary, args...)
	cmd.Dir, cmd.Env = r.cfg.Dir, append(os.Environ(), r.env...)
	out, err := cmd.Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return "", fmt.Errorf("sconce %s: %w: %s", args[0], err, failed.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}

// field runs a command that prints JSON and returns one of its fields.
func (r *Rig) field(ctx context.Context, name string, args ...string) (string, error) {
	out, err := r.command(ctx, append(args, "--output", "json")...)
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

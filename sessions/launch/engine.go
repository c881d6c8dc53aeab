package launch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sconce-dev/sconce/sessions"
)

// Engine is what Process starts: a preset, or a command of one's own.
type Engine struct {
	// Preset is "sail" or "spark"; "" = Command.
	Preset string
	// Command is a program and its arguments. {port} becomes a free port on
	// 127.0.0.1, where the engine must listen; {dir} its working folder.
	Command []string
	// Python is the one that the preset's package is installed for; its programs
	// are looked for beside it.
	Python string
	// Env are NAME=value, besides what Inherit says and the preset sets. {token}
	// becomes a fresh pre-shared token, which Sconce then sends.
	Env []string
	// Memory of the engine, or of Spark's driver, in bytes; 0 = its own default.
	Memory int64
	// Cores it may use; 0 = its own default.
	Cores int
	// Spark is for that preset alone.
	Spark Spark
	// StartTimeout and StopTimeout bound a start, and an end before it is killed;
	// 0 = as the preset says.
	StartTimeout, StopTimeout time.Duration
	// StopSignal asks it to end; 0 = as the preset says.
	StopSignal syscall.Signal
}

// Inherit are the variables of Sconce's own environment that engines see too.
// Nothing else of it: a user's Python runs inside them.
func Inherit() []string {
	return []string{
		"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR",
		"JAVA_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR",
	}
}

// inherited picks those out of an environment.
func inherited(environ []string) (list []string) {
	for _, name := range Inherit() {
		if v, ok := lookup(environ, name); ok {
			list = append(list, name+"="+v)
		}
	}
	return list
}

func lookup(environ []string, name string) (value string, found bool) {
	for _, kv := range environ {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			value, found = v, true // the last one counts
		}
	}
	return value, found
}

// Start is what differs from one start of an engine to the next.
type Start struct {
	// Name is what it is called where it shows a name.
	Name string
	// Port to listen on; 0 = any, which it then says in its log.
	Port int
	// Dir is a folder for its files; "" = where it pleases.
	Dir string
	// Token to ask callers for; "" = none.
	Token string
	// KeepFor is how long it remembers a Spark session that nobody uses; 0 = as
	// it pleases.
	KeepFor time.Duration
	// Environ is what it inherits.
	Environ []string
}

// Preset is what is known of one kind of engine.
type Preset struct {
	// Name is as configurations say it, Title as people do; Setup is the make
	// target that prepares its Python.
	Name, Title, Setup string
	StartTimeout       time.Duration
	StopTimeout        time.Duration
	StopSignal         syscall.Signal

	// check says what is missing before it can start.
	check func(ctx context.Context, e Engine, environ []string) error
	// command returns program, arguments and environment.
	command func(e Engine, s Start) (argv, env []string)
	// says finds host:port in its log; nil = it cannot take port 0.
	says *regexp.Regexp
	// shows finds the port of its web pages in its log; nil = it has none.
	shows *regexp.Regexp
	// asks: it can be given a token.
	asks bool
	// distribution is the pip package whose version is its version.
	distribution string
}

// Presets are those there are.
func Presets() []Preset { return []Preset{sail(), spark()} }

// preset returns what is known of the engine.
func (e Engine) preset() (Preset, error) {
	if e.Preset == "" {
		return custom(e), nil
	}
	for _, p := range Presets() {
		if p.Name == e.Preset {
			return p, nil
		}
	}
	return Preset{}, fmt.Errorf("no preset %q: there are sail and spark", e.Preset)
}

// custom is a command template.
func custom(e Engine) Preset {
	p := Preset{
		Name: "command", Title: "the engine", StartTimeout: 2 * time.Minute, StopTimeout: 10 * time.Second, StopSignal: syscall.SIGTERM,
		check: checkCustom, command: customCommand,
	}
	for _, kv := range e.Env {
		p.asks = p.asks || strings.Contains(kv, "{token}")
	}
	return p
}

func checkCustom(_ context.Context, e Engine, _ []string) error {
	if !filepath.IsAbs(e.Command[0]) {
		return fmt.Errorf("the program %s has no full path: write one", e.Command[0])
	}
	info, err := os.Stat(e.Command[0])
	if err == nil && (info.IsDir() || info.Mode()&0o111 == 0) {
		err = fmt.Errorf("%s is no program", e.Command[0])
	}
	return err
}

func customCommand(e Engine, s Start) (argv, env []string) {
	fill := strings.NewReplacer("{port}", strconv.Itoa(s.Port), "{dir}", s.Dir)
	for _, a := range e.Command {
		argv = append(argv, fill.Replace(a))
	}
	return argv, s.Environ
}

// Check says what is missing before the engine can start.
func (e Engine) Check(ctx context.Context, environ []string) error {
	p, err := e.preset()
	if err != nil {
		return err
	}
	if e.Preset == "" && len(e.Command) == 0 {
		return fmt.Errorf("neither a preset nor a command")
	}
	return p.check(ctx, e, environ)
}

// Argv returns the program with its arguments, and its environment. No secret is
// in the arguments, which everybody on the machine can read.
func (e Engine) Argv(s Start) (argv, env []string, err error) {
	p, err := e.preset()
	if err != nil {
		return nil, nil, err
	}
	argv, env = p.command(e, s)
	for _, kv := range e.Env {
		env = append(env, strings.ReplaceAll(kv, "{token}", s.Token))
	}
	return argv, env, nil
}

// hash tells engines that are started differently apart.
func (e Engine) hash() string {
	b, err := json.Marshal(e)
	if err != nil {
		return "" // it holds nothing that cannot be written
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// withDefaults fills in what the preset says.
func (e Engine) withDefaults(p Preset) Engine {
	if e.StartTimeout == 0 {
		e.StartTimeout = p.StartTimeout
	}
	if e.StopTimeout == 0 {
		e.StopTimeout = p.StopTimeout
	}
	if e.StopSignal == 0 {
		e.StopSignal = p.StopSignal
	}
	return e
}

// beside is a program in the same folder as python: of the same environment.
func beside(python, program string) string { return filepath.Join(filepath.Dir(python), program) }

var distInfo = regexp.MustCompile(`-([0-9][^-]*)\.dist-info$`)

// version is that of the pip package beside python; "" = it cannot be told.
func version(python, distribution string) string {
	if distribution == "" {
		return ""
	}
	found, _ := filepath.Glob(filepath.Join(filepath.Dir(python), "..", "lib", "python3*", "site-packages", distribution+"-*.dist-info"))
	for _, f := range found {
		if m := distInfo.FindStringSubmatch(f); m != nil {
			return m[1]
		}
	}
	return ""
}

// secretName says whether a setting is kept out of logs: more than are kept out of what
// people are shown of a session, for nobody misses a value there.
func secretName(name string) bool {
	return sessions.SecretName(name) || strings.Contains(strings.ToLower(name), "key")
}

// redact takes what must not be shown out of a log: the token, and the configured
// settings whose names sound secret.
func (e Engine) redact(log, token string) string {
	hide := []string{token}
	for _, kv := range append(append([]string(nil), e.Env...), e.Spark.Conf...) {
		if name, value, _ := strings.Cut(kv, "="); secretName(name) {
			hide = append(hide, value)
		}
	}
	for _, s := range hide {
		if len(s) >= 4 {
			log = strings.ReplaceAll(log, s, "[redacted]")
		}
	}
	return log
}

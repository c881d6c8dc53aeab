package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// line is what a driver printed for one case.
type line struct {
	Case    string          `json:"case"`
	Seconds float64         `json:"seconds"`
	Result  json.RawMessage `json:"result"`
	Error   json.RawMessage `json:"error"`
}

// job is what py/driver.py reads from stdin.
type job struct {
	URL     string   `json:"url"`
	Other   string   `json:"other,omitempty"`
	Cases   []string `json:"cases"`
	Scratch string   `json:"scratch"`
	Rows    int      `json:"rows,omitempty"`
	Wide    int      `json:"wide,omitempty"` // how many hashes stand in a row; 0 = one
}

// failed says why a line is no proof of a right answer: an error, or a case that
// checked its own answer and found it wrong.
func (l line) failed() string {
	if l.Error != nil {
		return redact(shorten(string(l.Error)))
	}
	var judged struct{ Right *bool }
	if json.Unmarshal(l.Result, &judged) == nil && judged.Right != nil && !*judged.Right {
		return "wrong: " + redact(shorten(string(l.Result)))
	}
	if l.Result == nil {
		return "no answer"
	}
	return ""
}

// passing are the parts of an answer that differ from run to run, whoever answers.
var passing = []struct {
	is  *regexp.Regexp
	now string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "<uuid>"},
	{regexp.MustCompile(`#\d+L?`), "#n"},                               // ids of Spark's expressions
	{regexp.MustCompile(`ipv[46]:[^ ,"\\]+`), "<peer>"},                // whom the client dialled
	{regexp.MustCompile(`created_time:\\?"[^"]*"`), "<time>"},          // grpc's debug string
	{regexp.MustCompile(`(TID|task|stage|Stage) \d+(\.\d+)*`), "$1 n"}, // counters of the engine
	{regexp.MustCompile(`\$Lambda[^ (]*|0x[0-9a-f]+`), "<jvm>"},
}

// steady is the answer without what differs from run to run.
func (l line) steady() string {
	text := "result " + string(l.Result)
	if l.Error != nil {
		text = "error " + string(l.Error)
	}
	for _, part := range passing {
		text = part.is.ReplaceAllString(text, part.now)
	}
	return text
}

func shorten(text string) string {
	if len(text) <= 1500 {
		return text
	}
	return text[:1000] + " … " + text[len(text)-400:]
}

// python is one PySpark, in a virtual environment of its own.
type python struct {
	name string // as in the names of the subtests
	venv string
	// tlsOnly: it speaks TLS whenever it has a token, also to localhost.
	tlsOnly bool
}

func (p python) path(w *world) string {
	return filepath.Join(w.cache, "venv", p.venv, "bin", "python")
}

// run runs the cases in one process and returns a line for each of them.
func (p python) run(t *testing.T, w *world, j job, limit time.Duration) map[string]line {
	t.Helper()
	if j.Scratch == "" {
		j.Scratch = t.TempDir()
	}
	order, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	driver, err := filepath.Abs("py/driver.py")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(p.path(w), driver)
	cmd.Dir = j.Scratch
	cmd.Env = append(clean(os.Environ()),
		"PYTHONDONTWRITEBYTECODE=1", "PYSPARK_PYTHON="+p.path(w),
		"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH="+w.gate.ca)
	out, err := runLimited(cmd, string(order), limit)
	lines := read(t, out)
	if err != nil {
		t.Errorf("%s did not end well (cases done: %d of %d): %v", p.name, len(lines), len(j.Cases), err)
	}
	return lines
}

// clean takes out of the environment what would steer a Spark client.
func clean(environ []string) []string {
	var kept []string
	for _, pair := range environ {
		if !strings.HasPrefix(pair, "SPARK_") && !strings.HasPrefix(pair, "PYSPARK_") && !strings.HasPrefix(pair, "GRPC_") {
			kept = append(kept, pair)
		}
	}
	return kept
}

func read(t *testing.T, out string) map[string]line {
	t.Helper()
	lines := map[string]line{}
	scanner := bufio.NewScanner(strings.NewReader(out))
	scanner.Buffer(nil, 16<<20)
	for scanner.Scan() {
		var l line
		if err := json.Unmarshal(scanner.Bytes(), &l); err != nil {
			continue // a library that prints
		}
		lines[l.Case] = l
	}
	if err := scanner.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}

// compare holds one case through the gateway against the direct one.
func compare(direct, through line) error {
	if direct.Case == "" {
		return fmt.Errorf("the direct run has no answer for it")
	}
	if through.Case == "" {
		return fmt.Errorf("no answer through sconce")
	}
	if want, got := direct.steady(), through.steady(); got != want {
		return fmt.Errorf("differs from the direct one:\ndirect:  %s\nsconce:  %s", redact(shorten(want)), redact(shorten(got)))
	}
	return nil
}

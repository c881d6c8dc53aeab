package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// jvmCases is the list of jvm/Driver.java.
var jvmCases = []string{
	"version", "sql", "schema", "conf", "dataframe", "upload_small", "upload", "fetch",
	"error_analysis", "error_parse", "error_runtime", "view", "stop",
}

// TestJVM runs the short list with the JVM client 4.1, which over TLS sends its
// token as `authentication`.
func TestJVM(t *testing.T) {
	w := needs(t)
	store := trustStore(t, w)
	for _, e := range []*engine{w.sail, w.spark} {
		t.Run(e.name, func(t *testing.T) {
			direct := runJVM(t, w, store, e.url(e.address, "ada"))
			for _, name := range jvmCases {
				cannot := e.name == "Sail" && name == "upload" // ArtifactStatus
				if problem := direct[name].failed(); (problem != "") != cannot {
					t.Errorf("directly: %s: %s", name, problem)
				}
			}
			for _, way := range []struct{ name, host, field string }{
				{"TLS", "127.0.0.1", "authentication"}, {"plaintext", "localhost", "authorization"},
			} {
				t.Run(way.name, func(t *testing.T) {
					s := w.gate.open(t, "ada", e.cluster)
					through := runJVM(t, w, store, s.url(way.host))
					if got := s.credentials(t); len(got) != 1 || got[way.field] < len(jvmCases) {
						t.Errorf("streams by the field that their token came in: %v, want all by %s", got, way.field)
					}
					for _, name := range jvmCases {
						if err := compare(direct[name], through[name]); err != nil {
							t.Errorf("%s: %v", name, err)
						}
					}
				})
			}
		})
	}
}

// credentials counts the streams of the session that have ended, by the header
// field that their token came in, as the gateway logged them.
func (s *session) credentials(t *testing.T) map[string]int {
	t.Helper()
	text, err := os.ReadFile(s.gate.child.log)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for entry := range strings.Lines(string(text)) {
		var e struct{ Msg, Session, Credential string }
		if json.Unmarshal([]byte(entry), &e) == nil && e.Msg == "stream ended" && e.Session == s.ID {
			found[e.Credential]++
		}
	}
	return found
}

// trustStore is the private authority in the form that Java takes.
func trustStore(t *testing.T, w *world) string {
	t.Helper()
	store := filepath.Join(t.TempDir(), "trust.p12")
	out, err := exec.Command("keytool", "-importcert", "-noprompt", "-alias", "sconce", "-file", w.gate.ca,
		"-keystore", store, "-storetype", "PKCS12", "-storepass", "changeit").CombinedOutput()
	if err != nil {
		t.Fatalf("keytool: %v\n%s", err, out)
	}
	return store
}

func runJVM(t *testing.T, w *world, store, url string) map[string]line {
	t.Helper()
	return runJVMWith(t, w, store, url, 5*time.Minute)
}

// runJVMWith runs the driver with these settings of the JVM more.
func runJVMWith(t *testing.T, w *world, store, url string, limit time.Duration, settings ...string) map[string]line {
	t.Helper()
	home := filepath.Join(w.cache, "jvm")
	path, err := os.ReadFile(filepath.Join(home, "classpath"))
	if err != nil {
		t.Fatal(err)
	}
	settings = append(settings, "-Xmx1g",
		"--add-opens=java.base/java.nio=ALL-UNNAMED", "--add-opens=java.base/sun.util.calendar=ALL-UNNAMED",
		"-Djavax.net.ssl.trustStore="+store, "-Djavax.net.ssl.trustStorePassword=changeit",
		"-cp", filepath.Join(home, "classes")+":"+strings.TrimSpace(string(path)), "Driver")
	cmd := exec.Command("java", settings...)
	cmd.Env = clean(os.Environ())
	out, err := runLimited(cmd, url+"\n", limit)
	if err != nil {
		t.Errorf("the JVM client did not end well: %v", err)
	}
	return read(t, out)
}

package configs_test

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/sconce-dev/sconce/configs"
)

// written returns the lines of the struct's keys in text that lack a comment
// above them, and the keys that are not there at all.
func written(t *testing.T, tree map[string]any, typ reflect.Type, prefix string) (missing []string) {
	t.Helper()
	for i := range typ.NumField() {
		f := typ.Field(i)
		key := f.Tag.Get("yaml")
		if key == "" {
			t.Errorf("%s.%s has no yaml tag", typ, f.Name)
		}
		v, ok := tree[key]
		if !ok {
			missing = append(missing, prefix+key)
			continue
		}
		if f.Type.Kind() == reflect.Struct {
			sub, _ := v.(map[string]any)
			missing = append(missing, written(t, sub, f.Type, prefix+key+".")...)
		}
	}
	return missing
}

func parse(t *testing.T, text string) map[string]any {
	t.Helper()
	var tree map[string]any
	if err := yaml.Unmarshal([]byte(text), &tree); err != nil {
		t.Fatal(err)
	}
	return tree
}

func example(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// sample is the part of example.yaml that shows a list of clusters, brought to life.
func sample(t *testing.T) string {
	t.Helper()
	var lines []string
	for line := range strings.Lines(example(t)) {
		if strings.HasPrefix(line, "#clusters:") || len(lines) > 0 {
			if !strings.HasPrefix(line, "#") {
				break
			}
			lines = append(lines, line[1:])
		}
	}
	return strings.Join(lines, "")
}

// issuer is the part that shows an OIDC issuer, brought to life.
func issuer(t *testing.T) string {
	t.Helper()
	lines := []string{"auth:\n"}
	for line := range strings.Lines(example(t)) {
		commented, ok := strings.CutPrefix(line, "  #")
		if strings.HasPrefix(commented, "oidc:") || len(lines) > 1 {
			if !ok {
				break
			}
			lines = append(lines, "  "+commented)
		}
	}
	return strings.Join(lines, "")
}

func TestExampleShowsAnIssuer(t *testing.T) {
	list, _ := parse(t, issuer(t))["auth"].(map[string]any)["oidc"].([]any)
	if len(list) != 1 {
		t.Fatalf("the sample has %d issuers", len(list))
	}
	for _, key := range written(t, list[0].(map[string]any), reflect.TypeFor[configs.OIDC](), "auth.oidc[].") {
		t.Errorf("example.yaml lacks %s", key)
	}
	loads(t, issuer(t))
}

func TestExampleHasEveryKey(t *testing.T) {
	tree := parse(t, example(t))
	for _, key := range written(t, tree, reflect.TypeFor[configs.Config](), "") {
		t.Errorf("example.yaml lacks %s", key)
	}
	clusters, _ := parse(t, sample(t))["clusters"].([]any)
	if len(clusters) != 2 {
		t.Fatalf("the sample has %d clusters, want one that exists and one that is started", len(clusters))
	}
	cluster := map[string]any{} // no single one can have every key
	for _, c := range clusters {
		c, _ := c.(map[string]any)
		maps.Copy(cluster, c)
	}
	for _, key := range written(t, cluster, reflect.TypeFor[configs.Cluster](), "clusters[].") {
		t.Errorf("example.yaml lacks %s", key)
	}
}

func TestExampleIsTheDefaults(t *testing.T) {
	set := []string{"tls.require_tls=false", "auth.signing_key=."}
	got, err := configs.Load(configs.Sources{File: "example.yaml", Set: set})
	if err != nil {
		t.Fatal(err)
	}
	got.TLS.RequireTLS, got.Auth.SigningKey = true, ""
	if want := configs.Default(); !reflect.DeepEqual(got, want) {
		t.Errorf("example.yaml: %+v\ndefaults:     %+v", got, want)
	}
}

// TestExampleSaysWhatEachKeyMeans: a key that is not itself a heading has a
// comment above it, or follows its partner (cert and key) directly.
func TestExampleSaysWhatEachKeyMeans(t *testing.T) {
	said := false
	for n, line := range strings.Split(example(t), "\n") {
		switch text := strings.TrimSpace(strings.TrimPrefix(line, "#clusters")); {
		case text == "":
			said = false
		case strings.HasPrefix(text, "#"):
			said = true
		case strings.HasSuffix(text, ":") && said && strings.Contains(text, "addresses"):
		case strings.HasSuffix(text, ":"):
			said = false
		case !said:
			t.Errorf("example.yaml:%d: no comment says what this means: %s", n+1, text)
		}
	}
}

func TestExampleSampleLoads(t *testing.T) { loads(t, sample(t)) }

func loads(t *testing.T, text string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sample.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	set := []string{"tls.require_tls=false", "auth.signing_key=."}
	if _, err := configs.Load(configs.Sources{File: path, Set: set}); err != nil {
		t.Error(err)
	}
}

func TestDevLoads(t *testing.T) {
	if _, err := configs.Load(configs.Sources{File: "dev.yaml", Set: []string{"auth.signing_key=."}}); err != nil {
		t.Error(err)
	}
}

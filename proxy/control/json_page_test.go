package control_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	sconcev1 "github.com/sconce-dev/sconce/proto/sconce/v1"
)

// docs/json.md names every call, and all that each takes besides what stands in its path.
func TestJSONPageNamesWhatCallsTake(t *testing.T) {
	page, err := os.ReadFile("../../docs/json.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []protoreflect.FileDescriptor{sconcev1.File_sconce_v1_sessions_proto, sconcev1.File_sconce_v1_keys_proto, sconcev1.File_sconce_v1_clusters_proto} {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				wantJSONRow(t, string(page), methods.Get(j))
			}
		}
	}
}

// wantJSONRow looks for the row of a call: | `VERB path` | call | what it takes |.
func wantJSONRow(t *testing.T, page string, call protoreflect.MethodDescriptor) {
	t.Helper()
	row := regexp.MustCompile("(?m)^\\| `[A-Z]+ (\\S+)` \\| " + string(call.Name()) + `\b[^|]*\|(.*)$`).FindStringSubmatch(page)
	if row == nil {
		t.Errorf("docs/json.md has no row of %s", call.Name())
		return
	}
	words := regexp.MustCompile(`\w+`).FindAllString(row[2], -1)
	for i := range call.Input().Fields().Len() {
		field := call.Input().Fields().Get(i)
		// What stands in a path is the message's first field.
		inPath := strings.Contains(row[1], "{") && field.Number() == 1
		if !inPath && !slices.Contains(words, field.JSONName()) {
			t.Errorf("docs/json.md does not say that %s takes %s", call.Name(), field.JSONName())
		}
	}
}

package proto_test

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"

	sconcev1 "github.com/sconce-dev/sconce/proto/sconce/v1"
)

var update = flag.Bool("update", false, "write proto/sconce/v1/rest anew")

// restDir holds the JSON face: two files that say how, and what is made of them.
const restDir = "sconce/v1/rest"

// The committed JSON face must be what the plugins of grpc-gateway make of the
// .proto files, rest.yaml and openapi.yaml. With -update it is written.
func TestGeneratedRestIsFresh(t *testing.T) {
	sources, err := filepath.Glob("sconce/v1/*.proto")
	if err != nil || len(sources) == 0 {
		t.Fatalf("no .proto files: %v", err)
	}
	// In the package of its own, the messages are imported by their path.
	rename := ""
	for _, s := range sources {
		rename += ",M" + filepath.ToSlash(s) + "=github.com/sconce-dev/sconce/proto/sconce/v1;rest"
	}
	rules := "grpc_api_configuration=" + restDir + "/rest.yaml"
	want := map[string]string{}
	for name, text := range plugin(t, "protoc-gen-grpc-gateway", "paths=source_relative,standalone=true,"+rules+rename, sources) {
		want[filepath.Base(name)] = text
	}
	for _, text := range plugin(t, "protoc-gen-openapiv2", "allow_merge=true,openapi_naming_strategy=simple,openapi_configuration="+
		restDir+"/openapi.yaml,"+rules, sources) {
		want["openapi.json"] = text
	}
	if len(want) < 2 || want["openapi.json"] == "" {
		t.Fatalf("the plugins made %d files", len(want))
	}
	for name, text := range want {
		compare(t, filepath.Join(restDir, name), text)
	}
	have, err := filepath.Glob(restDir + "/*.pb.gw.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range have {
		if _, ok := want[filepath.Base(name)]; !ok {
			t.Errorf("%s comes of no .proto: remove it", name)
		}
	}
}

// compare holds a committed file against what was made anew.
func compare(t *testing.T, name, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if have, err := os.ReadFile(name); err != nil || string(have) != want {
		t.Errorf("%s is not what rest.yaml and the .proto say (%v): run proto/generate.sh", name, err)
	}
}

// plugin gives the sources to a plugin of protoc, a tool of go.mod, and returns
// the files that it makes.
func plugin(t *testing.T, name, parameter string, sources []string) map[string]string {
	t.Helper()
	in, err := proto.Marshal(&pluginpb.CodeGeneratorRequest{FileToGenerate: sources, Parameter: &parameter, ProtoFile: compiled(t, sources)})
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "go", "tool", name)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("go tool %s: %v: %s", name, err, &errs)
	}
	resp := &pluginpb.CodeGeneratorResponse{}
	if err := proto.Unmarshal(out.Bytes(), resp); err != nil || resp.Error != nil {
		t.Fatalf("%s: %v %s", name, err, resp.GetError())
	}
	made := map[string]string{}
	for _, f := range resp.GetFile() {
		made[f.GetName()] = f.GetContent()
	}
	return made
}

// compiled is the sources with all that they import, those that are imported
// first, and the comments, which become the descriptions.
func compiled(t *testing.T, sources []string) (list []*descriptorpb.FileDescriptorProto) {
	t.Helper()
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{"."}}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := compiler.Compile(t.Context(), sources...)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	var add func(protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		list = append(list, protodesc.ToFileDescriptorProto(f))
	}
	for _, f := range files {
		add(f)
	}
	return list
}

// Whatever can be called by gRPC can be called by JSON.
func TestEveryCallHasAPath(t *testing.T) {
	rules, err := os.ReadFile(restDir + "/rest.yaml")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(rules), "\n")
	for _, file := range []protoreflect.FileDescriptor{sconcev1.File_sconce_v1_sessions_proto, sconcev1.File_sconce_v1_keys_proto, sconcev1.File_sconce_v1_clusters_proto} {
		services := file.Services()
		for i := range services.Len() {
			methods := services.Get(i).Methods()
			for k := range methods.Len() {
				name := string(methods.Get(k).FullName())
				if !slices.Contains(lines, "    - selector: "+name) {
					t.Errorf("rest.yaml has no rule for %s: add one and run proto/generate.sh", name)
				}
			}
		}
	}
}

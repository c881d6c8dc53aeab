package proto_test

import (
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"

	sconcev1 "github.com/sconce-dev/sconce/proto/sconce/v1"
	"github.com/sconce-dev/sconce/proto/spark/connect"
)

// The committed Go must come from the committed .proto files.
func TestGeneratedGoIsFresh(t *testing.T) {
	generated := map[string]protoreflect.FileDescriptor{
		"sconce/v1/sessions.proto": sconcev1.File_sconce_v1_sessions_proto,
		"sconce/v1/clusters.proto": sconcev1.File_sconce_v1_clusters_proto,
		"sconce/v1/keys.proto":     sconcev1.File_sconce_v1_keys_proto,
		"spark/connect/base.proto": connect.File_spark_connect_base_proto,
	}
	compiler := protocompile.Compiler{
		Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{"."}}),
	}
	for path, have := range generated {
		t.Run(path, func(t *testing.T) {
			files, err := compiler.Compile(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			want := protodesc.ToFileDescriptorProto(files[0])
			if got := protodesc.ToFileDescriptorProto(have); !proto.Equal(want, got) {
				t.Error("the generated Go differs from the .proto: run proto/generate.sh")
			}
		})
	}
}

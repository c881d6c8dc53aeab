package proto_test

import (
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sconce-dev/sconce/proto/spark/connect"
)

// The numbers that the real clients and servers use on the wire. The third is
// client_observed_server_side_session_id in the request, the fourth
// server_side_session_id in the response; 0 = the message has none.
func TestSparkFieldNumbers(t *testing.T) {
	methods := map[protoreflect.Name][4]protoreflect.FieldNumber{
		"ExecutePlan":       {1, 2, 8, 15},
		"AnalyzePlan":       {1, 2, 17, 15},
		"Config":            {1, 2, 8, 4},
		"AddArtifacts":      {1, 2, 7, 3},
		"ArtifactStatus":    {1, 2, 5, 3},
		"Interrupt":         {1, 2, 7, 3},
		"ReattachExecute":   {1, 2, 6, 15},
		"ReleaseExecute":    {1, 2, 7, 3},
		"ReleaseSession":    {1, 2, 0, 2},
		"FetchErrorDetails": {1, 2, 5, 3},
		"CloneSession":      {1, 2, 5, 2},
		"GetStatus":         {1, 2, 4, 2},
	}
	service := connect.File_spark_connect_base_proto.Services().ByName("SparkConnectService")
	if got := service.Methods().Len(); got != len(methods) {
		t.Errorf("the service has %d methods, the table %d", got, len(methods))
	}
	for name, want := range methods {
		m := service.Methods().ByName(name)
		if m == nil {
			t.Errorf("the service has no %s", name)
			continue
		}
		got := [4]protoreflect.FieldNumber{
			number(m.Input(), "session_id"), number(m.Input(), "user_context"),
			number(m.Input(), "client_observed_server_side_session_id"), number(m.Output(), "server_side_session_id"),
		}
		if got != want {
			t.Errorf("%s: numbers %v, want %v", name, got, want)
		}
	}
}

func number(m protoreflect.MessageDescriptor, field protoreflect.Name) protoreflect.FieldNumber {
	f := m.Fields().ByName(field)
	if f == nil {
		return 0
	}
	return f.Number()
}

package proxy

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// sparkFields reads testdata/spark-connect-4.2.0.txt: what PySpark's own
// descriptors say.
func sparkFields(t *testing.T) (methods map[string][]string, fields map[string]string) {
	t.Helper()
	text, err := os.ReadFile("testdata/spark-connect-4.2.0.txt")
	if err != nil {
		t.Fatal(err)
	}
	methods, fields = make(map[string][]string), make(map[string]string)
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		switch {
		case words[0] == "#":
		case words[0] == "method":
			methods[words[1]] = words[2:]
		default:
			fields[words[0]+"."+words[2]] = strings.Join([]string{words[1], words[3], words[4]}, " ")
		}
	}
	return methods, fields
}

func TestSparkMethodsAreThoseOfPySpark(t *testing.T) {
	want, fields := sparkFields(t)
	methods := sparkMethodsFor(t)
	if len(methods) != 12 || len(want) != 12 {
		t.Fatalf("%d methods served, PySpark knows %d", len(methods), len(want))
	}
	for name, w := range want {
		m := methods["/spark.connect.SparkConnectService/"+name]
		if m == nil || m.Name != name {
			t.Errorf("%s is not served", name)
			continue
		}
		shape := map[string]Shape{"false false": Unary, "true false": ClientStream, "false true": ServerStream}[w[0]+" "+w[1]]
		if m.Shape != shape {
			t.Errorf("%s: shape %d, want %d", name, m.Shape, shape)
		}
		request := w[2]
		checkSparkField(t, fields, request+".session_id", fieldSession, "string single")
		checkSparkField(t, fields, request+".user_context", fieldUser, "message single")
		if _, has := fields[request+".operation_id"]; has != m.Follows {
			t.Errorf("%s: Follows = %v", name, m.Follows)
		}
		if _, has := fields[request+".new_session_id"]; has != m.Clones {
			t.Errorf("%s: Clones = %v", name, m.Clones)
		}
	}
	checkSparkField(t, fields, "UserContext.user_id", fieldUserID, "string single")
	checkSparkField(t, fields, "CloneSessionRequest.new_session_id", fieldNewSession, "string single")
}

func checkSparkField(t *testing.T, fields map[string]string, name string, number int, kind string) {
	t.Helper()
	if want := strconv.Itoa(number) + " " + kind; fields[name] != want {
		t.Errorf("%s is %q, want %q", name, fields[name], want)
	}
}

// The schemas are opaque, so they are asked: the operation_id at PySpark's
// number must come out, and nothing at any other.
func TestSparkSchemasFollowPySparksNumbers(t *testing.T) {
	want, fields := sparkFields(t)
	for name, w := range want {
		number, _, has := strings.Cut(fields[w[2]+".operation_id"], " ")
		for n := 3; n <= 9; n++ {
			if fieldNewSession == n && name == "CloneSession" || (name == "ExecutePlan" || name == "ReleaseExecute") && n == 5 {
				continue // of another kind
			}
			d := newDrive(t, name)
			m := slices.Concat(field(1, sparkA), field(protowire.Number(n), "op"))
			d.feed(true, grpcMessage(m))
			d.passes()
			if got := string(d.stamp.operation()); (got == "op") != (has && number == strconv.Itoa(n)) {
				t.Errorf("%s: field %d: operation %q", name, n, got)
			}
		}
	}
}

func TestSparkRequestOptionsFollowPySparksNumbers(t *testing.T) {
	_, fields := sparkFields(t)
	checkSparkField(t, fields, "ExecutePlanRequest.request_options", 5, "message repeated")
	checkSparkField(t, fields, "ExecutePlanRequest.RequestOption.reattach_options", 1, "message single")
	checkSparkField(t, fields, "ReattachOptions.reattachable", 1, "bool single")
	d := newDrive(t, "ExecutePlan")
	d.feed(true, grpcMessage(slices.Concat(field(1, sparkA), reattach(true))))
	d.passes()
	if !d.stamp.reattachable() {
		t.Error("request_options.reattach_options.reattachable was not seen")
	}
}

func TestSparkReleaseAllFollowsPySparksNumber(t *testing.T) {
	_, fields := sparkFields(t)
	checkSparkField(t, fields, "ReleaseExecuteRequest.release_all", 5, "message single")
	for number, all := range map[protowire.Number]bool{5: true, 6: false} {
		d := newDrive(t, "ReleaseExecute")
		d.feed(true, grpcMessage(slices.Concat(field(1, sparkA), field(number, ""))))
		d.passes()
		if got, _ := d.stamp.follow.Varint(slotReleaseAll); (got != 0) != all {
			t.Errorf("field %d: release_all is %d", number, got)
		}
	}
}

func TestSparkPathsAreExact(t *testing.T) {
	methods := sparkMethodsFor(t)
	for _, path := range []string{
		"", "*", "/", "spark.connect.SparkConnectService/Config", "//spark.connect.SparkConnectService/Config",
		"/x/../spark.connect.SparkConnectService/Config", "/spark.connect.SparkConnectService/Config/",
		"/spark.connect.SparkConnectService/Config?x=1", "/spark.connect.SparkConnectService/%43onfig",
		"/spark.connect.SparkConnectService/config", "/spark%2econnect.SparkConnectService/Config",
		"/spark.connect.SparkConnectService/", "/spark.connect.SparkConnectService/Nope",
		"/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
	} {
		if m := methods[path]; m != nil {
			t.Errorf("%q is served as %s", path, m.Name)
		}
	}
	path := []byte("/spark.connect.SparkConnectService/Config")
	if n := testing.AllocsPerRun(100, func() {
		if methods[string(path)] == nil {
			t.Fatal("Config is not served")
		}
	}); n != 0 {
		t.Errorf("%v allocations in a lookup", n)
	}
}

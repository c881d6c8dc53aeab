package proxy

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/sconce-dev/sconce/proto/spark/connect"
	"github.com/sconce-dev/sconce/sessions"
)

// plan is an ExecutePlanRequest of a plan, in the order in which clients write it.
func plan(p *connect.Plan) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(&connect.ExecutePlanRequest{
		SessionId: sparkA, UserContext: &connect.UserContext{UserId: "alice"}, Plan: p,
		ClientType: proto.String("_SPARK_CONNECT_PYTHON"), OperationId: proto.String(sparkB),
	})
	if err != nil {
		panic(err)
	}
	return b
}

func root(r *connect.Relation) []byte {
	r.Common = &connect.RelationCommon{PlanId: proto.Int64(7)}
	return plan(&connect.Plan{OpType: &connect.Plan_Root{Root: r}})
}

func command(c *connect.Command) []byte {
	return plan(&connect.Plan{OpType: &connect.Plan_Command{Command: c}})
}

func sqlRelation(sql string) *connect.Relation {
	return &connect.Relation{RelType: &connect.Relation_Sql{Sql: &connect.SQL{Query: sql}}}
}

func sqlCommand(c *connect.SqlCommand) []byte {
	return command(&connect.Command{CommandType: &connect.Command_SqlCommand{SqlCommand: c}})
}

func viewCommand(input *connect.Relation, name string, global bool) *connect.Command {
	return &connect.Command{CommandType: &connect.Command_CreateDataframeView{CreateDataframeView: &connect.CreateDataFrameViewCommand{
		Input: input, Name: name, IsGlobal: global,
	}}}
}

// other is a relation or command that this proto does not know.
func other(field protowire.Number, size int) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), make([]byte, size))
}

func unknownRelation(field protowire.Number, size int) *connect.Relation {
	r := &connect.Relation{}
	r.ProtoReflect().SetUnknown(other(field, size))
	return r
}

func unknownCommand(field protowire.Number) *connect.Command {
	c := &connect.Command{}
	c.ProtoReflect().SetUnknown(other(field, 5))
	return c
}

func catalog(c *connect.Catalog) *connect.Relation {
	return &connect.Relation{RelType: &connect.Relation_Catalog{Catalog: c}}
}

func packed(t testing.TB, kind connect.Plan_CompressedOperation_OpType, codec connect.CompressionCodec, m proto.Message) []byte {
	t.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return plan(&connect.Plan{OpType: &connect.Plan_CompressedOperation_{CompressedOperation: &connect.Plan_CompressedOperation{
		Data: w.EncodeAll(raw, nil), OpType: kind, CompressionCodec: codec,
	}}})
}

func configOf(op *connect.ConfigRequest_Operation) []byte {
	b, err := proto.Marshal(&connect.ConfigRequest{SessionId: sparkA, UserContext: &connect.UserContext{UserId: "a"}, Operation: op})
	if err != nil {
		panic(err)
	}
	return b
}

func pairs(keys ...string) (list []*connect.KeyValue) {
	for _, k := range keys {
		list = append(list, &connect.KeyValue{Key: k, Value: proto.String("v")})
	}
	return list
}

type scanCase struct {
	name, method string
	message      []byte
	want         string // as short words the entry
	within       int    // of the message are enough to let it go; 0 = it is kept
}

func scanCases(t testing.TB) []scanCase {
	const zstdCodec = connect.CompressionCodec_COMPRESSION_CODEC_ZSTD
	view := "temporary view `v` | makes v"
	return []scanCase{
		{"a query", "ExecutePlan", root(unknownRelation(3, 1<<20)), "", 100},
		{"a SELECT", "ExecutePlan", root(sqlRelation("SELECT " + strings.Repeat("x", 9000))), "", 110},
		{"a SELECT as a command", "ExecutePlan", sqlCommand(&connect.SqlCommand{Input: sqlRelation("SELECT 1")}), "", 110},
		{"an INSERT, in the old field", "ExecutePlan", sqlCommand(&connect.SqlCommand{Sql: "INSERT INTO t SELECT 1"}), "", 110},
		{"a write", "ExecutePlan", command(unknownCommand(2)), "", 100},
		{"an extension", "ExecutePlan", command(unknownCommand(999)), "", 100},
		{"the tables of a catalog", "ExecutePlan", root(catalog(&connect.Catalog{})), "", 0},
		{"no plan", "ExecutePlan", plan(nil), "", 200},
		{"a compressed query", "ExecutePlan", packed(t, connect.Plan_CompressedOperation_OP_TYPE_RELATION, zstdCodec, viewCommand(nil, "v", false)), "", 0},

		{"SQL", "ExecutePlan", sqlCommand(&connect.SqlCommand{Input: sqlRelation("CREATE TEMP VIEW v AS SELECT 1")}), view, 0},
		{"SQL in the old field", "ExecutePlan", sqlCommand(&connect.SqlCommand{Sql: "CREATE TEMP VIEW v AS SELECT 1"}), view, 0},
		{"SQL as a relation", "ExecutePlan", root(sqlRelation("CREATE TEMP VIEW v AS SELECT 1")), view, 0},
		{"SQL beside DataFrames", "ExecutePlan", sqlCommand(&connect.SqlCommand{Input: &connect.Relation{
			Common: &connect.RelationCommon{PlanId: proto.Int64(1)},
			RelType: &connect.Relation_WithRelations{WithRelations: &connect.WithRelations{
				Root: sqlRelation("CREATE TEMP VIEW v AS SELECT * FROM df"), References: []*connect.Relation{unknownRelation(11, 5000)},
			}}}}), view, 0},
		{"a long comment", "ExecutePlan", sqlCommand(&connect.SqlCommand{Sql: "/*" + strings.Repeat("SELECT ", 5000) + "*/ CREATE TEMP VIEW v AS SELECT 1"}), view, 0},
		{"a view of a DataFrame", "ExecutePlan", command(viewCommand(unknownRelation(11, 1<<20), "V", false)), "temporary view `V` | makes v", 0},
		{"a global view", "ExecutePlan", command(viewCommand(unknownRelation(11, 9), "V", true)), "temporary view `global_temp`.`V` | makes global_temp.v", 0},
		{"a function", "ExecutePlan", command(&connect.Command{CommandType: &connect.Command_RegisterFunction{
			RegisterFunction: &connect.CommonInlineUserDefinedFunction{FunctionName: "f"}}}), "function `f`", 0},
		{"a table function", "ExecutePlan", command(&connect.Command{CommandType: &connect.Command_RegisterTableFunction{
			RegisterTableFunction: &connect.CommonInlineUserDefinedTableFunction{FunctionName: "f"}}}), "table function `f`", 0},
		{"a data source", "ExecutePlan", command(&connect.Command{CommandType: &connect.Command_RegisterDataSource{
			RegisterDataSource: &connect.CommonInlineUserDefinedDataSource{Name: "f"}}}), "data source `f`", 0},
		{"a stream", "ExecutePlan", command(&connect.Command{CommandType: &connect.Command_WriteStreamOperationStart{
			WriteStreamOperationStart: &connect.WriteStreamOperationStart{}}}), "a streaming query | lost it ended with its engine | notable", 0},
		{"a database", "ExecutePlan", root(catalog(&connect.Catalog{CatType: &connect.Catalog_SetCurrentDatabase{
			SetCurrentDatabase: &connect.SetCurrentDatabase{DbName: "d"}}})), "the current database", 0},
		{"a catalog", "ExecutePlan", root(catalog(&connect.Catalog{CatType: &connect.Catalog_SetCurrentCatalog{
			SetCurrentCatalog: &connect.SetCurrentCatalog{CatalogName: "c"}}})), "the current catalog", 0},
		{"a drop", "ExecutePlan", root(catalog(&connect.Catalog{CatType: &connect.Catalog_DropTempView{
			DropTempView: &connect.DropTempView{ViewName: "V"}}})), "the drop of temporary view `V` | drops v", 0},
		{"a cache", "ExecutePlan", root(catalog(&connect.Catalog{CatType: &connect.Catalog_CacheTable{
			CacheTable: &connect.CacheTable{TableName: "t"}}})), "the cache of table `t` | lost what an engine caches ends with it", 0},
		{"a compressed view", "ExecutePlan", packed(t, connect.Plan_CompressedOperation_OP_TYPE_COMMAND, zstdCodec, viewCommand(unknownRelation(11, 1<<20), "v", false)), view, 0},
		{"a compressed write", "ExecutePlan", packed(t, connect.Plan_CompressedOperation_OP_TYPE_COMMAND, zstdCodec, unknownCommand(2)), "", 0},
		{"compressed otherwise", "ExecutePlan", packed(t, connect.Plan_CompressedOperation_OP_TYPE_COMMAND, 9, viewCommand(nil, "v", false)), "a command that was sent compressed | lost it could not be read | notable", 0},

		{"get", "Config", configOf(&connect.ConfigRequest_Operation{OpType: &connect.ConfigRequest_Operation_Get{Get: &connect.ConfigRequest_Get{Keys: []string{"a"}}}}), "", 100},
		{"set", "Config", configOf(&connect.ConfigRequest_Operation{OpType: &connect.ConfigRequest_Operation_Set{Set: &connect.ConfigRequest_Set{Pairs: pairs("a")}}}), "the configuration a | replaces conf a", 0},
		{"set several", "Config", configOf(&connect.ConfigRequest_Operation{OpType: &connect.ConfigRequest_Operation_Set{Set: &connect.ConfigRequest_Set{Pairs: pairs("b", "a", "b")}}}), "the configuration a, b | replaces conf a, b", 0},
		{"unset", "Config", configOf(&connect.ConfigRequest_Operation{OpType: &connect.ConfigRequest_Operation_Unset{Unset: &connect.ConfigRequest_Unset{Keys: []string{"a"}}}}), "the configuration a | replaces conf a", 0},
	}
}

// scanOf scans a message in pieces and returns the verdict and how much of the
// message it took.
func scanOf(root *scanNode, message []byte, piece int) (scanVerdict, int) {
	var s scan
	s.start(root, uint64(len(message)))
	took := 0
	for rest := message; s.verdict == scanOpen && len(rest) > 0; {
		n := min(piece, len(rest))
		s.next(rest[:n])
		took += n
		rest = rest[n:]
	}
	return s.next(nil), took
}

func TestScan(t *testing.T) {
	methods := sparkMethodsFor(t)
	for _, c := range scanCases(t) {
		t.Run(c.name, func(t *testing.T) {
			e := readState(c.method, [][]byte{c.message})
			if got := short(e); got != c.want {
				t.Errorf("read as %q, want %q", got, c.want)
			}
			if e != nil && e.Lost == "" && !slices.Equal(e.Message, c.message) {
				t.Error("the message is not kept as it came")
			}
			for _, piece := range []int{1, 7, 64, 1 << 30} {
				verdict, took := scanOf(methods[sparkService+c.method].State, c.message, piece)
				switch {
				case c.within == 0 && e != nil && verdict != scanKeep:
					t.Errorf("in pieces of %d: let go", piece)
				case c.within > 0 && verdict != scanLetGo:
					t.Errorf("in pieces of %d: not let go", piece)
				case c.within > 0 && piece < 100 && took > c.within+piece:
					t.Errorf("in pieces of %d: let go after %d bytes, want %d", piece, took, c.within)
				}
			}
		})
	}
}

// Whatever changes a session as it is read whole, the scan must have kept; and how
// the bytes come must not matter.
func FuzzScan(f *testing.F) {
	for _, c := range scanCases(f) {
		if len(c.message) < 1<<12 {
			f.Add(c.message, c.method == "Config", 5)
		}
	}
	scans := newScans()
	f.Fuzz(func(t *testing.T, message []byte, config bool, piece int) {
		if piece < 1 {
			return
		}
		method, root, m := "ExecutePlan", scans.plan, proto.Message(&connect.ExecutePlanRequest{})
		if config {
			method, root, m = "Config", scans.config, &connect.ConfigRequest{}
		}
		verdict, _ := scanOf(root, message, 1<<30)
		if again, _ := scanOf(root, message, piece); again != verdict {
			t.Fatalf("verdict %d, in pieces of %d %d", verdict, piece, again)
		}
		if proto.Unmarshal(message, m) != nil {
			return // no engine does it
		}
		if verdict == scanOpen && readState(method, [][]byte{message}) != nil {
			t.Fatal("no verdict at the end")
		}
		// Clients write each field once, in order. One that does not harms nobody but
		// its own session, so only such messages count.
		if clean, err := (proto.MarshalOptions{Deterministic: true}).Marshal(m); err != nil || !slices.Equal(clean, message) {
			return
		}
		if e := readState(method, [][]byte{message}); e != nil && verdict != scanKeep && !manyFields(message) {
			t.Fatalf("let go: %s", short(e))
		}
	})
}

// manyFields says that a message on the way to what decides names two of a oneof.
func manyFields(message []byte) bool {
	for _, path := range [][]protowire.Number{{3}, {3, 1}, {3, 2}, {3, 1, 200}, {3, 2, 5}, {3, 2, 5, 6}, {3, 2, 5, 6, 41}, {3, 2, 5, 6, 41, 1}, {3, 1, 10}, {3, 2, 5, 6, 10}} {
		seen := 0
		for b := dig(message, path...); len(b) > 0; {
			number, kind, n := protowire.ConsumeTag(b)
			if n < 0 {
				return true
			}
			size := protowire.ConsumeFieldValue(number, kind, b[n:])
			if size < 0 {
				return true
			}
			if number != 1 || len(path) == 2 && path[1] == 2 {
				seen++
			}
			b = b[n+size:]
		}
		if seen > 1 {
			return true
		}
	}
	return false
}

func upload(t testing.TB, payloads ...*connect.AddArtifactsRequest) (list [][]byte) {
	t.Helper()
	for _, p := range payloads {
		p.SessionId = sparkA
		b, err := proto.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, b)
	}
	return list
}

func chunkOf(data string) *connect.AddArtifactsRequest_ArtifactChunk {
	return &connect.AddArtifactsRequest_ArtifactChunk{Data: []byte(data), Crc: int64(crc32.ChecksumIEEE([]byte(data)))}
}

func batch(files ...string) *connect.AddArtifactsRequest {
	b := &connect.AddArtifactsRequest_Batch{}
	for _, f := range files {
		name, data, _ := strings.Cut(f, "=")
		b.Artifacts = append(b.Artifacts, &connect.AddArtifactsRequest_SingleChunkArtifact{Name: name, Data: chunkOf(data)})
	}
	return &connect.AddArtifactsRequest{Payload: &connect.AddArtifactsRequest_Batch_{Batch: b}}
}

func beginChunk(name, data string) *connect.AddArtifactsRequest {
	return &connect.AddArtifactsRequest{Payload: &connect.AddArtifactsRequest_BeginChunk{
		BeginChunk: &connect.AddArtifactsRequest_BeginChunkedArtifact{Name: name, InitialChunk: chunkOf(data)},
	}}
}

func chunk(data string) *connect.AddArtifactsRequest {
	return &connect.AddArtifactsRequest{Payload: &connect.AddArtifactsRequest_Chunk{Chunk: chunkOf(data)}}
}

func TestReadArtifacts(t *testing.T) {
	damaged := chunk("bad")
	damaged.GetChunk().Crc++
	for name, c := range map[string]struct {
		messages [][]byte
		want     string
	}{
		"files":           {upload(t, batch("files/a=1", "jars/b=")), "files/a=1 jars/b="},
		"chunks":          {upload(t, batch("a=1"), beginChunk("b", "x"), chunk("y"), chunk("z"), beginChunk("c", "1"), batch("d=2")), "a=1 b=xyz c=1 d=2"},
		"damaged":         {upload(t, beginChunk("b", "x"), damaged, batch("d=2")), "d=2"},
		"files that last": {upload(t, batch("forward_to_fs/a=1", "files/b=2", "forward_to_fs=3"), beginChunk("forward_to_fs/c/d", "x"), chunk("y")), "files/b=2 forward_to_fs=3"},
		"only these":      {upload(t, batch("./forward_to_fs//a=1")), ""},
		"chunk alone":     {upload(t, chunk("x")), ""},
		"not protobuf":    {[][]byte{{0xff}}, ""},
		"nothing":         {upload(t, &connect.AddArtifactsRequest{}), ""},
	} {
		e := readState("AddArtifacts", c.messages)
		var got []string
		if e != nil {
			for _, a := range e.Artifacts {
				got = append(got, a.Name+"="+string(a.Data))
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", name, got, c.want)
		}
	}
}

// feed has a capture see messages, in pieces.
func feed(c *capture, root *scanNode, piece int, messages ...[]byte) {
	for _, m := range messages {
		c.begin(root, uint64(len(m)))
		for rest := m; len(rest) > 0; {
			n := min(piece, len(rest))
			c.add(rest[:n])
			rest = rest[n:]
		}
		c.end()
	}
}

func TestCapture(t *testing.T) {
	scans := newScans()
	view := command(viewCommand(unknownRelation(11, 5000), "v", false))
	for _, c := range []struct {
		name, method string
		root         *scanNode
		messages     [][]byte
		want         string
	}{
		{"a query", "ExecutePlan", scans.plan, [][]byte{root(unknownRelation(3, 1<<20))}, ""},
		{"a view", "ExecutePlan", scans.plan, [][]byte{view}, "temporary view `v` | makes v"},
		{"a small act", "ExecutePlan", scans.plan, [][]byte{sqlCommand(&connect.SqlCommand{Sql: "USE d"})}, "the current catalog and database (USE)"},
		{"a view over the cap", "ExecutePlan", scans.plan, [][]byte{command(viewCommand(unknownRelation(11, 9000), "v", false))},
			"a temporary view that was made of a DataFrame | lost it is larger than 8000 bytes, the most that is kept of one act | notable"},
		{"SQL over the cap", "ExecutePlan", scans.plan, [][]byte{sqlCommand(&connect.SqlCommand{Sql: "SET a=" + strings.Repeat("x", 9000)})},
			"what a SQL statement changed | lost it is larger than 8000 bytes, the most that is kept of one act | notable"},
		{"a configuration of a long name", "ExecutePlan", scans.plan, [][]byte{sqlCommand(&connect.SqlCommand{Sql: "SET " + strings.Repeat("x", 250) + "=1"})},
			"the configuration " + strings.Repeat("x", 182) + "... | replaces conf " + strings.Repeat("x", 250)},
		{"an upload", "AddArtifacts", nil, upload(t, beginChunk("b", strings.Repeat("x", 3000)), chunk(strings.Repeat("y", 3000))), "artifact b"},
		{"an upload over the cap", "AddArtifacts", nil, upload(t, beginChunk("b", strings.Repeat("x", 9000)), chunk(strings.Repeat("y", 9000)), chunk("z")),
			"artifact b | lost it is larger than 16000 bytes, the most that is kept of one act | notable"},
		{"a file that lasts over the cap", "AddArtifacts", nil, upload(t, beginChunk("forward_to_fs/b", strings.Repeat("x", 9000)), chunk(strings.Repeat("y", 9000))), ""},
	} {
		for _, piece := range []int{1, 100, 1 << 30} {
			t.Run(fmt.Sprint(c.name, " by ", piece), func(t *testing.T) {
				cfg := &captureConfig{entry: 8000, artifacts: 16000, inFlight: 1 << 20}
				k := &capture{cfg: cfg}
				feed(k, c.root, piece, c.messages...)
				var e *sessions.Entry
				var err error
				if k.has() {
					own := k.move()
					if e, err = own.entry(t.Context(), c.method); err != nil {
						t.Fatal(err)
					}
					own.release()
				}
				if got := short(e); got != c.want {
					t.Errorf("entry %q, want %q", got, c.want)
				}
				if e != nil && e.Message != nil && !slices.Equal(e.Message, c.messages[0]) {
					t.Error("the message is not as it came")
				}
				k.release()
				if held := cfg.held.Load(); held != 0 {
					t.Errorf("%d bytes are still held", held)
				}
			})
		}
	}
}

// The room of the process is shared, given back, and what finds none is not lost in silence.
func TestCaptureInFlight(t *testing.T) {
	cfg := &captureConfig{entry: 8000, artifacts: 16000, inFlight: 10000}
	scans := newScans()
	view := command(viewCommand(unknownRelation(11, 5000), "v", false))
	first, second := &capture{cfg: cfg}, &capture{cfg: cfg}
	feed(first, scans.plan, 100, view)
	feed(second, scans.plan, 100, view)
	if e, err := first.move().entry(t.Context(), "ExecutePlan"); err != nil || e.Lost != "" {
		t.Error("the first was not kept")
	}
	if e, err := second.move().entry(t.Context(), "ExecutePlan"); err != nil || !strings.Contains(e.Lost, "no room") || !e.Notable {
		t.Errorf("the second: %s", short(e))
	}
}

// One compressed plan is read at a time, and who waits for that gives up when told to.
func TestCaptureOfCompressedPlans(t *testing.T) {
	cfg := &captureConfig{entry: 8000, artifacts: 16000, inFlight: 1 << 20}
	k := &capture{cfg: cfg}
	feed(k, newScans().plan, 100, packed(t, connect.Plan_CompressedOperation_OP_TYPE_COMMAND, connect.CompressionCodec_COMPRESSION_CODEC_ZSTD, viewCommand(unknownRelation(11, 1<<20), "v", false)))
	own := k.move()
	defer own.release()
	unpacking <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if e, err := own.entry(ctx, "ExecutePlan"); e != nil || !errors.Is(err, sessions.ErrUnavailable) {
		t.Errorf("while another is read: %v, %v", e, err)
	}
	<-unpacking
	if e, err := own.entry(t.Context(), "ExecutePlan"); err != nil || short(e) != "temporary view `v` | makes v" {
		t.Errorf("then: %s, %v", short(e), err)
	}
	if len(unpacking) != 0 {
		t.Error("the next has to wait for ever")
	}
}

// A query that comes whole is looked at without a copy or an allocation.
func TestCaptureOfAQueryAllocatesNothing(t *testing.T) {
	cfg := &captureConfig{entry: 1 << 20, artifacts: 1 << 20, inFlight: 1 << 20}
	scans, message := newScans(), root(unknownRelation(3, 4000))
	k := &capture{}
	n := testing.AllocsPerRun(100, func() {
		*k = capture{cfg: cfg}
		k.begin(scans.plan, uint64(len(message)))
		k.add(message[:38])
		k.add(message[38:])
		k.end()
	})
	if n != 0 || k.has() || cfg.held.Load() != 0 {
		t.Errorf("%v allocations, kept %v", n, k.has())
	}
}

package proxy

import (
	"hash/crc32"
	"path"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/sconce-dev/sconce/proto/spark/connect"
	"github.com/sconce-dev/sconce/sessions"
)

// readState says what a whole request does to its Spark session: the entry for its
// journal, or nil where it changes nothing. messages are the request's, as the
// client sent them.
func readState(method string, messages [][]byte) *sessions.Entry {
	if len(messages) == 0 {
		return nil
	}
	var e *sessions.Entry
	switch method {
	case "ExecutePlan":
		e = readPlan(dig(messages[0], 3))
	case "Config":
		e = readConfig(dig(messages[0], 3))
	case "AddArtifacts":
		e = readArtifacts(messages)
	}
	if e == nil {
		return nil
	}
	e.Method = method
	if method != "AddArtifacts" && e.Lost == "" {
		e.Message = messages[0]
	}
	return e
}

func readPlan(plan []byte) *sessions.Entry {
	command, relation := dig(plan, 2), dig(plan, 1)
	if packed := dig(plan, 3); packed != nil {
		var refused *sessions.Entry
		if command, refused = unpack(packed); refused != nil {
			return refused
		}
	}
	switch {
	case command != nil:
		return readCommand(command)
	case relation == nil:
		return nil
	}
	if catalog := dig(relation, 200); catalog != nil {
		return readCatalog(catalog)
	}
	return readSQL(dig(relation, 10, 1))
}

func readCommand(c []byte) *sessions.Entry {
	number, _, _ := protowire.ConsumeTag(c)
	body := dig(c, number)
	named := func(kind string, field protowire.Number) *sessions.Entry {
		return &sessions.Entry{What: kind + " " + quote([]string{string(dig(body, field))})}
	}
	ends := func(what, why string, notable bool) *sessions.Entry {
		return &sessions.Entry{What: what, Lost: why, Notable: notable}
	}
	switch number {
	case 1:
		return named("function", 1)
	case 3:
		return readView(body)
	case 5:
		return readSQL(statementText(body))
	case 6:
		return ends("a streaming query", "it ended with its engine", true)
	case 10:
		return named("table function", 1)
	case 11:
		return ends("a listener to streaming queries", "it ended with its engine", true)
	case 12:
		return named("data source", 1)
	case 14:
		return ends("a checkpointed DataFrame", "what an engine keeps of a query ends with it", false)
	case 17:
		return ends("a model of machine learning", "what an engine keeps of a model ends with it", false)
	}
	return nil
}

func readView(view []byte) *sessions.Entry {
	name := []string{string(dig(view, 2))}
	if digVarint(view, 3) != 0 {
		name = append([]string{"global_temp"}, name...)
	}
	return madeView(name)
}

// statementText is the SQL of a SqlCommand: of its own, or of its input, where it
// may stand beside the DataFrames that it names.
func statementText(command []byte) []byte {
	if sql := dig(command, 1); len(sql) > 0 {
		return sql
	}
	input := dig(command, 6)
	for dig(input, 41) != nil {
		input = dig(input, 41, 1)
	}
	return dig(input, 10, 1)
}

func readCatalog(catalog []byte) *sessions.Entry {
	number, _, _ := protowire.ConsumeTag(catalog)
	name := string(dig(catalog, number, 1))
	switch number {
	case 2:
		return &sessions.Entry{What: "the current database"}
	case 15:
		return &sessions.Entry{What: "the drop of temporary view " + quote([]string{name}), Drops: strings.ToLower(name)}
	case 16:
		return &sessions.Entry{What: "the drop of temporary view " + quote([]string{"global_temp", name}), Drops: "global_temp." + strings.ToLower(name)}
	case 19:
		return cachedTable(quote([]string{name}))
	case 25:
		return &sessions.Entry{What: "the current catalog"}
	}
	return nil
}

func readConfig(operation []byte) *sessions.Entry {
	o := &connect.ConfigRequest_Operation{}
	if proto.Unmarshal(operation, o) != nil {
		return nil
	}
	var keys []string
	switch {
	case o.GetSet() != nil:
		for _, p := range o.GetSet().GetPairs() {
			keys = append(keys, p.GetKey())
		}
	case o.GetUnset() != nil:
		keys = o.GetUnset().GetKeys()
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	if len(keys) == 0 {
		return nil
	}
	return confEntry(strings.Join(keys, ", "))
}

// readArtifacts puts together what an upload brought to the session. A part that came
// damaged is left out, as an engine does.
func readArtifacts(messages [][]byte) *sessions.Entry {
	e := &sessions.Entry{}
	var open *sessions.Artifact // one that comes in several messages
	whole := true
	done := func() {
		if open != nil && whole {
			e.Artifacts = append(e.Artifacts, *open)
		}
		open, whole = nil, true
	}
	for _, m := range messages {
		r := &connect.AddArtifactsRequest{}
		if proto.Unmarshal(m, r) != nil {
			return nil
		}
		switch {
		case r.GetBatch() != nil:
			done()
			for _, a := range r.GetBatch().GetArtifacts() {
				if sound(a.GetData()) {
					e.Artifacts = append(e.Artifacts, sessions.Artifact{Name: a.GetName(), Data: append([]byte{}, a.GetData().GetData()...)})
				}
			}
		case r.GetBeginChunk() != nil:
			done()
			b := r.GetBeginChunk()
			open, whole = &sessions.Artifact{Name: b.GetName(), Data: append([]byte{}, b.GetInitialChunk().GetData()...)}, sound(b.GetInitialChunk())
		case r.GetChunk() != nil && open != nil:
			open.Data = append(open.Data, r.GetChunk().GetData()...)
			whole = whole && sound(r.GetChunk())
		}
	}
	done()
	e.Artifacts = slices.DeleteFunc(e.Artifacts, func(a sessions.Artifact) bool { return forwarded(a.Name) })
	if len(e.Artifacts) == 0 {
		return nil
	}
	e.What = artifactText(e.Artifacts[0].Name)
	if n := len(e.Artifacts); n > 1 {
		e.What = "artifacts " + e.Artifacts[0].Name + " to " + e.Artifacts[n-1].Name
	}
	return e
}

// forwarded says that an artifact is a file that lasts: the engine copies it to a file
// system (copyFromLocalToFs). To copy it once more would undo what was written there since.
func forwarded(name string) bool { return strings.HasPrefix(path.Clean(name), "forward_to_fs/") }

// artifactText names an artifact for its owner. Clients upload the data of large
// DataFrames by their hash.
func artifactText(name string) string {
	if strings.HasPrefix(name, "cache/") {
		return "the data of a DataFrame (artifact " + name + ")"
	}
	return "artifact " + name
}

// firstArtifact names the artifact that an upload's first message is about.
func firstArtifact(message []byte) string {
	r := &connect.AddArtifactsRequest{}
	if proto.Unmarshal(message, r) != nil {
		return ""
	}
	if list := r.GetBatch().GetArtifacts(); len(list) > 0 {
		return list[0].GetName()
	}
	return r.GetBeginChunk().GetName()
}

func sound(c *connect.AddArtifactsRequest_ArtifactChunk) bool {
	return int64(crc32.ChecksumIEEE(c.GetData())) == c.GetCrc()
}

// dig returns the last value of a field of a field of a message, without a copy;
// nil where there is none or it is no message, text or bytes.
func dig(b []byte, path ...protowire.Number) []byte {
	for _, field := range path {
		var found []byte
		for len(b) > 0 {
			number, kind, n := protowire.ConsumeTag(b)
			if n < 0 {
				break
			}
			size := protowire.ConsumeFieldValue(number, kind, b[n:])
			if size < 0 {
				break
			}
			if number == field && kind == protowire.BytesType {
				if v, k := protowire.ConsumeBytes(b[n:]); k >= 0 {
					found = v
				}
			}
			b = b[n+size:]
		}
		if found == nil {
			return nil
		}
		b = found
	}
	return b
}

// digVarint returns the last value of a number in a message, 0 where there is none.
func digVarint(b []byte, field protowire.Number) (v uint64) {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			break
		}
		size := protowire.ConsumeFieldValue(number, kind, b[n:])
		if size < 0 {
			break
		}
		if number == field && kind == protowire.VarintType {
			v, _ = protowire.ConsumeVarint(b[n:])
		}
		b = b[n+size:]
	}
	return v
}

package proxy

import (
	"fmt"

	"github.com/sconce-dev/sconce/proxy/relay"
)

// sparkService is what the path of each of Spark Connect's methods begins with.
const sparkService = "/spark.connect.SparkConnectService/"

// Shape is how many messages each side of a method sends.
type Shape uint8

const (
	// Unary: one message, one answer.
	Unary Shape = iota
	// ClientStream: any number of messages, one answer.
	ClientStream
	// ServerStream: one message, any number of answers.
	ServerStream
)

// Field numbers that every request of Spark Connect has.
const (
	fieldSession = 1 // session_id
	fieldUser    = 2 // user_context
	fieldUserID  = 1 // user_context.user_id
)

// fieldNewSession is CloneSessionRequest.new_session_id.
const fieldNewSession = 4

// Where a relay.Follower keeps what a request says. No method has both an
// operation that may be reattachable and a session to clone into.
const (
	slotSession    = 1 // session_id
	slotOperation  = 2 // operation_id
	slotReattach   = 3 // request_options.reattach_options.reattachable
	slotNewSession = 3 // new_session_id
	slotReleaseAll = 3 // ReleaseExecuteRequest.release_all
	slotObserved   = 4 // client_observed_server_side_session_id
)

// Method is one method of Spark Connect and what Sconce reads of its requests.
type Method struct {
	// Name is the last part of its path, and its label in metrics.
	Name  string
	Shape Shape
	// Schema is what a relay.Follower looks at in each request message.
	Schema *relay.Schema
	// Reattaches: the method is about an operation that was reattachable, so a
	// client may come back for it whatever the request says.
	Reattaches bool
	// Clones: field 4 names a second Spark session, which the method makes.
	Clones bool
	// Releases: it may end an operation, by a release_all.
	Releases bool
	// Idles: it is no use of a session. Rests: it only ends what runs, so that on
	// an idle session, where nothing does, it is answered without waking it.
	Idles, Rests bool
	// Observed is the number of client_observed_server_side_session_id in its
	// request, 0 = there is none; ServerID that of server_side_session_id in its answer.
	Observed, ServerID uint32
	// Follows: the request says what its operation is called.
	Follows bool
	// Frees: the method ends what others began, or takes up a result that broke, so
	// no limit of the others may stand in its way: whoever reached one gets below it by
	// these, and a query that has run is not lost for a rate.
	Frees bool
	// State is where to look for what changes the Spark session; nil = the method
	// changes nothing, or Artifacts is set: then each request does.
	State     *scanNode
	Artifacts bool
	// Tells: it is where a client is told, once, what a new engine does not have.
	Tells bool
}

// asks is what a stream of it asks of a meter.
func (m *Method) asks() asking {
	if m.Frees {
		return asksLess
	}
	return asksMore
}

// single says that a request is one message.
func (m *Method) single() bool { return m.Shape != ClientStream }

// sparkMethods makes the table of every method of Spark Connect that Sconce
// serves, by its exact path. A path that is not in it is not served: one that
// means the same to some server ("//a/B", "/a%2eB") must not reach it. The
// numbers are those of spark/connect/base.proto in Spark 4.2, which only ever adds
// to them.
func sparkMethods() (map[string]*Method, error) {
	methods := make(map[string]*Method)
	scans := newScans()
	for _, row := range []struct {
		Method
		fields []relay.Field
	}{
		{Method: Method{Name: "ExecutePlan", Observed: 8, ServerID: 15, Shape: ServerStream, Follows: true, State: scans.plan, Tells: true}, fields: []relay.Field{operationField(6), reattachableField()}},
		{Method: Method{Name: "AnalyzePlan", Observed: 17, ServerID: 15, Tells: true}},
		{Method: Method{Name: "Config", Observed: 8, ServerID: 4, State: scans.config}},
		{Method: Method{Name: "AddArtifacts", Observed: 7, ServerID: 3, Shape: ClientStream, Artifacts: true}},
		{Method: Method{Name: "ArtifactStatus", Observed: 5, ServerID: 3}},
		{Method: Method{Name: "Interrupt", Observed: 7, ServerID: 3, Follows: true, Rests: true, Frees: true}, fields: []relay.Field{operationField(6)}},
		{Method: Method{Name: "ReattachExecute", Observed: 6, ServerID: 15, Shape: ServerStream, Reattaches: true, Follows: true, Frees: true}, fields: []relay.Field{operationField(3)}},
		{Method: Method{Name: "ReleaseExecute", Observed: 7, ServerID: 3, Follows: true, Releases: true, Rests: true, Idles: true, Frees: true}, fields: []relay.Field{
			operationField(3), {Number: 5, Kind: relay.FieldMessage, Slot: slotReleaseAll},
		}},
		{Method: Method{Name: "ReleaseSession", ServerID: 2, Rests: true, Idles: true, Frees: true}},
		{Method: Method{Name: "FetchErrorDetails", Observed: 5, ServerID: 3, Idles: true}},
		{Method: Method{Name: "CloneSession", Observed: 5, ServerID: 2, Clones: true}, fields: []relay.Field{{Number: fieldNewSession, Kind: relay.FieldText, Slot: slotNewSession}}},
		{Method: Method{Name: "GetStatus", Observed: 4, ServerID: 2, Frees: true}},
	} {
		m := row.Method
		if m.Observed != 0 {
			row.fields = append(row.fields, relay.Field{Number: m.Observed, Kind: relay.FieldText, Slot: slotObserved})
		}
		schema, err := relay.NewSchema(append(row.fields, guardedFields()...)...)
		if err != nil {
			return nil, fmt.Errorf("method %s: %w", m.Name, err)
		}
		m.Schema = schema
		methods[sparkService+m.Name] = &m
	}
	return methods, nil
}

// guardedFields are session_id and user_context.user_id, which every parser
// must read the way Sconce does. user_id itself is not kept: it is replaced.
func guardedFields() []relay.Field {
	return []relay.Field{
		{Number: fieldSession, Kind: relay.FieldText, Slot: slotSession},
		{Number: fieldUser, Kind: relay.FieldMessage, Fields: []relay.Field{{Number: fieldUserID, Kind: relay.FieldText}}},
	}
}

func operationField(number uint32) relay.Field {
	return relay.Field{Number: number, Kind: relay.FieldText, Slot: slotOperation}
}

// reattachableField is ExecutePlanRequest.request_options, of which any may hold
// reattach_options with reattachable set.
func reattachableField() relay.Field {
	const requestOptions, reattachOptions, reattachable = 5, 1, 1
	return relay.Field{Number: requestOptions, Kind: relay.FieldMessage, Repeated: true, Fields: []relay.Field{{
		Number: reattachOptions, Kind: relay.FieldMessage, Fields: []relay.Field{{
			Number: reattachable, Kind: relay.FieldVarint, Slot: slotReattach,
		}},
	}}}
}

package payload

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// Paths of the three methods that the benchmark calls, and of the probe by which
// a gateway asks whether the backend is there.
const (
	ConfigPath       = "/spark.connect.SparkConnectService/Config"
	ExecutePlanPath  = "/spark.connect.SparkConnectService/ExecutePlan"
	AddArtifactsPath = "/spark.connect.SparkConnectService/AddArtifacts"
	HealthPath       = "/grpc.health.v1.Health/Check"
)

// Metadata by which a request tells the backend what to answer. A proxy passes
// it on as it passes all metadata that it does not know.
const (
	// HeaderSize is the size of each message of the answer (ExecutePlan) or of
	// the request (AddArtifacts), in bytes on the wire.
	HeaderSize = "x-bench-size"
	// HeaderMessages is how many messages the answer has.
	HeaderMessages = "x-bench-messages"
	// HeaderHold, when "1", leaves the answer open after its last message.
	HeaderHold = "x-bench-hold"
	// HeaderReceived is in the trailers of AddArtifacts: how many messages came.
	HeaderReceived = "x-bench-received"
)

// User is the user_id that requests claim.
const User = "bench"

const uuidLen = 36

// UnaryRequest is a ConfigRequest of about 100 bytes.
func UnaryRequest(session string) []byte {
	key := appendField(nil, 1, "spark.sql.session.timeZone")
	b := appendIdentity(make([]byte, Prefix), session)
	b = appendField(b, 3, string(appendField(nil, 2, string(key)))) // operation.get
	return sealed(b)
}

// UnaryResponse is a ConfigResponse of 200 bytes on the wire.
func UnaryResponse(session string) []byte {
	b := appendField(make([]byte, Prefix), 1, session)
	pair := appendField(nil, 1, "spark.sql.session.timeZone")
	room := UnaryResponseSize - len(b) - len(pair) - 5 // two tags with lengths, one of them two bytes long
	pair = appendField(pair, 2, strings.Repeat("z", room))
	return sealed(appendField(b, 2, string(pair)))
}

// UnaryResponseSize is the size of UnaryResponse in bytes on the wire.
const UnaryResponseSize = 200

// ExecuteRequest is an ExecutePlanRequest of about 200 bytes whose
// operation_id is made from n, so that no two operations of a session are the same.
func ExecuteRequest(session string, n uint64) []byte {
	b := appendIdentity(make([]byte, Prefix), session)
	b = appendField(b, 3, string(appendField(nil, 1, "a plan that no proxy reads")))
	b = appendField(b, 6, fmt.Sprintf("5c0ce000-be9c-4000-8000-%012x", n))
	return sealed(b)
}

// Rows is the ExecutePlanResponse of that size in bytes on the wire: one arrow_batch.
func Rows(session string, size int) (*Template, error) {
	return newTemplate(size, appendField(nil, 1, session), 2, 2)
}

// Artifact is the AddArtifactsRequest of that size in bytes on the wire: one chunk.
func Artifact(session string, size int) (*Template, error) {
	return newTemplate(size, appendIdentity(nil, session), 5, 1)
}

// ArtifactResponse is an AddArtifactsResponse.
func ArtifactResponse(session string) []byte {
	return sealed(appendField(make([]byte, Prefix), 2, session))
}

// Healthy is a HealthCheckResponse that says SERVING.
func Healthy() []byte { return sealed(append(make([]byte, Prefix), 1<<3, 1)) }

// Session reads session_id from the beginning of a request as this package
// makes it, or returns "" if it is not there.
func Session(request []byte) string {
	const at = Prefix + 2
	if len(request) < at+uuidLen || request[Prefix] != 1<<3|2 || request[Prefix+1] != uuidLen {
		return ""
	}
	return string(request[at : at+uuidLen])
}

func appendIdentity(b []byte, session string) []byte {
	b = appendField(b, 1, session)
	return appendField(b, 2, string(appendField(nil, 1, User)))
}

func appendField(b []byte, field byte, value string) []byte {
	b = append(b, field<<3|2)
	b = binary.AppendUvarint(b, uint64(len(value)))
	return append(b, value...)
}

// sealed writes the gRPC prefix into the room left for it.
func sealed(b []byte) []byte {
	binary.BigEndian.PutUint32(b[1:], uint32(len(b)-Prefix))
	return b
}

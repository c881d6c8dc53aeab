package proxy

import (
	"errors"
	"fmt"

	"github.com/sconce-dev/sconce/proxy/relay"
)

// Why a request's body is refused. Each is a row of the table in status.go; a
// *bodyFault adds the row's {problem}, a *tooLargeFault its {limit}.
var (
	errCompressed   = errors.New("message is compressed by gRPC")
	errFraming      = errors.New("gRPC framing is broken")
	errTooLarge     = errors.New("message is too large")
	errNoMessage    = errors.New("request ended without a message")
	errExtraMessage = errors.New("request has more than one message")
	errMalformed    = errors.New("message is malformed")
	errSparkSession = errors.New("session_id is not acceptable")
	errSparkChanged = errors.New("session_id changed within a request")
)

// bodyFault is one of the faults above and what exactly is wrong, as part of a
// sentence. It quotes nothing of the request.
type bodyFault struct {
	Class   error
	Problem string
	cause   error // of the relay, may be nil
}

func (f *bodyFault) Error() string { return f.Class.Error() + ": " + f.Problem }

func (f *bodyFault) Unwrap() []error {
	if f.cause == nil {
		return []error{f.Class}
	}
	return []error{f.Class, f.cause}
}

// tooLargeFault is an errTooLarge. Limit is what a message may have, in bytes.
type tooLargeFault struct{ Limit uint64 }

func (f *tooLargeFault) Error() string {
	return fmt.Sprintf("%v: more than %d bytes", errTooLarge, f.Limit)
}
func (f *tooLargeFault) Is(target error) bool { return target == errTooLarge }

func faultSession(problem string) error { return &bodyFault{Class: errSparkSession, Problem: problem} }
func faultFraming(problem string) error { return &bodyFault{Class: errFraming, Problem: problem} }

func faultTruncated() error {
	return &bodyFault{Class: errMalformed, Problem: "it ends before its declared length"}
}

func faultLate(within uint64) error {
	return faultSession(fmt.Sprintf("and none came in the first %d bytes, where it belongs", within))
}

// faultMalformed words what the Follower refused.
func faultMalformed(f *relay.Follower) error {
	err, field := f.Err(), f.FaultField()
	problem := "one of its fields is not encoded as protobuf"
	switch {
	case errors.Is(err, relay.ErrFollowTwice):
		problem = fmt.Sprintf("field %d comes twice", field)
	case errors.Is(err, relay.ErrFollowType):
		problem = fmt.Sprintf("field %d has the wrong type", field)
	case errors.Is(err, relay.ErrFollowText):
		problem = fmt.Sprintf("field %d is not UTF-8", field)
	case errors.Is(err, relay.ErrFollowLength):
		problem = "one of its fields is longer than the message"
	case errors.Is(err, relay.ErrFollowTag):
		problem = "one of its tags is not encoded as protobuf libraries do"
	}
	return &bodyFault{Class: errMalformed, Problem: problem, cause: err}
}

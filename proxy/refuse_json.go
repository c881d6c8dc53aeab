package proxy

import (
	"strconv"
	"time"
)

// The refusals of the JSON API, for its handler; the last two are gRPC's too. What they are filled in with
// may come from outside.

// RefusePath: there is no such path.
func RefusePath(path string) Refusal { return refusePath.With("path", path) }

// RefuseVerb: the path is there, and takes others.
func RefuseVerb(path, verb, allowed string) Refusal {
	return refusePathVerb.With("path", path, "verb", verb, "allowed", allowed)
}

// RefuseNotJSON: the header says that the body is something else.
func RefuseNotJSON(problem string) Refusal { return refuseNotJSON.With("problem", problem) }

// RefuseJSON: a part of the request ("the body", "the query") does not fit the call.
func RefuseJSON(part, problem string) Refusal {
	return refuseJSON.With("part", part, "problem", problem)
}

// RefuseBodySize: the body has more bytes than limit.
func RefuseBodySize(limit int) Refusal { return refuseBodySize.With("limit", strconv.Itoa(limit)) }

// RefuseBodySlow: the body did not end within wait.
func RefuseBodySlow(wait time.Duration) Refusal { return refuseBodySlow.With("wait", wait.String()) }

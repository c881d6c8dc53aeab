package proxy

import (
	"time"

	"github.com/sconce-dev/sconce/proxy/relay"
	"google.golang.org/grpc/codes"
)

// Refusal is one row of the table below: what a caller reads when Sconce itself
// says no. The table is the only place where text for callers is written;
// docs/errors.md is generated from it.
type Refusal struct {
	// Code is the gRPC status.
	Code codes.Code
	// Reason is the stable name, in UPPER_SNAKE, that programs may test for. It
	// is google.rpc.ErrorInfo.reason in the domain "sconce".
	Reason string
	// Message is the sentence. It ends with what to do next. A {name} in it is
	// filled in by With.
	Message string
	// RetryAfter is the RetryInfo of the reply. Zero means none: Spark's clients
	// retry whatever carries one, so it is set only where waiting helps, and
	// never where the caller must get a new token.
	RetryAfter time.Duration
	// HTTP is the status of the answer to a request that is not gRPC: of the
	// sentence as text, and of a call of the JSON API.
	HTTP int
	// Wire is the HTTP status of the gRPC answer. Zero means 200.
	Wire int
	// Accept is sent as grpc-accept-encoding. "" means that it is not sent.
	Accept string
	// Limit is the setting that the request is past. It is the entry `limit` of
	// ErrorInfo.metadata. "" means none.
	Limit string

	grpc, plain *relay.Reply // built once; nil while Message has a {name}
}

// spell is the connection string, as the hints write it.
const spell = "sc://<host>:8085/;token=<token>;x-session-id=<session>"

// Anew is the way on from a failed {session}. It keeps its name until it is closed.
const Anew = "close it and create a new one, by `sconce session close {session}` and `sconce session create`"

// pause is the RetryInfo where waiting helps.
const pause = 2 * time.Second

// What the request is, before who sent it.
var (
	refuseMethod = row(Refusal{Code: codes.Unimplemented, Reason: "METHOD_UNKNOWN", HTTP: 404,
		Message: "this method is not served here: connect with a Spark Connect client, of Spark 4.3 or older"})
	refuseVerb = row(Refusal{Code: codes.InvalidArgument, Reason: "NOT_POST", HTTP: 405, Wire: 405,
		Message: "gRPC methods are called by POST: use a Spark Connect client"})
	refuseContentType = row(Refusal{Code: codes.InvalidArgument, Reason: "NOT_GRPC", HTTP: 415, Wire: 415,
		Message: "Spark Connect is gRPC, and this request's content-type is not application/grpc: connect with " + spell})
	refuseHeader = row(Refusal{Code: codes.Internal, Reason: "HEADER_MALFORMED", HTTP: 400, Wire: 400,
		Message: "malformed header {name}: it is set by your client or a proxy on the way, correct it there"})
	refuseHeaders = row(Refusal{Code: codes.ResourceExhausted, Reason: "HEADERS_TOO_LARGE", HTTP: 431,
		Message: "the headers of this request are too large (limits.header_bytes): " +
			"leave out of the connection string what is not needed, and check that the token was copied once"})
	refusePlaintext = row(Refusal{Code: codes.FailedPrecondition, Reason: "TLS_REQUIRED", HTTP: 426,
		Message: "this port takes plaintext from its own machine only, so that no token travels in the clear: " +
			"add ;use_ssl=true to the connection string, or call https://, and get a new token if this one crossed a network"})
	refuseNoSessionID = row(Refusal{Code: codes.InvalidArgument, Reason: "SESSION_ID_MISSING", HTTP: 400,
		Message: "no x-session-id: put your session's id into the connection string, " + spell})
	refuseTwoSessionIDs = row(Refusal{Code: codes.InvalidArgument, Reason: "SESSION_ID_AMBIGUOUS", HTTP: 400,
		Message: "x-session-id is given more than once: leave one in the connection string"})
)

// Who sent it. None of these carries a RetryInfo: waiting does not mend a token.
var (
	refuseTokenMissing = row(Refusal{Code: codes.Unauthenticated, Reason: "TOKEN_MISSING", HTTP: 401,
		Message: "missing token: run `sconce token issue <session>` and connect with " + spell})
	refuseTokenScheme = row(Refusal{Code: codes.Unauthenticated, Reason: "TOKEN_SCHEME", HTTP: 401,
		Message: "the authorization header is not `Bearer <token>`: connect with " + spell})
	refuseTokenAmbiguous = row(Refusal{Code: codes.InvalidArgument, Reason: "TOKEN_AMBIGUOUS", HTTP: 400,
		Message: "more than one token came with this request: send one authorization header, and no differing authentication header"})
	refuseTokenInvalid = row(Refusal{Code: codes.Unauthenticated, Reason: "TOKEN_INVALID", HTTP: 401,
		Message: "the token is not valid here ({problem}): run `sconce token issue {session}` and copy it whole"})
	refuseTokenExpired = row(Refusal{Code: codes.Unauthenticated, Reason: "TOKEN_EXPIRED", HTTP: 401,
		Message: "token expired {age} ago: run `sconce token issue {session}`"})
	refuseTokenEarly = row(Refusal{Code: codes.Unauthenticated, Reason: "TOKEN_NOT_YET_VALID", HTTP: 401,
		Message: "the token is not valid yet: check the clock of the machine that issued it, then run `sconce token issue {session}`"})
	refuseTokenRevoked = row(Refusal{Code: codes.Unauthenticated, Reason: "TOKEN_REVOKED", HTTP: 401,
		Message: "this token was revoked: run `sconce token issue {session}`"})
	// Not UNAUTHENTICATED: nobody looked at the token. No RetryInfo: with one, clients
	// would go on guessing by themselves.
	refuseGuesses = row(Refusal{Code: codes.ResourceExhausted, Reason: "TOKENS_THROTTLED", HTTP: 429,
		Message: "too many tokens that are not valid came from your address for this session, so this one was not looked at: " +
			"wait 10 s, then connect with a token from `sconce token issue <session>`, copied whole"})
	refuseIssuerAway = row(Refusal{Code: codes.Unavailable, Reason: "ISSUER_UNAVAILABLE", RetryAfter: pause, HTTP: 503,
		Message: "the keys of this token's issuer cannot be fetched, so the token cannot be checked: " +
			"wait, or run `sconce token issue {session}`; operators, see /readyz of the admin listener for the reason"})
	refuseDenied = row(Refusal{Code: codes.PermissionDenied, Reason: "SESSION_DENIED", HTTP: 403,
		Message: "this token does not open the session named in x-session-id: " +
			"use the id the token was issued for, or run `sconce token issue <session>` for this one"})
)

// What became of the session.
var (
	refuseSessionClosed = row(Refusal{Code: codes.FailedPrecondition, Reason: "SESSION_CLOSED", HTTP: 400,
		Message: "session {session} is closed, and a closed session never reopens: run `sconce session create`"})
	refuseSessionGone = row(Refusal{Code: codes.FailedPrecondition, Reason: "SESSION_UNKNOWN", HTTP: 404,
		Message: "session {session} is no longer known: run `sconce session create`"})
	refuseSessionFailed = row(Refusal{Code: codes.FailedPrecondition, Reason: "SESSION_FAILED", HTTP: 400,
		Message: "session {session} failed ({why}): " + Anew})
	refuseSessionStart = row(Refusal{Code: codes.FailedPrecondition, Reason: "SESSION_START_FAILED", HTTP: 400,
		Message: "session {session} cannot start ({why}): run `sconce session describe {session}`, then the query again{log}"})
	refuseWakeDraining = row(Refusal{Code: codes.FailedPrecondition, Reason: "SESSION_CLUSTER_DRAINING", HTTP: 400,
		Message: "session {session} cannot wake, since its cluster {cluster} is draining ({why}) and starts no engine: " +
			"create a session on another one, `sconce cluster list` names them, or run the query again once this one is active"})
	refuseSetup = row(Refusal{Code: codes.FailedPrecondition, Reason: "SESSION_SETUP", HTTP: 400,
		Message: "cluster {cluster} does not take {what} of session {session} ({why}): " + Anew})
	refuseStateLost = row(Refusal{Code: codes.FailedPrecondition, Reason: "SESSION_STATE_LOST", HTTP: 400,
		Message: "the engine of session {session} was started anew, and not all of its state could be brought back: {lost}. " +
			"This is said once, and nothing of this request ran: make anew what you need, then go on with the same SparkSession"})
	refuseSessionPending = row(Refusal{Code: codes.Unavailable, Reason: "SESSION_PENDING", RetryAfter: pause, HTTP: 503,
		Message: "session {session} is still starting: wait, or run `sconce session describe {session}`"})
	refuseRegistry = row(Refusal{Code: codes.Unavailable, Reason: "REGISTRY_UNAVAILABLE", RetryAfter: pause, HTTP: 503,
		Message: "the session registry does not answer: wait, standard clients try again by themselves; operators, check Redis"})
	refuseHeldTooLong = row(Refusal{Code: codes.Aborted, Reason: "HELD_TOO_LONG", HTTP: 503,
		Message: "the query waited {wait} for its session and did not start, nothing ran: " +
			"run `sconce session describe {session}`, then run the query again"})
	refuseHolds = row(Refusal{Code: codes.ResourceExhausted, Reason: "TOO_MANY_WAITING", HTTP: 503,
		Message: "too many requests wait for their sessions here: try again in a minute"})
)

// How much came. The limit's name goes into the details too.
var (
	refuseStreams = row(Refusal{Code: codes.ResourceExhausted, Reason: "STREAMS_EXHAUSTED", RetryAfter: pause, HTTP: 429,
		Message: "too many requests are open at once ({limit}): wait for some of them to end or interrupt them, " +
			"or ask your operator to raise this limit"})
	refuseRate = row(Refusal{Code: codes.ResourceExhausted, Reason: "RATE_LIMITED", RetryAfter: time.Second, HTTP: 429,
		Message: "too many requests in a short time ({limit}): wait a moment and try again, or ask your operator to raise this limit"})
	refuseInFlight = row(Refusal{Code: codes.ResourceExhausted, Reason: "BYTES_EXHAUSTED", RetryAfter: pause, HTTP: 429,
		Message: "too many bytes of results and requests are on their way at once ({limit}): read the results that are open, " +
			"or interrupt their queries, or ask your operator to raise this limit"})
	refuseArtifacts = row(Refusal{Code: codes.ResourceExhausted, Reason: "ARTIFACTS_EXHAUSTED", HTTP: 429,
		Message: "as much was uploaded as may be in an hour ({limit}): " +
			"upload again in {wait}, or ask your operator to raise this limit"})
)

// What the message says.
var (
	refuseSparkSession = row(Refusal{Code: codes.InvalidArgument, Reason: "SPARK_SESSION_INVALID", HTTP: 400,
		Message: "the session_id inside the request must be one canonical lower-case UUID, {problem}: " +
			"leave session_id out of the connection string and your client makes one"})
	refuseSparkForeign = row(Refusal{Code: codes.PermissionDenied, Reason: "SPARK_SESSION_FOREIGN", HTTP: 403,
		Message: "the session_id inside the request belongs to another session: " +
			"leave session_id out of the connection string and your client makes a new one"})
	refuseSparkMany = row(Refusal{Code: codes.ResourceExhausted, Reason: "SPARK_SESSIONS_EXHAUSTED", HTTP: 429,
		Message: "session {session} has as many Spark sessions as one may have: " +
			"keep one SparkSession object and use it again, or run `sconce session create`"})
	refuseSparkChanged = row(Refusal{Code: codes.InvalidArgument, Reason: "SPARK_SESSION_CHANGED", HTTP: 400,
		Message: "the messages of one upload name different values of session_id: upload again with a Spark client"})
	refuseMessage = row(Refusal{Code: codes.InvalidArgument, Reason: "MESSAGE_MALFORMED", HTTP: 400,
		Message: "the request is not the protobuf message that its method takes, {problem}: update your Spark client"})
	refuseMessageMissing = row(Refusal{Code: codes.InvalidArgument, Reason: "MESSAGE_MISSING", HTTP: 400,
		Message: "the request ended without a message: update your Spark client"})
	refuseMessageExtra = row(Refusal{Code: codes.InvalidArgument, Reason: "MESSAGE_EXTRA", HTTP: 400,
		Message: "the request has more than the one message that its method takes: update your Spark client"})
	refuseMessageSize = row(Refusal{Code: codes.ResourceExhausted, Reason: "MESSAGE_TOO_LARGE", HTTP: 413,
		Message: "the request message is larger than {limit} bytes: " +
			"send the data in smaller parts, or ask your operator to raise max_message_bytes"})
	refuseFraming = row(Refusal{Code: codes.Internal, Reason: "FRAMING_MALFORMED", HTTP: 400,
		Message: "the gRPC framing of the request is broken, {problem}: update your Spark client"})
	refuseCompressed = row(Refusal{Code: codes.Unimplemented, Reason: "COMPRESSION_UNSUPPORTED", HTTP: 415, Accept: "identity",
		Message: "the request is compressed by gRPC, so the session inside it cannot be checked: switch gRPC compression off " +
			"(Spark's own plan compression is fine)"})
)

// What became of the engine. Which of these is used is decided in call.go.
var (
	refuseEngineAway = row(Refusal{Code: codes.Unavailable, Reason: "ENGINE_UNREACHABLE", RetryAfter: pause, HTTP: 503,
		Message: "the cluster of session {session} cannot be reached, nothing ran: wait, or run `sconce session describe {session}`"})
	refuseEngineToken = row(Refusal{Code: codes.FailedPrecondition, Reason: "ENGINE_REFUSED", HTTP: 502,
		Message: "the cluster of session {session} refused the token that Sconce has for it, nothing ran: " +
			"tell your operator, the token stands in Sconce's configuration"})
	refuseEngineStart = row(Refusal{Code: codes.Aborted, Reason: "ENGINE_NOT_REACHED", HTTP: 503,
		Message: "the cluster of session {session} could not be reached, nothing ran: " +
			"run `sconce session describe {session}`, then run the query again"})
	refuseEngineLost = row(Refusal{Code: codes.Aborted, Reason: "ENGINE_LOST", HTTP: 502,
		Message: "the connection to the cluster of session {session} broke while the request ran, and the result is incomplete: " +
			"check what it has written, then run it again"})
	refuseEngineBreak = row(Refusal{Code: codes.Unavailable, Reason: "ENGINE_DISCONNECTED", HTTP: 502,
		Message: "the connection to the cluster of session {session} broke while the query ran: " +
			"wait, Spark clients from 3.5 on take up the result again; if yours does not, run the query again"})
	refuseResultSize = row(Refusal{Code: codes.ResourceExhausted, Reason: "RESULT_TOO_LARGE", HTTP: 502,
		Message: "one message of the answer is larger than this proxy lets through: " +
			"fetch smaller rows, or ask your operator to raise max_message_bytes"})
	refuseOperation = row(Refusal{Code: codes.Internal, Reason: "OPERATION_NOT_STARTED", HTTP: 404,
		Message: "[INVALID_HANDLE.OPERATION_NOT_FOUND] this operation never reached an engine, nothing ran: " +
			"Spark clients send it again by themselves; if yours does not, run the query again"})
)

// What became of Sconce.
var (
	refuseDraining = row(Refusal{Code: codes.Unavailable, Reason: "DRAINING", RetryAfter: pause, HTTP: 503,
		Message: "this proxy is shutting down: wait, the client connects to another one by itself"})
	refuseOwnAway = row(Refusal{Code: codes.Unavailable, Reason: "SERVICE_STOPPED", RetryAfter: pause, HTTP: 503,
		Message: "this service of the proxy has stopped: wait and try again"})
	refuseInternal = row(Refusal{Code: codes.Internal, Reason: "INTERNAL", HTTP: 500,
		Message: "internal error: give your operator the request id {id}, the log has the cause"})
)

// What the control API says, besides what stands above.
var (
	refuseNotFound = row(Refusal{Code: codes.NotFound, Reason: "NOT_FOUND", HTTP: 404,
		Message: "no such session, or it is not yours: run `sconce session list`"})
	refuseNotAllowed = row(Refusal{Code: codes.PermissionDenied, Reason: "NOT_ALLOWED", HTTP: 403,
		Message: "your token does not allow this: ask an administrator of your organisation, or for clusters your operator"})
	refuseNotYours = row(Refusal{Code: refuseNotAllowed.Code, Reason: refuseNotAllowed.Reason, HTTP: refuseNotAllowed.HTTP,
		Message: "no such session, or it is not yours: only its owner or an admin of its organisation may; `sconce session list` shows yours"})
	refuseNameTaken = row(Refusal{Code: codes.AlreadyExists, Reason: "NAME_TAKEN", HTTP: 409,
		Message: "one of your sessions has this name already, and a failed one keeps it until it is closed: " +
			"choose another name, or run `sconce session close` on that session first"})
	refuseNoCluster = row(Refusal{Code: codes.InvalidArgument, Reason: "CLUSTER_UNKNOWN", HTTP: 400,
		Message: "no cluster of this name is configured: run `sconce cluster list` for the names"})
	refuseClusterDraining = row(Refusal{Code: codes.FailedPrecondition, Reason: "CLUSTER_DRAINING", HTTP: 400,
		Message: "cluster {cluster} is draining ({why}) and takes no new session: " +
			"create it on another one, `sconce cluster list` names them, or wait until an operator resumes this one"})
	refuseSetupNew = row(Refusal{Code: codes.FailedPrecondition, Reason: "SETUP_REFUSED", HTTP: 400,
		Message: "cluster {cluster} does not take {what} ({why}), so no session was made: choose what it has, or leave that out"})
	refuseClusterInactive = row(Refusal{Code: codes.FailedPrecondition, Reason: "CLUSTER_NOT_ACTIVE", HTTP: 400,
		Message: "cluster {cluster} cannot be used ({why}), so session {session} failed: " + Anew +
			"; operators, check that the cluster runs{log}"})
	refuseTokenUnknown = row(Refusal{Code: codes.NotFound, Reason: "TOKEN_UNKNOWN", HTTP: 404,
		Message: "the session has no such token, and none was revoked: run `sconce token list {session}`"})
	refuseLimit = row(Refusal{Code: codes.ResourceExhausted, Reason: "LIMIT_REACHED", HTTP: 429,
		Message: "the limit {limit} ({max}) is reached: close a session that is not needed with `sconce session close` " +
			"(for engines an active one; an idle one has none), or ask your operator to raise limits.{limit}"})
	refuseTokens = row(Refusal{Code: codes.ResourceExhausted, Reason: "TOKENS_EXHAUSTED", HTTP: 429,
		Message: "the limit {limit} ({max}) of open tokens is reached: use one that there is, end those that nobody needs with `sconce token revoke {session}`, " +
			"or ask your operator to raise limits.{limit}"})
	refuseKeys = row(Refusal{Code: codes.ResourceExhausted, Reason: "KEYS_EXHAUSTED", HTTP: 429,
		Message: "your organisation has as many open API keys as one may have: run `sconce key list --organisation` and `sconce key revoke` on those that nobody needs"})
	refuseConflict = row(Refusal{Code: codes.Aborted, Reason: "CONFLICT", HTTP: 409,
		Message: "the session has changed meanwhile: look with `sconce session describe {session}`, then try again"})
	refuseArgument = row(Refusal{Code: codes.InvalidArgument, Reason: "ARGUMENT_INVALID", HTTP: 400,
		Message: "{field}: {problem}: correct it and try again"})
	refuseControlToken = row(Refusal{Code: codes.Unauthenticated, Reason: "CONTROL_TOKEN_INVALID", HTTP: 401,
		Message: "this call needs a valid control token, API key or token of a trusted issuer ({problem}): get a new one and set SCONCE_TOKEN"})
	refuseKeyGuesses = row(Refusal{Code: codes.ResourceExhausted, Reason: "KEYS_THROTTLED", HTTP: 429,
		Message: "too many API keys that are not valid came from your address, so this one was not looked at: " +
			"wait 10 s, then call with one that is good, copied whole, or ask an administrator of your organisation for one"})
	refuseTimeout = row(Refusal{Code: codes.DeadlineExceeded, Reason: "DEADLINE", HTTP: 504,
		Message: "the deadline of the call passed before the answer was there: try again with a longer one"})
)

// What the JSON API says before a call is one, and gRPC of what is too large or slow.
// What the calls themselves are refused for is what gRPC callers read.
var (
	refusePath = row(Refusal{Code: codes.NotFound, Reason: "PATH_UNKNOWN", HTTP: 404,
		Message: "there is no {path} here: read /openapi.json for what there is"})
	refusePathVerb = row(Refusal{Code: codes.Unimplemented, Reason: "VERB_UNKNOWN", HTTP: 405,
		Message: "{path} does not take {verb}: send {allowed}"})
	refuseNotJSON = row(Refusal{Code: codes.InvalidArgument, Reason: "NOT_JSON", HTTP: 415,
		Message: "the body is not JSON, {problem}: send JSON with the header content-type: application/json, as curl --json does"})
	refuseJSON = row(Refusal{Code: codes.InvalidArgument, Reason: "JSON_INVALID", HTTP: 400,
		Message: "{part} is not what this call takes, {problem}: read /openapi.json for its fields"})
	refuseBodySize = row(Refusal{Code: codes.ResourceExhausted, Reason: "BODY_TOO_LARGE", HTTP: 413,
		Message: "the body is larger than {limit} bytes: send a smaller one (gRPC takes 512 KiB)"})
	refuseBodySlow = row(Refusal{Code: codes.DeadlineExceeded, Reason: "BODY_TOO_SLOW", HTTP: 408,
		Message: "the body was not there whole after {wait}: send it again, at once"})
)

// Refusals returns the whole table, in the order of docs/errors.md.
func Refusals() []Refusal {
	return []Refusal{
		refuseMethod, refuseVerb, refuseContentType, refuseHeader, refuseHeaders, refusePlaintext, refuseNoSessionID, refuseTwoSessionIDs,
		refuseTokenMissing, refuseTokenScheme, refuseTokenAmbiguous, refuseTokenInvalid, refuseTokenExpired, refuseTokenEarly, refuseTokenRevoked, refuseGuesses, refuseIssuerAway, refuseDenied,
		refuseSessionClosed, refuseSessionGone, refuseSessionFailed, refuseSessionStart, refuseWakeDraining, refuseSetup, refuseStateLost, refuseSessionPending, refuseRegistry, refuseHeldTooLong, refuseHolds,
		refuseStreams, refuseRate, refuseInFlight, refuseArtifacts,
		refuseSparkSession, refuseSparkForeign, refuseSparkMany, refuseSparkChanged, refuseMessage, refuseMessageMissing, refuseMessageExtra,
		refuseMessageSize, refuseFraming, refuseCompressed,
		refuseEngineAway, refuseEngineToken, refuseEngineStart, refuseEngineLost, refuseEngineBreak, refuseResultSize, refuseOperation,
		refuseDraining, refuseOwnAway, refuseInternal,
		refuseNotFound, refuseNotAllowed, refuseNotYours, refuseNameTaken, refuseNoCluster, refuseClusterDraining, refuseSetupNew, refuseClusterInactive, refuseTokenUnknown, refuseLimit, refuseTokens, refuseKeys, refuseConflict,
		refuseArgument, refuseControlToken, refuseKeyGuesses, refuseTimeout,
		refusePath, refusePathVerb, refuseNotJSON, refuseJSON, refuseBodySize, refuseBodySlow,
	}
}

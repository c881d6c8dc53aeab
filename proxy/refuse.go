package proxy

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/sessions"
)

// refuseToken finds the row for what auth said about a session token. session is
// the x-session-id that came with it, for the hint. ok is false for an error
// that the table does not know.
func refuseToken(err error, session string, now time.Time) (r Refusal, ok bool) {
	var expired *auth.ExpiredError
	switch {
	case errors.As(err, &expired):
		return refuseTokenExpired.With("age", ago(now.Sub(expired.Expired)), "session", session), true
	case errors.Is(err, auth.ErrMissing):
		return refuseTokenMissing, true
	case errors.Is(err, auth.ErrScheme):
		return refuseTokenScheme, true
	case errors.Is(err, auth.ErrAmbiguous):
		return refuseTokenAmbiguous, true
	case errors.Is(err, auth.ErrNotYet):
		return refuseTokenEarly.With("session", session), true
	case errors.Is(err, auth.ErrIssuerAway), errors.Is(err, auth.ErrKeysPending):
		return refuseIssuerAway.With("session", session), true
	}
	problem, ok := tokenProblem(err)
	return refuseTokenInvalid.With("problem", problem, "session", session), ok
}

// tokenProblem words the errors that all end with the same advice. It says
// nothing that helps to forge a token.
func tokenProblem(err error) (string, bool) {
	for _, p := range [...]struct {
		err  error
		text string
	}{
		{auth.ErrTooLong, "it is too long"},
		{auth.ErrMalformed, "it is damaged or was not copied whole"},
		{auth.ErrHeader, "it is not a session token"},
		{auth.ErrAlgorithm, "its algorithm is not accepted"},
		{auth.ErrUnknownKey, "its key is not known here, it may be from another deployment"},
		{auth.ErrSignature, "its signature is wrong"},
		{auth.ErrClaims, "its claims are not accepted"},
		{auth.ErrIssuer, "it is from another issuer"},
		{auth.ErrAudience, "it is for another audience"},
		{auth.ErrAPIKey, "it is an API key, which opens no session"},
		{auth.ErrOutside, "tokens of its issuer open no session here"},
	} {
		if errors.Is(err, p.err) {
			return p.text, true
		}
	}
	return "", false
}

// refuseRoute finds the row for what the registry said about a session whose
// valid token the caller holds. With anybody else refuseDenied is the answer,
// whatever became of the session.
func refuseRoute(err error, session string) (r Refusal, ok bool) {
	var launch *sessions.LaunchError
	var cluster *sessions.ClusterError
	var setup *sessions.SetupError
	var limit *sessions.LimitError
	var drain *sessions.DrainError
	switch {
	case errors.As(err, &limit):
		return limitReached(limit, session), true
	case errors.As(err, &drain):
		return refuseWakeDraining.With("session", session, "cluster", drain.Cluster, "why", drainReason(drain)), true
	case errors.As(err, &cluster):
		return refuseSessionStart.With("session", session, "why", cluster.Reason).WithLog(cluster.Log), true
	case errors.As(err, &launch):
		return refuseSessionStart.With("session", session, "why", launch.Reason).WithLog(launch.Log), true
	case errors.As(err, &setup):
		return refuseSetup.With("session", session, "cluster", setup.Cluster, "what", setup.What, "why", setup.Problem), true
	case errors.Is(err, sessions.ErrEngineAway):
		return refuseEngineAway.With("session", session), true
	case errors.Is(err, sessions.ErrRefused):
		return refuseEngineToken.With("session", session), true
	case errors.Is(err, sessions.ErrClosed):
		return refuseSessionClosed.With("session", session), true
	case errors.Is(err, sessions.ErrNotFound):
		return refuseSessionGone.With("session", session), true
	case errors.Is(err, sessions.ErrFailed), errors.Is(err, sessions.ErrNoCluster):
		return refuseSessionFailed.With("session", session, "why", failure(err)), true
	case errors.Is(err, sessions.ErrDenied):
		return refuseDenied, true
	case errors.Is(err, sessions.ErrForeignSpark):
		return refuseSparkForeign, true
	case errors.Is(err, sessions.ErrTooManyBound):
		return refuseSparkMany.With("session", session), true
	case errors.Is(err, sessions.ErrUnavailable):
		return refuseRegistry, true
	case errors.Is(err, sessions.ErrPending), errors.Is(err, context.DeadlineExceeded):
		return refuseSessionPending.With("session", session), true
	}
	return Refusal{}, false
}

// limitReached names the limit, in the details too.
func limitReached(e *sessions.LimitError, session string) Refusal {
	r := refuseLimit
	if errors.Is(e, sessions.ErrTooManyTokens) {
		r = refuseTokens
	}
	r = r.With("limit", e.Limit, "max", strconv.Itoa(e.Max), "session", session)
	r.Limit = "limits." + e.Limit
	return r
}

// drainReason is what the operator gave as the reason.
func drainReason(e *sessions.DrainError) string {
	if e.Reason == "" {
		return "no reason is given"
	}
	return e.Reason
}

// failure is the reason of a failed session, for its owner.
func failure(err error) string {
	var failed *sessions.FailedError
	var cluster *sessions.ClusterError
	switch {
	case errors.As(err, &failed) && failed.Reason != "":
		return failed.Reason
	case errors.As(err, &cluster) && cluster.Reason != "":
		return cluster.Reason
	case errors.Is(err, sessions.ErrNoCluster):
		return "its cluster is no longer configured"
	}
	return "no reason is recorded"
}

// refuseBody finds the row for what stamp found wrong with a request's body.
func refuseBody(fault error) (r Refusal, ok bool) {
	var body *bodyFault
	var large *tooLargeFault
	problem := ""
	if errors.As(fault, &body) {
		problem = body.Problem
	}
	switch {
	case errors.As(fault, &large):
		return refuseMessageSize.With("limit", strconv.FormatUint(large.Limit, 10)), true
	case errors.Is(fault, errSparkSession):
		return refuseSparkSession.With("problem", problem), true
	case errors.Is(fault, errSparkChanged):
		return refuseSparkChanged, true
	case errors.Is(fault, errMalformed):
		return refuseMessage.With("problem", problem), true
	case errors.Is(fault, errFraming):
		return refuseFraming.With("problem", problem), true
	case errors.Is(fault, errCompressed):
		return refuseCompressed, true
	case errors.Is(fault, errNoMessage):
		return refuseMessageMissing, true
	case errors.Is(fault, errExtraMessage):
		return refuseMessageExtra, true
	}
	return Refusal{}, false
}

// RefuseCredential finds the row for a caller of the control API who shows no bearer
// credential, or several; nil = there is one, whatever it is worth.
func RefuseCredential(authorization, authentication []string) *Refusal {
	_, err := auth.Bearer(authorization, authentication)
	if err == nil {
		return nil
	}
	row, _ := RefuseControl(err, "")
	return &row
}

// RefuseControl finds the row for an error of the control API, for its handlers.
// session is the one that the call is about, "" = none, or it has no id yet. It does
// not tell a session of somebody else from one that never was. ok is false for an
// error that the table does not know: answer Internal(id) and log the error whole.
func RefuseControl(err error, session string) (r Refusal, ok bool) {
	denied := refuseNotYours
	if session == "" {
		session, denied = "<session>", refuseNotAllowed
	}
	var known *refusedError
	var invalid *sessions.InvalidError
	var cluster *sessions.ClusterError
	var failed *sessions.FailedError
	var setup *sessions.SetupError
	var limit *sessions.LimitError
	var drain *sessions.DrainError
	switch {
	case errors.As(err, &known):
		return *known.row, true
	case errors.As(err, &limit):
		return limitReached(limit, session), true
	case errors.As(err, &drain):
		return refuseClusterDraining.With("cluster", drain.Cluster, "why", drainReason(drain)), true
	case errors.As(err, &setup):
		return refuseSetupNew.With("cluster", setup.Cluster, "what", setup.What, "why", setup.Problem), true
	case errors.As(err, &invalid):
		return refuseArgument.With("field", invalid.Field, "problem", invalid.Problem), true
	case errors.As(err, &cluster):
		return refuseClusterInactive.With("cluster", cluster.Cluster, "session", string(cluster.Session), "why", failure(err)).WithLog(cluster.Log), true
	case errors.As(err, &failed):
		return refuseSessionFailed.With("session", string(failed.Session), "why", failure(err)), true
	}
	failedSomewhere := refuseSessionFailed.With("session", session, "why", failure(err))
	for _, c := range [...]struct {
		err error
		row Refusal
	}{
		{sessions.ErrNotFound, refuseNotFound},
		{sessions.ErrDenied, denied},
		{sessions.ErrClosed, refuseSessionClosed.With("session", session)},
		{sessions.ErrNameTaken, refuseNameTaken},
		{sessions.ErrNoCluster, refuseNoCluster},
		{sessions.ErrFailed, failedSomewhere},
		{sessions.ErrClusterNotActive, failedSomewhere},
		{sessions.ErrPending, refuseSessionPending.With("session", session)},
		{sessions.ErrUnknownToken, refuseTokenUnknown.With("session", session)},
		{sessions.ErrTooManyKeys, refuseKeys},
		{sessions.ErrUnknownKey, refuseControlToken.With("problem", "no such API key is known")},
		{sessions.ErrKeyRevoked, refuseControlToken.With("problem", "this API key was revoked")},
		{sessions.ErrKeyExpired, refuseControlToken.With("problem", "this API key has expired")},
		{sessions.ErrConflict, refuseConflict.With("session", session)},
		{sessions.ErrUnavailable, refuseRegistry},
		{auth.ErrAmbiguous, refuseTokenAmbiguous},
		{auth.ErrMissing, refuseControlToken.With("problem", "none was sent")},
		{auth.ErrScheme, refuseControlToken.With("problem", "it is not a bearer token")},
		{auth.ErrExpired, refuseControlToken.With("problem", "it expired")},
		{auth.ErrNotYet, refuseControlToken.With("problem", "it is not valid yet")},
		{auth.ErrHeader, refuseControlToken.With("problem", "it is not a control token")},
		{auth.ErrIssuerAway, refuseIssuerAway.With("session", session)},
		{auth.ErrKeysPending, refuseIssuerAway.With("session", session)},
		{context.DeadlineExceeded, refuseTimeout},
	} {
		if errors.Is(err, c.err) {
			return c.row, true
		}
	}
	problem, ok := tokenProblem(err)
	return refuseControlToken.With("problem", problem), ok
}

// Internal is the answer to an error that no row of the table is for. The error
// itself goes into the log under the same request id, and nowhere else.
func Internal(requestID string) Refusal { return refuseInternal.With("id", requestID) }

// ago words a time span for people, in its largest unit.
func ago(d time.Duration) string {
	for _, u := range [...]struct {
		unit time.Duration
		name string
	}{{24 * time.Hour, " day"}, {time.Hour, " hour"}, {time.Minute, " minute"}} {
		if n := d / u.unit; n > 1 {
			return strconv.Itoa(int(n)) + u.name + "s"
		} else if n == 1 {
			return "1" + u.name
		}
	}
	return strconv.Itoa(int(max(d, 0)/time.Second)) + " s"
}

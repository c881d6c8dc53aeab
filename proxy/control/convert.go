package control

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sconce-dev/sconce/auth"
	sconcev1 "github.com/sconce-dev/sconce/proto/sconce/v1"
	"github.com/sconce-dev/sconce/sessions"
)

var states = map[sessions.State]sconcev1.Session_State{
	sessions.Pending: sconcev1.Session_PENDING,
	sessions.Active:  sconcev1.Session_ACTIVE,
	sessions.Idle:    sconcev1.Session_IDLE,
	sessions.Closed:  sconcev1.Session_CLOSED,
	sessions.Failed:  sconcev1.Session_FAILED,
}

func (c *Config) message(s sessions.Session) *sconcev1.Session {
	var engine sessions.Instance
	if s.Engine != nil && s.State == sessions.Active {
		engine = *s.Engine
	}
	var expires time.Time
	if c.Expires != nil {
		expires = c.Expires(s)
	}
	return &sconcev1.Session{
		Wakeable: c.Wakeable != nil && c.Wakeable(s),
		Id:       string(s.ID), Name: s.Name, Owner: s.Owner, Organisation: s.Org, Cluster: s.Cluster,
		State: states[s.State], Reason: s.Reason, Generation: s.Generation,
		CreateTime: timestamp(s.CreatedAt), ChangeTime: timestamp(s.ChangedAt), CloseTime: timestamp(s.ClosedAt),
		Catalog: s.Catalog, Database: s.Database, Conf: s.ShownConf(), Labels: s.Labels.Map(),
		IdleTimeout: durationpb.New(s.IdleTimeout), MaxAge: durationpb.New(s.MaxAge), ExpireTime: timestamp(expires),
		Revision: s.Revision, LastUseTime: timestamp(s.UsedAt), IdleTime: timestamp(s.IdleAt),
		EngineVersion: engine.Version, Stage: s.Stage, StageTime: timestamp(s.StageAt), WakeFailure: s.WakeFailure,
	}
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func tokenMessage(token string, what *auth.Identity, endpoint string) *sconcev1.IssueSessionTokenResponse {
	return &sconcev1.IssueSessionTokenResponse{
		Token: token, TokenId: what.TokenID, ExpireTime: timestamp(what.Expires), Endpoint: endpoint,
		ConnectionString: fmt.Sprintf("sc://%s/;token=%s;x-session-id=%s", endpoint, token, what.Session),
		Snippets:         snippets(),
	}
}

func tokenMessages(list []sessions.Token) []*sconcev1.SessionToken {
	messages := make([]*sconcev1.SessionToken, len(list))
	for i, t := range list {
		messages[i] = &sconcev1.SessionToken{
			TokenId: t.ID, Name: t.Name,
			CreateTime: timestamp(t.CreatedAt), ExpireTime: timestamp(t.ExpiresAt), RevokeTime: timestamp(t.RevokedAt),
			LastUseTime: timestamp(t.LastUsedAt),
		}
	}
	return messages
}

// sessionID refuses what no session can be called. To name one that does not
// exist is another matter, which the Manager answers.
func sessionID(s string) (sessions.ID, error) {
	if id := sessions.ID(s); id.Valid() {
		return id, nil
	}
	return "", &sessions.InvalidError{Field: "session_id", Problem: "is not a session's id (s- and 26 characters)"}
}

// span reads a span of time; nil = it was not given.
func span(field string, d *durationpb.Duration) (*time.Duration, error) {
	if d == nil {
		return nil, nil
	}
	if d.CheckValid() != nil || d.AsDuration() < 0 {
		return nil, &sessions.InvalidError{Field: field, Problem: "is not a span of time"}
	}
	v := d.AsDuration()
	return &v, nil
}

// spanOrZero is span where not given and 0 are the same.
func spanOrZero(field string, d *durationpb.Duration) (time.Duration, error) {
	v, err := span(field, d)
	if v == nil {
		return 0, err
	}
	return *v, nil
}

func createRequest(r *sconcev1.CreateSessionRequest) (sessions.CreateRequest, error) {
	idle, err := span("idle_timeout", r.GetIdleTimeout())
	if err != nil {
		return sessions.CreateRequest{}, err
	}
	age, err := spanOrZero("max_age", r.GetMaxAge())
	if err != nil {
		return sessions.CreateRequest{}, err
	}
	return sessions.CreateRequest{
		Name: r.GetName(), Cluster: r.GetCluster(), RequestID: r.GetRequestId(),
		Options: sessions.Options{
			Catalog: r.GetCatalog(), Database: r.GetDatabase(), Conf: r.GetConf(),
			IdleTimeout: idle, MaxAge: age, Labels: r.GetLabels(),
		},
	}, nil
}

package control

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/sconce-dev/sconce/auth"
	sconcev1 "github.com/sconce-dev/sconce/proto/sconce/v1"
	"github.com/sconce-dev/sconce/proxy"
	"github.com/sconce-dev/sconce/sessions"
)

// Sessions is the operations that are served. *sessions.Manager is one.
type Sessions interface {
	Create(ctx context.Context, a sessions.Actor, r sessions.CreateRequest) (sessions.Session, error)
	Describe(ctx context.Context, a sessions.Actor, id sessions.ID) (sessions.Session, error)
	List(ctx context.Context, a sessions.Actor, r sessions.ListRequest) (sessions.Page, error)
	Close(ctx context.Context, a sessions.Actor, id sessions.ID) (sessions.Session, error)
	IssueToken(ctx context.Context, a sessions.Actor, id sessions.ID, r sessions.TokenRequest) (string, *auth.Identity, error)
	ListTokens(ctx context.Context, a sessions.Actor, id sessions.ID) ([]sessions.Token, error)
	RevokeTokens(ctx context.Context, a sessions.Actor, id sessions.ID, tokens []string, all bool) ([]sessions.Token, error)
}

// Verifier checks tokens. *auth.Principals and *auth.Verifier are such.
type Verifier interface {
	Verify(token string, kind auth.Kind) (*auth.Identity, error)
}

// Keys is the operations on API keys. *sessions.Manager is one.
type Keys interface {
	Authenticate(ctx context.Context, key string) (sessions.Actor, error)
	CreateKey(ctx context.Context, a sessions.Actor, r sessions.KeyRequest) (string, sessions.Key, error)
	ListKeys(ctx context.Context, a sessions.Actor, org bool) ([]sessions.Key, error)
	RevokeKey(ctx context.Context, a sessions.Actor, id string) (sessions.Key, error)
}

// Clusters is the operations on clusters. *sessions.Manager is one.
type Clusters interface {
	ListClusters(ctx context.Context, a sessions.Actor) ([]sessions.ClusterStatus, error)
	DescribeCluster(ctx context.Context, a sessions.Actor, name string) (sessions.ClusterStatus, error)
	DrainCluster(ctx context.Context, a sessions.Actor, name, reason string) (sessions.ClusterStatus, error)
	ResumeCluster(ctx context.Context, a sessions.Actor, name string) (sessions.ClusterStatus, error)
}

// Config is what a Service is made of.
type Config struct {
	Sessions Sessions // required
	Verifier Verifier // required
	Keys     Keys     // nil = KeyService is not served, and no API key is taken
	Clusters Clusters // nil = ClusterService is not served
	// Callers bounds how often one may call; nil = an owner may as often as it likes.
	Callers *proxy.Callers
	// Endpoint is the host:port by which clients reach the data port; it goes
	// into connection strings. Required.
	Endpoint string
	// Streams counts the open streams of a session on all replicas; nil = nobody does.
	Streams func(context.Context, sessions.ID) (int64, error)
	// Operations counts those of a session that are not over although no stream of
	// theirs is open; nil = nobody does.
	Operations func(context.Context, sessions.ID) (int, error)
	// Lost says what a session's engine does not have of what earlier ones had; nil =
	// nobody knows.
	Lost func(context.Context, sessions.Session) ([]string, error)
	// Version says which Spark the engine of an active session is, "" = that is not
	// known; nil = nobody asks engines that are an address.
	Version func(context.Context, sessions.Session) string
	// UI is where the web pages of a session's engine are; nil = nobody knows.
	UI func(sessions.Session) string
	// Wakeable says whether a session's next request makes it active; nil = nobody knows,
	// and those that failed are to be closed.
	Wakeable func(sessions.Session) bool
	// Expires says when a session is closed by itself, zero = it is not; nil = nobody knows.
	Expires func(sessions.Session) time.Time
	// Logger gets the errors that callers are not told; nil = none.
	Logger *zap.Logger
}

// Service is sconce.v1.SessionService, KeyService and ClusterService.
type Service struct {
	sconcev1.UnimplementedSessionServiceServer
	sconcev1.UnimplementedClusterServiceServer
	sconcev1.UnimplementedKeyServiceServer
	Config
}

// New checks c and starts nothing.
func New(c Config) (*Service, error) {
	if c.Sessions == nil || c.Verifier == nil {
		return nil, errors.New("control: sessions and verifier are needed")
	}
	if _, _, err := net.SplitHostPort(c.Endpoint); err != nil {
		return nil, errors.New("control: endpoint must be host:port")
	}
	if c.Callers == nil {
		c.Callers = proxy.NewCallers(0, nil)
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	return &Service{Config: c}, nil
}

// Register puts the services on a gRPC server.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	sconcev1.RegisterSessionServiceServer(r, s)
	if s.Keys != nil {
		sconcev1.RegisterKeyServiceServer(r, s)
	}
	if s.Clusters != nil {
		sconcev1.RegisterClusterServiceServer(r, s)
	}
}

// CreateSession implements sconce.v1.
func (s *Service) CreateSession(ctx context.Context, r *sconcev1.CreateSessionRequest) (*sconcev1.CreateSessionResponse, error) {
	return answer(ctx, s, func(a sessions.Actor) (*sconcev1.CreateSessionResponse, error) {
		wanted, err := createRequest(r)
		if err != nil {
			return nil, err
		}
		made, err := s.Sessions.Create(ctx, a, wanted)
		if err != nil {
			return nil, &sessionError{made.ID, err}
		}
		return &sconcev1.CreateSessionResponse{Session: s.message(made)}, nil
	})
}

// DescribeSession implements sconce.v1.
func (s *Service) DescribeSession(ctx context.Context, r *sconcev1.DescribeSessionRequest) (*sconcev1.DescribeSessionResponse, error) {
	return answerAbout(ctx, s, r.GetSessionId(), func(a sessions.Actor, id sessions.ID) (*sconcev1.DescribeSessionResponse, error) {
		found, err := s.Sessions.Describe(ctx, a, id)
		seen := s.message(found)
		if s.UI != nil {
			seen.UiUrl = s.UI(found)
		}
		if err == nil && s.Version != nil {
			seen.EngineVersion = s.Version(ctx, found)
		}
		if err == nil && s.Lost != nil {
			seen.Lost, err = s.Lost(ctx, found)
		}
		if err == nil && s.Operations != nil {
			var n int
			n, err = s.Operations(ctx, id)
			seen.DetachedOperations = int64(n)
		}
		if err == nil && s.Streams != nil {
			seen.OpenStreams, err = s.Streams(ctx, id)
		}
		return &sconcev1.DescribeSessionResponse{Session: seen}, err
	})
}

// ListSessions implements sconce.v1.
func (s *Service) ListSessions(ctx context.Context, r *sconcev1.ListSessionsRequest) (*sconcev1.ListSessionsResponse, error) {
	return answer(ctx, s, func(a sessions.Actor) (*sconcev1.ListSessionsResponse, error) {
		page, err := s.Sessions.List(ctx, a, sessions.ListRequest{
			Org: r.GetOrganisation(), Closed: r.GetClosed(), Name: r.GetName(), Labels: r.GetLabels(),
			Size: int(r.GetPageSize()), After: sessions.ID(r.GetPageToken()),
		})
		resp := &sconcev1.ListSessionsResponse{NextPageToken: string(page.Next)}
		for _, one := range page.Sessions {
			resp.Sessions = append(resp.Sessions, s.message(one))
		}
		return resp, err
	})
}

// CloseSession implements sconce.v1.
func (s *Service) CloseSession(ctx context.Context, r *sconcev1.CloseSessionRequest) (*sconcev1.CloseSessionResponse, error) {
	return answerAbout(ctx, s, r.GetSessionId(), func(a sessions.Actor, id sessions.ID) (*sconcev1.CloseSessionResponse, error) {
		closed, err := s.Sessions.Close(ctx, a, id)
		return &sconcev1.CloseSessionResponse{Session: s.message(closed)}, err
	})
}

// IssueSessionToken implements sconce.v1.
func (s *Service) IssueSessionToken(ctx context.Context, r *sconcev1.IssueSessionTokenRequest) (*sconcev1.IssueSessionTokenResponse, error) {
	return answerAbout(ctx, s, r.GetSessionId(), func(a sessions.Actor, id sessions.ID) (*sconcev1.IssueSessionTokenResponse, error) {
		life, err := spanOrZero("lifetime", r.GetLifetime())
		if err != nil {
			return nil, err
		}
		token, what, err := s.Sessions.IssueToken(ctx, a, id, sessions.TokenRequest{Lifetime: life, Name: r.GetName(), Replace: r.GetReplace()})
		if err != nil {
			return nil, err
		}
		return tokenMessage(token, what, s.Endpoint), nil
	})
}

// ListSessionTokens implements sconce.v1.
func (s *Service) ListSessionTokens(ctx context.Context, r *sconcev1.ListSessionTokensRequest) (*sconcev1.ListSessionTokensResponse, error) {
	return answerAbout(ctx, s, r.GetSessionId(), func(a sessions.Actor, id sessions.ID) (*sconcev1.ListSessionTokensResponse, error) {
		list, err := s.Sessions.ListTokens(ctx, a, id)
		return &sconcev1.ListSessionTokensResponse{Tokens: tokenMessages(list)}, err
	})
}

// RevokeSessionTokens implements sconce.v1.
func (s *Service) RevokeSessionTokens(ctx context.Context, r *sconcev1.RevokeSessionTokensRequest) (*sconcev1.RevokeSessionTokensResponse, error) {
	return answerAbout(ctx, s, r.GetSessionId(), func(a sessions.Actor, id sessions.ID) (*sconcev1.RevokeSessionTokensResponse, error) {
		ended, err := s.Sessions.RevokeTokens(ctx, a, id, r.GetTokenIds(), r.GetAll())
		return &sconcev1.RevokeSessionTokensResponse{Tokens: tokenMessages(ended)}, err
	})
}

// requestIDHeader tells callers under which id the log has their call.
const requestIDHeader = "x-request-id"

// answer is the way of every call: who is it, may it call so often, do it, and the words
// for what went wrong.
func answer[R any](ctx context.Context, s *Service, do func(sessions.Actor) (*R, error)) (*R, error) {
	requestID := uuid.NewString()
	// It fails only where there is no call to answer.
	_ = grpc.SetHeader(ctx, metadata.Pairs(requestIDHeader, requestID))
	actor, err := s.actor(ctx)
	actor.RequestID = requestID
	if err == nil {
		err = s.Callers.Enter(actor.Org, actor.Subject)
	}
	var resp *R
	if err == nil {
		resp, err = do(actor)
	}
	if err != nil {
		return nil, s.refuse(err, requestID)
	}
	return resp, nil
}

// answerAbout is answer for a call about the session of that id.
func answerAbout[R any](ctx context.Context, s *Service, session string, do func(sessions.Actor, sessions.ID) (*R, error)) (*R, error) {
	return answer(ctx, s, func(a sessions.Actor) (*R, error) {
		id, err := sessionID(session)
		if err != nil {
			return nil, err
		}
		resp, err := do(a, id)
		if err != nil {
			return nil, &sessionError{id, err}
		}
		return resp, nil
	})
}

// sessionError is an error about a session, which the answer names.
type sessionError struct {
	session sessions.ID // "" = it has none yet
	error
}

func (e *sessionError) Unwrap() error { return e.error }

// source is the address of who calls, as the port saw it.
func source(md metadata.MD) string {
	if peer := md.Get(proxy.PeerHeader); len(peer) == 1 {
		return peer[0]
	}
	return ""
}

// refuse turns an error into the status that its row of the table says. What the
// table does not know is logged here, once, and not told.
func (s *Service) refuse(err error, requestID string) error {
	session := ""
	if about := (*sessionError)(nil); errors.As(err, &about) {
		session = string(about.session)
	}
	r, ok := proxy.RefuseControl(err, session)
	if !ok {
		s.Logger.Error("control call failed", zap.String("request_id", requestID), zap.Error(err))
		r = proxy.Internal(requestID)
	}
	return r.Status().Err()
}

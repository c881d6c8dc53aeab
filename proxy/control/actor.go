package control

import (
	"context"
	"errors"

	"google.golang.org/grpc/metadata"

	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/sessions"
)

// actor says who calls: by a control token, an API key or a token of a trusted
// issuer.
func (s *Service) actor(ctx context.Context) (sessions.Actor, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	a, err := s.principal(ctx, md)
	a.Source = source(md)
	return a, err
}

func (s *Service) principal(ctx context.Context, md metadata.MD) (sessions.Actor, error) {
	token, err := auth.Bearer(md.Get("authorization"), md.Get("authentication"))
	if err != nil {
		return sessions.Actor{}, err
	}
	if s.Keys != nil && auth.IsAPIKey(token) {
		return s.byKey(ctx, token, source(md))
	}
	who, err := s.verify(ctx, token)
	if err != nil {
		return sessions.Actor{}, err
	}
	return sessions.Actor{Subject: who.Subject, Org: who.Org, Admin: who.Admin, Via: who.Issuer}, nil
}

// byKey asks the registry, unless too many keys came from there that nobody has.
func (s *Service) byKey(ctx context.Context, key, from string) (sessions.Actor, error) {
	if err := s.Callers.May(from, key); err != nil {
		return sessions.Actor{}, err
	}
	a, err := s.Keys.Authenticate(ctx, key)
	s.Callers.Tried(from, key, err)
	return a, err
}

// verify waits, once, where the keys of the token's issuer are being fetched.
func (s *Service) verify(ctx context.Context, token string) (*auth.Identity, error) {
	who, err := s.Verifier.Verify(token, auth.KindControl)
	var pending *auth.PendingError
	if !errors.As(err, &pending) {
		return who, err
	}
	select {
	case <-pending.Done:
		return s.Verifier.Verify(token, auth.KindControl)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

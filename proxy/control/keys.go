package control

import (
	"context"

	sconcev1 "github.com/sconce-dev/sconce/proto/sconce/v1"
	"github.com/sconce-dev/sconce/sessions"
)

// CreateKey implements sconce.v1.
func (s *Service) CreateKey(ctx context.Context, r *sconcev1.CreateKeyRequest) (*sconcev1.CreateKeyResponse, error) {
	return answer(ctx, s, func(a sessions.Actor) (*sconcev1.CreateKeyResponse, error) {
		life, err := spanOrZero("lifetime", r.GetLifetime())
		if err != nil {
			return nil, err
		}
		key, what, err := s.Keys.CreateKey(ctx, a, sessions.KeyRequest{
			Name: r.GetName(), Subject: r.GetSubject(), Admin: r.GetAdmin(), Lifetime: life,
		})
		return &sconcev1.CreateKeyResponse{Secret: key, Key: keyMessage(what)}, err
	})
}

// ListKeys implements sconce.v1.
func (s *Service) ListKeys(ctx context.Context, r *sconcev1.ListKeysRequest) (*sconcev1.ListKeysResponse, error) {
	return answer(ctx, s, func(a sessions.Actor) (*sconcev1.ListKeysResponse, error) {
		list, err := s.Keys.ListKeys(ctx, a, r.GetOrganisation())
		resp := &sconcev1.ListKeysResponse{}
		for _, k := range list {
			resp.Keys = append(resp.Keys, keyMessage(k))
		}
		return resp, err
	})
}

// RevokeKey implements sconce.v1.
func (s *Service) RevokeKey(ctx context.Context, r *sconcev1.RevokeKeyRequest) (*sconcev1.RevokeKeyResponse, error) {
	return answer(ctx, s, func(a sessions.Actor) (*sconcev1.RevokeKeyResponse, error) {
		k, err := s.Keys.RevokeKey(ctx, a, r.GetKeyId())
		return &sconcev1.RevokeKeyResponse{Key: keyMessage(k)}, err
	})
}

func keyMessage(k sessions.Key) *sconcev1.Key {
	return &sconcev1.Key{
		KeyId: k.ID, Name: k.Name, Subject: k.Subject, Organisation: k.Org, Admin: k.Admin, CreatedBy: k.CreatedBy,
		CreateTime: timestamp(k.CreatedAt), ExpireTime: timestamp(k.ExpiresAt),
		LastUseTime: timestamp(k.UsedAt), RevokeTime: timestamp(k.RevokedAt),
	}
}

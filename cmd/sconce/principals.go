package main

import (
	"context"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/auth/openid"
	"github.com/sconce-dev/sconce/configs"
	"github.com/sconce-dev/sconce/proxy"
)

// issuers are the outside ones, whose keys are fetched.
type issuers []*openid.Issuer

// Run fetches their keys until ctx ends.
func (list issuers) Run(ctx context.Context) error {
	var group errgroup.Group
	for _, i := range list {
		group.Go(func() error { return i.Run(ctx) })
	}
	return group.Wait()
}

// newPrincipals makes all whose tokens a configuration believes. An issuer that is
// away is a note in the admin listener's /readyz and no reason for traffic to stay
// away: what comes by other tokens works.
func newPrincipals(cfg configs.Auth, own *auth.Verifier, ready *proxy.Ready, now func() time.Time, log *zap.Logger) (*auth.Principals, issuers, error) {
	var list issuers
	var trusts []*auth.Trust
	for _, o := range cfg.OIDC {
		about := "issuer " + o.Issuer
		ready.Note(about, "its keys are being fetched")
		i, err := openid.NewIssuer(openid.Config{
			Issuer: o.Issuer, JWKS: o.JWKSURL, Logger: log,
			OnState: func(fault string) {
				if fault != "" {
					fault = "its keys cannot be fetched, it is asked again every 10 s: " + fault
				}
				ready.Note(about, fault)
			},
		})
		if err != nil {
			return nil, nil, err
		}
		t, err := auth.NewTrust(auth.TrustConfig{
			Issuer: o.Issuer, Audience: o.Audience, Keys: i.Keys(), Org: o.Organisation, AdminRoles: o.AdminRoles, DataPath: o.DataPlane,
			Claims: auth.ClaimNames{Subject: o.Claims.Subject, Org: o.Claims.Organisation, Roles: o.Claims.Roles},
			Leeway: leeway(cfg), Now: now,
		})
		if err != nil {
			return nil, nil, err
		}
		list, trusts = append(list, i), append(trusts, t)
	}
	all, err := auth.NewPrincipals(own, trusts...)
	return all, list, err
}

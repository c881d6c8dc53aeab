package configs

import (
	"fmt"
	"net"
	"net/url"
)

// OIDC is an outside OpenID Connect issuer whose tokens are believed.
type OIDC struct {
	// Issuer is its URL, which is the `iss` of its tokens, compared exactly.
	Issuer string `yaml:"issuer"`
	// Audience must be in the `aud` of its tokens.
	Audience string `yaml:"audience"`
	// JWKSURL is where its keys are; "" = discovery says it.
	JWKSURL string     `yaml:"jwks_url"`
	Claims  OIDCClaims `yaml:"claims"`
	// Organisation is that of all its subjects; "" = Claims.Organisation says it.
	Organisation string `yaml:"organisation"`
	// AdminRoles are the roles that make an administrator of the organisation.
	AdminRoles []string `yaml:"admin_roles"`
	// DataPlane: its tokens open their subject's sessions, not only the control API.
	DataPlane bool `yaml:"data_plane"`
}

// OIDCClaims says which claim names what: by the claim's name, or by a path with
// dots.
type OIDCClaims struct {
	// Subject; "" = sub.
	Subject string `yaml:"subject"`
	// Organisation; "" = OIDC.Organisation.
	Organisation string `yaml:"organisation"`
	// Roles is a list of strings or a string; "" = nobody has a role.
	Roles string `yaml:"roles"`
}

func (l *loader) oidc() {
	seen := map[string]int{}
	for i, o := range l.config.Auth.OIDC {
		at := fmt.Sprintf("auth.oidc[%d]", i)
		first, twice := seen[o.Issuer]
		switch {
		case o.Issuer == "":
			l.fault(l.written(at, "issuer"), "missing: write the URL that stands in the `iss` of its tokens")
		case twice:
			l.fault(l.written(at, "issuer"), "%q is already auth.oidc[%d]: write each issuer once", o.Issuer, first)
		case o.Issuer == l.config.Auth.Issuer:
			l.fault(l.written(at, "issuer"), "%q is auth.issuer, Sconce's own: an outside issuer needs another", o.Issuer)
		default:
			l.issuerURL(l.written(at, "issuer"), o.Issuer)
		}
		seen[o.Issuer] = i
		if o.JWKSURL != "" {
			l.issuerURL(l.written(at, "jwks_url"), o.JWKSURL)
		}
		if o.Audience == "" {
			l.fault(l.written(at, "audience"), "missing: write what its tokens for Sconce have as `aud`, so that those for other services open nothing here")
		}
		if (o.Organisation == "") == (o.Claims.Organisation == "") {
			l.fault(l.written(at, "organisation"), "write either organisation, for an issuer of one, or claims.organisation, the claim that names it")
		}
		if len(o.AdminRoles) > 0 && o.Claims.Roles == "" {
			l.fault(l.written(at, "admin_roles"), "mean nothing without claims.roles: write the claim that has the roles")
		}
	}
}

// issuerURL wants https, or http to this machine.
func (l *loader) issuerURL(path, text string) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" ||
		u.Scheme != "https" && (u.Scheme != "http" || u.Hostname() != "localhost" && !net.ParseIP(u.Hostname()).IsLoopback()) {
		l.fault(path, "%q: write https://host/path (http only for an issuer on this machine)", text)
	}
}

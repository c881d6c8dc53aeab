package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ClaimNames says which claims of an outside token name what. Each is the name
// of a claim ("https://acme.example/org"), or, where there is none of that name,
// a path with dots to one inside another ("realm_access.roles").
type ClaimNames struct {
	// Subject is a string; "" = sub. Where it is email, a token that says
	// email_verified: false is refused.
	Subject string
	// Org is a string; "" = TrustConfig.Org.
	Org string
	// Roles is a list of strings, or one string; "" = nobody has a role.
	Roles string
}

// Lists in a token are read no further than that.
const (
	maxRoles     = 1000
	maxAudiences = 100
)

// parseClaims reads the claims of a token whose signature was right.
func (c *TrustConfig) parseClaims(b []byte) (*Identity, error) {
	o, err := parseObject(b, c.knownClaims())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrClaims, err)
	}
	if err := c.checkParties(o); err != nil {
		return nil, err
	}
	id := &Identity{Kind: KindOutside, Issuer: c.Issuer}
	if err := c.readPrincipal(o, id); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrClaims, err)
	}
	if err := o.readOutsideTimes(id); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrClaims, err)
	}
	if !id.Expires.After(id.IssuedAt) {
		return nil, fmt.Errorf("%w: it expires before it was issued", ErrClaims)
	}
	return id, nil
}

// knownClaims are those that must not be there in other letters.
func (c *TrustConfig) knownClaims() []string {
	known := []string{"iss", "aud", "sub", "exp", "iat", "nbf"}
	for _, name := range []string{c.Claims.Subject, c.Claims.Org, c.Claims.Roles} {
		first, _, _ := strings.Cut(name, ".")
		for _, n := range []string{name, first} {
			if n != "" && !slices.Contains(known, n) {
				known = append(known, n)
			}
		}
	}
	if c.Claims.Subject == "email" {
		known = append(known, "email_verified")
	}
	return known
}

// checkParties compares iss exactly and looks for our audience: outside issuers
// list several.
func (c *TrustConfig) checkParties(o object) error {
	iss, err := o.text("iss")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrClaims, err)
	}
	if iss != c.Issuer {
		return ErrIssuer
	}
	raw, ok := o["aud"]
	if !ok {
		return fmt.Errorf("%w: aud is missing", ErrClaims)
	}
	aud, err := texts(raw, maxAudiences)
	if err != nil {
		return fmt.Errorf("%w: aud %w", ErrClaims, err)
	}
	if !slices.Contains(aud, c.Audience) {
		return ErrAudience
	}
	return nil
}

func (c *TrustConfig) readPrincipal(o object, id *Identity) (err error) {
	// sub must be there whatever names the subject: OpenID Connect Core 2 and RFC 9068.
	if _, err := o.checkedText("sub", checkName); err != nil {
		return err
	}
	if id.Subject, err = o.nameAt(c.Claims.Subject); err != nil {
		return err
	}
	if raw, ok := o["email_verified"]; ok && c.Claims.Subject == "email" && string(raw) != "true" && string(raw) != `"true"` {
		return errors.New("email is not verified")
	}
	if id.Org = c.Org; id.Org == "" {
		if id.Org, err = o.nameAt(c.Claims.Org); err != nil {
			return err
		}
	}
	roles, err := o.rolesAt(c.Claims.Roles)
	id.Admin = slices.ContainsFunc(c.AdminRoles, func(r string) bool { return slices.Contains(roles, r) })
	return err
}

// readOutsideTimes wants exp and iat; nbf is the issuer's choice.
func (o object) readOutsideTimes(id *Identity) error {
	if !o.has("nbf") {
		o["nbf"] = json.RawMessage("0")
	}
	return o.readTimes(id)
}

// at finds a claim by its name or its path; nil = it is not there.
func (o object) at(path string) (json.RawMessage, error) {
	if raw, ok := o[path]; ok {
		return raw, nil
	}
	first, rest, deeper := strings.Cut(path, ".")
	raw, ok := o[first]
	if !deeper || !ok {
		return nil, nil
	}
	next, _, _ := strings.Cut(rest, ".")
	inner, err := parseObject(raw, []string{rest, next})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", first, err)
	}
	return inner.at(rest)
}

// nameAt returns a claim that must be there and name somebody.
func (o object) nameAt(path string) (string, error) {
	raw, err := o.at(path)
	if err != nil {
		return "", err
	}
	if raw == nil {
		return "", fmt.Errorf("%s is missing", path)
	}
	return object{path: raw}.checkedText(path, checkName)
}

// rolesAt returns the roles in a claim, none where it is not there.
func (o object) rolesAt(path string) ([]string, error) {
	if path == "" {
		return nil, nil
	}
	raw, err := o.at(path)
	if err != nil || raw == nil {
		return nil, err
	}
	roles, err := texts(raw, maxRoles)
	if err != nil {
		return nil, fmt.Errorf("%s %w", path, err)
	}
	return roles, nil
}

// texts reads a list of strings, or one string.
func texts(raw json.RawMessage, most int) ([]string, error) {
	var list []*string
	if raw[0] == '"' {
		raw = json.RawMessage("[" + string(raw) + "]")
	}
	if raw[0] != '[' || json.Unmarshal(raw, &list) != nil || slices.Contains(list, nil) {
		return nil, errors.New("is neither a string nor a list of strings")
	}
	if len(list) > most {
		return nil, fmt.Errorf("has more than %d entries", most)
	}
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = *s
	}
	return out, nil
}

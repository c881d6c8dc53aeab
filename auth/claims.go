package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The longest of each claim that names something, in bytes.
const (
	maxNameBytes = 256 // sub, org
	maxIDBytes   = 128 // sid, jti
)

// claimRule is what the claims of a token are held against.
type claimRule struct {
	issuer    string
	audiences Audiences
	// maxLifetime bounds exp - iat. Zero = no bound.
	maxLifetime time.Duration
}

// parseClaims reads the claims of a token whose signature was right. Times are
// read but not compared with the clock: that is Identity.checkTime.
func (r claimRule) parseClaims(b []byte, kind Kind) (*Identity, error) {
	o, err := parseObject(b, []string{"iss", "aud", "sub", "sid", "org", "jti", "iat", "nbf", "exp", "role"})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrClaims, err)
	}
	id := &Identity{Kind: kind}
	if err := o.readNames(id); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrClaims, err)
	}
	if err := o.readTimes(id); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrClaims, err)
	}
	if err := r.checkParties(o, kind); err != nil {
		return nil, err
	}
	life := id.Expires.Sub(id.IssuedAt)
	if life <= 0 || r.maxLifetime > 0 && life > r.maxLifetime {
		return nil, fmt.Errorf("%w: lifetime is out of bounds", ErrClaims)
	}
	return id, nil
}

func (o object) readNames(id *Identity) (err error) {
	if id.Subject, err = o.checkedText("sub", checkName); err != nil {
		return err
	}
	if id.Org, err = o.checkedText("org", checkName); err != nil {
		return err
	}
	if id.TokenID, err = o.checkedText("jti", checkID); err != nil {
		return err
	}
	if id.Kind == KindSession {
		id.Session, err = o.checkedText("sid", checkID)
		return err
	}
	if o.has("sid") {
		return errors.New("sid has no place in a control token")
	}
	if o.has("role") {
		role, err := o.text("role")
		id.Admin = role == "admin"
		return err
	}
	return nil
}

func (o object) readTimes(id *Identity) error {
	for _, t := range []struct {
		name string
		into *time.Time
	}{{"iat", &id.IssuedAt}, {"nbf", &id.NotBefore}, {"exp", &id.Expires}} {
		s, err := o.seconds(t.name)
		if err != nil {
			return err
		}
		*t.into = time.Unix(s, 0).UTC()
	}
	return nil
}

func (o object) checkedText(name string, check func(string) string) (string, error) {
	s, err := o.text(name)
	if err != nil {
		return "", err
	}
	if problem := check(s); problem != "" {
		return "", fmt.Errorf("%s %s", name, problem)
	}
	return s, nil
}

// checkParties compares iss and aud, both exactly. An array of audiences is
// taken if ours is the only one in it: a token is for one door.
func (r claimRule) checkParties(o object, kind Kind) error {
	iss, err := o.text("iss")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrClaims, err)
	}
	if iss != r.issuer {
		return ErrIssuer
	}
	raw, ok := o["aud"]
	if !ok {
		return fmt.Errorf("%w: aud is missing", ErrClaims)
	}
	if raw[0] == '"' {
		raw = json.RawMessage("[" + string(raw) + "]")
	}
	var aud []string
	if raw[0] != '[' || json.Unmarshal(raw, &aud) != nil {
		return fmt.Errorf("%w: aud is neither a string nor a list of strings", ErrClaims)
	}
	if len(aud) != 1 || aud[0] == "" || aud[0] != r.audiences.of(kind) {
		return ErrAudience
	}
	return nil
}

// checkTime compares the times of a token with the clock, giving both sides
// leeway for clocks that differ. It allocates nothing unless it refuses.
func (id *Identity) checkTime(now time.Time, leeway time.Duration) error {
	if !now.Before(id.Expires.Add(leeway)) {
		return &ExpiredError{Expired: id.Expires}
	}
	latest := now.Add(leeway)
	if id.NotBefore.After(latest) || id.IssuedAt.After(latest) {
		return ErrNotYet
	}
	return nil
}

// CheckName says what is wrong with the name of a subject or an organisation, ""
// where nothing is.
func CheckName(s string) string { return checkName(s) }

// checkName says what is wrong with a sub or an org: these are shown to people,
// written to logs and stamped into plans, so they must be printable throughout
// (unicode.IsPrint: no control or format characters, no space but ' ').
func checkName(s string) string {
	switch {
	case s == "":
		return "is empty: give one"
	case len(s) > maxNameBytes:
		return fmt.Sprintf("is longer than %d bytes: shorten it", maxNameBytes)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unprintable):
		return "has characters that cannot be shown: take them out"
	case strings.TrimSpace(s) != s:
		return "begins or ends with a space: take it away"
	}
	return ""
}

func unprintable(c rune) bool { return c == utf8.RuneError || !unicode.IsPrint(c) }

// checkID says what is wrong with a sid or a jti: these go into headers and
// keys of the registry, so they are visible ASCII.
func checkID(s string) string {
	switch {
	case s == "":
		return "is empty: give one"
	case len(s) > maxIDBytes:
		return fmt.Sprintf("is longer than %d bytes: shorten it", maxIDBytes)
	case strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c >= 0x7f }):
		return "has characters that are not visible ASCII: take them out"
	}
	return ""
}

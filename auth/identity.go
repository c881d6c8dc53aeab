package auth

import "time"

// Kind is what a token is for. The zero Kind is none.
type Kind uint8

const (
	// KindSession opens one session on the data path.
	KindSession Kind = iota + 1
	// KindControl speaks to the control API.
	KindControl
	// KindOutside is of an outside issuer: it speaks to the control API and,
	// where the issuer may, opens its subject's sessions on the data path.
	KindOutside
)

func (k Kind) String() string {
	switch k {
	case KindSession:
		return "session"
	case KindControl:
		return "control"
	case KindOutside:
		return "outside"
	}
	return "none"
}

// typ is the header's typ of that kind, which is not configurable: it is what
// keeps a token from passing for one of another kind (RFC 8725, 3.11).
func (k Kind) typ() string {
	switch k {
	case KindSession:
		return "spark-session+jwt"
	case KindControl:
		return "sconce-control+jwt"
	}
	return ""
}

// Audiences names the aud of each kind.
type Audiences struct {
	Session string // "" = "sconce-session"
	Control string // "" = "sconce-control"
}

func (a Audiences) of(k Kind) string {
	switch {
	case k == KindSession && a.Session != "":
		return a.Session
	case k == KindSession:
		return "sconce-session"
	case k == KindControl && a.Control != "":
		return a.Control
	case k == KindControl:
		return "sconce-control"
	}
	return ""
}

// Identity is what a verified token says. Callers of Verify share it: it must
// not be changed.
type Identity struct {
	Kind    Kind
	Subject string // sub: who calls; never empty
	Org     string // org: the organisation; never empty
	Session string // sid; never empty for KindSession, else ""
	TokenID string // jti: revocation goes by it; never empty, but "" for KindOutside
	Admin   bool   // an administrator of Org; false for KindSession
	Issuer  string // KindOutside: iss; else ""

	IssuedAt  time.Time // iat, UTC, whole seconds
	NotBefore time.Time // nbf, UTC, whole seconds; zero where an outside token has none
	Expires   time.Time // exp, UTC, whole seconds; without leeway
}

package auth

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	minLifetime        = time.Second
	defaultLifetime    = time.Hour
	defaultMaxLifetime = 24 * time.Hour
)

// IssuerConfig is what an Issuer needs.
type IssuerConfig struct {
	// Key signs the tokens. Required.
	Key *SigningKey
	// Issuer is the iss of every token. Required.
	Issuer string
	// Audiences names the aud of each kind. The zero value has the defaults.
	Audiences Audiences
	// Lifetime is what a Grant gets that asks for none. Zero = 1 h, or
	// MaxLifetime if that is shorter.
	Lifetime time.Duration
	// MaxLifetime is the longest that a Grant may ask for. Zero = 24 h.
	MaxLifetime time.Duration
	// Now is the wall clock. Nil = time.Now.
	Now func() time.Time
	// Rand is where the bits of a jti come from. Nil = crypto/rand.
	Rand io.Reader
}

// Grant says what a token shall be good for. Whether its asker may have it is
// decided before.
type Grant struct {
	Kind    Kind
	Subject string // at most 256 printable bytes
	Org     string // at most 256 printable bytes
	Session string // KindSession: at most 128 bytes of visible ASCII; KindControl: ""
	Admin   bool   // KindControl: with the role "admin" in Org; KindSession: false
	// Lifetime counts from now, in whole seconds (a fraction is cut off), at
	// least 1 s. Zero = IssuerConfig.Lifetime.
	Lifetime time.Duration
}

// Issuer mints tokens that a Verifier of the same issuer, audiences and key
// takes. Any number of goroutines may use it.
type Issuer struct {
	key       *SigningKey
	issuer    string
	audiences Audiences
	lifetime  time.Duration
	max       time.Duration
	now       func() time.Time
	rand      io.Reader
}

// NewIssuer checks cfg and builds an Issuer.
func NewIssuer(cfg IssuerConfig) (*Issuer, error) {
	i := &Issuer{
		key: cfg.Key, issuer: cfg.Issuer, audiences: cfg.Audiences,
		lifetime: cfg.Lifetime, max: cfg.MaxLifetime,
		now: cfg.Now, rand: cfg.Rand,
	}
	if i.max == 0 {
		i.max = defaultMaxLifetime
	}
	if i.lifetime == 0 {
		i.lifetime = min(defaultLifetime, i.max)
	}
	if i.now == nil {
		i.now = time.Now
	}
	if i.rand == nil {
		i.rand = rand.Reader
	}
	switch {
	case i.key == nil:
		return nil, errors.New("issuer: no key: load one with LoadSigningKey")
	case i.issuer == "":
		return nil, errors.New("issuer: issuer is empty: set it to the iss of your tokens")
	case i.max < minLifetime:
		return nil, fmt.Errorf("issuer: max lifetime %v is out of bounds: choose at least %v", i.max, minLifetime)
	case i.lifetime < minLifetime || i.lifetime > i.max:
		return nil, fmt.Errorf("issuer: lifetime %v is out of bounds: choose %v to %v", i.lifetime, minLifetime, i.max)
	}
	return i, nil
}

// Issue mints one token, and returns what a Verifier will read in it. The token
// is a secret: show it once, keep it nowhere. A grant that cannot be is a
// *GrantError.
func (i *Issuer) Issue(g Grant) (token string, id *Identity, err error) {
	if g.Lifetime == 0 {
		g.Lifetime = i.lifetime
	}
	if err := i.check(g); err != nil {
		return "", nil, err
	}
	id = &Identity{Kind: g.Kind, Subject: g.Subject, Org: g.Org, Session: g.Session, Admin: g.Admin}
	if id.TokenID, err = i.newTokenID(); err != nil {
		return "", nil, err
	}
	id.IssuedAt = time.Unix(i.now().Unix(), 0).UTC()
	id.NotBefore = id.IssuedAt
	id.Expires = id.IssuedAt.Add(g.Lifetime.Truncate(time.Second))
	token, err = i.sign(id)
	if err != nil {
		return "", nil, err
	}
	return token, id, nil
}

func (i *Issuer) check(g Grant) error {
	if g.Kind.typ() == "" {
		return &GrantError{"kind", "is none: choose session or control"}
	}
	if problem := checkName(g.Subject); problem != "" {
		return &GrantError{"subject", problem}
	}
	if problem := checkName(g.Org); problem != "" {
		return &GrantError{"org", problem}
	}
	if g.Lifetime < minLifetime || g.Lifetime > i.max {
		return &GrantError{"lifetime", fmt.Sprintf("is out of bounds: choose %v to %v", minLifetime, i.max)}
	}
	if g.Kind == KindControl {
		if g.Session != "" {
			return &GrantError{"session", "has no place in a control token: leave it out"}
		}
		return nil
	}
	if g.Admin {
		return &GrantError{"admin", "has no place in a session token: leave it out"}
	}
	if problem := checkID(g.Session); problem != "" {
		return &GrantError{"session", problem}
	}
	return nil
}

func (i *Issuer) newTokenID() (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(i.rand, b[:]); err != nil {
		return "", fmt.Errorf("draw a token id: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

// tokenHeader and tokenClaims are what Issue writes, in this order.
type tokenHeader struct {
	Alg Algorithm `json:"alg"`
	Kid string    `json:"kid"`
	Typ string    `json:"typ"`
}

type tokenClaims struct {
	Iss  string `json:"iss"`
	Aud  string `json:"aud"`
	Sub  string `json:"sub"`
	Sid  string `json:"sid,omitempty"`
	Org  string `json:"org"`
	Role string `json:"role,omitempty"`
	Jti  string `json:"jti"`
	Iat  int64  `json:"iat"`
	Nbf  int64  `json:"nbf"`
	Exp  int64  `json:"exp"`
}

func (i *Issuer) sign(id *Identity) (string, error) {
	claims := tokenClaims{
		Iss: i.issuer, Aud: i.audiences.of(id.Kind),
		Sub: id.Subject, Sid: id.Session, Org: id.Org, Jti: id.TokenID,
		Iat: id.IssuedAt.Unix(), Nbf: id.NotBefore.Unix(), Exp: id.Expires.Unix(),
	}
	if id.Admin {
		claims.Role = "admin"
	}
	h, err := encodeJSON(tokenHeader{Alg: i.key.Algorithm(), Kid: i.key.KeyID(), Typ: id.Kind.typ()})
	if err != nil {
		return "", err
	}
	c, err := encodeJSON(claims)
	if err != nil {
		return "", err
	}
	return i.key.sign(h, c)
}

// sign makes the compact form of a JWS.
func (k *SigningKey) sign(header, claims []byte) (string, error) {
	signed := encodeSegment(header) + "." + encodeSegment(claims)
	signature, err := k.public.method().Sign(signed, k.private)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	token := signed + "." + encodeSegment(signature)
	if len(token) > MaxTokenBytes {
		return "", fmt.Errorf("sign token: %w: shorten subject, org or issuer", ErrTooLong)
	}
	return token, nil
}

// encodeJSON is json.Marshal without its HTML escapes, which make six bytes of
// each &.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode token: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

package auth

import (
	"errors"
	"fmt"
)

// Principals is everybody whose tokens are believed: Sconce itself, and outside
// issuers. Its zero value is not usable; any number of goroutines may use it.
type Principals struct {
	own      *Verifier
	trusts   map[string]*Trust
	dataPath []*Trust // those whose tokens open sessions
}

// NewPrincipals puts them together. No two trusts may be in one issuer, nor may
// one be in our own.
func NewPrincipals(own *Verifier, trusts ...*Trust) (*Principals, error) {
	if own == nil {
		return nil, errors.New("principals: no verifier of our own tokens")
	}
	p := &Principals{own: own, trusts: make(map[string]*Trust, len(trusts))}
	for _, t := range trusts {
		if t.Issuer() == own.rule.issuer || p.trusts[t.Issuer()] != nil {
			return nil, fmt.Errorf("principals: issuer %s is there twice", t.Issuer())
		}
		p.trusts[t.Issuer()] = t
		if t.cfg.DataPath {
			p.dataPath = append(p.dataPath, t)
		}
	}
	return p, nil
}

// Known says whether Verify remembers the token, and so costs next to nothing.
func (p *Principals) Known(token string, kind Kind) bool {
	if p.own.Known(token, kind) {
		return true
	}
	for _, t := range p.dataPath {
		if _, ok, _ := t.recall(token); ok && kind == KindSession {
			return true
		}
	}
	return false
}

// Verify returns who the token speaks for: with KindSession, one of our own for
// one session, or a KindOutside of an issuer with DataPath; with KindControl, one
// of our own for the control API, or a KindOutside of any trusted issuer. An API
// key is refused here, as what it is: ErrAPIKey.
//
// Our own tokens cost what they cost Verifier.Verify. It never blocks.
func (p *Principals) Verify(token string, kind Kind) (*Identity, error) {
	if len(p.trusts) == 0 && !IsAPIKey(token) {
		return p.own.Verify(token, kind)
	}
	if id, ok, err := p.own.recall(token, kind); ok {
		return id, err
	}
	if IsAPIKey(token) {
		return nil, ErrAPIKey
	}
	if kind == KindSession {
		for _, t := range p.dataPath {
			if id, ok, err := t.recall(token); ok {
				return id, err
			}
		}
	}
	t := p.trusts[issuerOf(token)]
	switch {
	case t == nil:
		return p.own.Verify(token, kind)
	case kind == KindSession && !t.cfg.DataPath:
		return nil, ErrOutside
	}
	return t.Verify(token)
}

package auth

import (
	"errors"
	"time"
)

// What Bearer and Verify refuse. Callers decide with errors.Is; no text of an
// error holds a byte of a credential.
var (
	// ErrMissing: no credential was sent, or a scheme without a token.
	ErrMissing = errors.New("no token")
	// ErrScheme: a credential of another scheme than Bearer.
	ErrScheme = errors.New("credential is not a bearer token")
	// ErrAmbiguous: more than one credential, so none can be believed.
	ErrAmbiguous = errors.New("more than one credential")

	// ErrAPIKey: an API key where only tokens are taken.
	ErrAPIKey = errors.New("credential is an API key")
	// ErrOutside: a token of an outside issuer, which opens no session.
	ErrOutside = errors.New("token of this issuer opens no session")

	// ErrTooLong: longer than MaxTokenBytes, or MaxOutsideBytes.
	ErrTooLong = errors.New("token is too long")
	// ErrMalformed: not three segments of canonical base64url.
	ErrMalformed = errors.New("token is malformed")
	// ErrHeader: the header is no strict JSON object, names another typ than the
	// kind asked for, or holds what must not be there (crit, b64, jku, ...).
	ErrHeader = errors.New("token header is refused")
	// ErrAlgorithm: an algorithm that is not taken, or not the key's own.
	ErrAlgorithm = errors.New("token algorithm is refused")
	// ErrUnknownKey: no kid, or one that the key set does not hold.
	ErrUnknownKey = errors.New("token was signed by an unknown key")
	// ErrIssuerAway: the keys of the token's issuer could not be fetched, so
	// nothing is known of the token. Waiting helps.
	ErrIssuerAway = errors.New("the keys of the token's issuer cannot be had")
	// ErrKeysPending: they are being fetched. It is always a *PendingError.
	ErrKeysPending = errors.New("the keys of the token's issuer are being fetched")
	// ErrSignature: the signature is not that key's for this token.
	ErrSignature = errors.New("token signature is wrong")

	// ErrClaims: a claim is missing, twice there, of the wrong type or not sane.
	ErrClaims = errors.New("token claims are refused")
	// ErrIssuer: another issuer than the configured one.
	ErrIssuer = errors.New("token is from another issuer")
	// ErrAudience: for another audience than the kind's.
	ErrAudience = errors.New("token is for another audience")
	// ErrNotYet: nbf or iat lies in the future, beyond the leeway.
	ErrNotYet = errors.New("token is not valid yet")
	// ErrExpired: what an *ExpiredError is.
	ErrExpired = errors.New("token expired")
)

// ExpiredError refuses a genuine token that came too late. It is ErrExpired.
type ExpiredError struct {
	// Expired is the exp of the token, without the leeway.
	Expired time.Time
}

func (e *ExpiredError) Error() string {
	return "token expired at " + e.Expired.UTC().Format(time.RFC3339)
}

// Is makes errors.Is(err, ErrExpired) true.
func (e *ExpiredError) Is(target error) bool { return target == ErrExpired }

// GrantError says which field of a Grant cannot go into a token, and why. Its
// text is fit for the person who asked for the token.
type GrantError struct {
	Field   string // as in Grant, lower case
	Problem string // "is empty: give one"
}

func (e *GrantError) Error() string { return e.Field + " " + e.Problem }

// PendingError is an ErrKeysPending: verify again once Done is closed.
type PendingError struct{ Done <-chan struct{} }

func (e *PendingError) Error() string { return ErrKeysPending.Error() }

// Is makes errors.Is(err, ErrKeysPending) true.
func (e *PendingError) Is(target error) bool { return target == ErrKeysPending }

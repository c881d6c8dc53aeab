// Package auth says who is calling. It reads a credential from request
// metadata, verifies it against a set of public keys, and mints the tokens that
// Sconce hands out.
//
//	authorization: Bearer eyJ...          Grant{Subject, Org, Session, ...}
//	        |                                      |
//	     Bearer                                 Issuer  <-- SigningKey (PEM, 0600)
//	        |  token                               |
//	     Verifier  <-- KeySet (PEM, JWKS)        token, Identity
//	        |
//	     *Identity
//
// Usage:
//
//	keys, err := auth.NewKeySet(auth.KeySetConfig{Files: []string{"keys/jwks.json"}})
//	v, err := auth.NewVerifier(auth.VerifierConfig{Keys: keys, Issuer: "https://sconce.example"})
//	go keys.Run(ctx)
//	token, err := auth.Bearer(md["authorization"], md["authentication"])
//	id, err := v.Verify(token, auth.KindSession)
//
// # What a token is
//
// A JWS in compact form of at most 4 KiB, signed with ES256 or EdDSA (Ed25519);
// RS256 is verified too, never minted. The key's own type fixes the algorithm,
// the header only has to agree. Its header holds alg, kid and typ, and must not
// hold crit, b64, or a key or an address of one. Its claims:
//
//	iss  exact, the configured issuer          iat  whole seconds, not in the future
//	aud  exact, one audience, by kind          nbf  whole seconds
//	sub  who calls                             exp  whole seconds
//	org  for which organisation                jti  names the token, for revocation
//	sid  the session (session tokens only)     role "admin" (control tokens, optional)
//
// There are two kinds, told apart by typ and aud, and neither passes for the
// other:
//
//	KindSession  typ spark-session+jwt   aud sconce-session   opens one session
//	KindControl  typ sconce-control+jwt  aud sconce-control   speaks to the control API
//
// Checks run from cheap to dear: length and alphabet, header, key, signature,
// and only then the claims. Names given twice, or twice but for the case of
// their letters, are refused in header and claims alike, so no two readers of a
// token can disagree about it. A token has one spelling in base64. An ECDSA
// signature (r, s) has a twin (r, n-s) that verifies too, and both are taken
// (RFC 7518 asks for no less): revoke by jti or by session, never by the bytes
// of a token.
//
// # Outside issuers and API keys
//
// A Trust believes the tokens of one outside issuer (OpenID Connect): the same
// checks, but typ is that of an ID token or an access token, aud may list others
// beside ours, nbf may be absent, a token may have 16 KiB, and configured claims
// name the subject, the organisation and the roles. Its keys are PublishedKeys,
// which package openid fetches. Principals puts our own Verifier and all trusts
// together. Of an API key only the form and the hash are known here.
//
// # Speed
//
// A verified token is remembered until it expires, and a repeated one costs a
// hash, a compare and a look at the clock: no signature check, no allocation,
// no lock. The cache holds a fixed number of tokens. Only tokens whose
// signature was right get in, so a flood of bad ones displaces nothing. Taking
// a key out of the key set makes the remembered tokens of that key worthless at
// once.
//
// # What it does not do
//
// It keeps no list of revoked tokens and knows no sessions: whoever calls
// Verify asks the registry about Identity.Session, or about an API key. It
// fetches nothing: no URL in a token or elsewhere is ever followed. It decides no gRPC status and words
// nothing for clients; its errors are sentinels for that. It throttles nobody.
package auth

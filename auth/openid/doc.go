// Package openid keeps the public keys of outside OpenID Connect issuers at hand:
// it finds where an issuer publishes them (discovery, by coreos/go-oidc), fetches
// them, and fetches them again when they may have changed.
//
//	auth.Trust ──> auth.PublishedKeys <── Replace ── Issuer.Run ──> https://issuer/...
//	    │ a key that is not there              ▲
//	    └──────────── missing ─────────────────┘ one fetch for all who wait
//
// Usage:
//
//	iss, err := openid.NewIssuer(openid.Config{Issuer: "https://login.example"})
//	trust, err := auth.NewTrust(auth.TrustConfig{Issuer: "https://login.example", Keys: iss.Keys(), ...})
//	go iss.Run(ctx)
//
// One goroutine for each issuer does all the fetching, and begins no fetch within
// Config.Gap (10 s) of the one before, failed or not: however many tokens come
// that name keys nobody knows, the issuer sees one fetch in that time. Tokens
// that come while a fetch is due or under way wait for it; those that come after
// it, within the gap, are refused at once, or told to come again where the fetch
// failed. An issuer that is away keeps nobody from starting, and takes nothing
// from tokens whose keys are known.
//
// Answers are read to 1 MiB, redirects are not followed, and plaintext HTTP is
// for issuers on this machine only.
//
// It judges no token: that is package auth.
package openid

package auth

import "strings"

// Bearer takes the token out of request metadata: the values of `authorization`
// and of `authentication`, which JVM clients before apache/spark#56586 send in
// its place over TLS. Two values of one name are refused whatever they say, and
// so are the two names with different tokens: which of them a server further on
// would believe is anybody's guess.
//
// It returns ErrMissing, ErrScheme or ErrAmbiguous. The token is not checked
// yet, not even its length.
func Bearer(authorization, authentication []string) (token string, err error) {
	if len(authorization) > 1 || len(authentication) > 1 {
		return "", ErrAmbiguous
	}
	switch {
	case len(authorization) == 0 && len(authentication) == 0:
		return "", ErrMissing
	case len(authentication) == 0:
		return bearerToken(authorization[0])
	case len(authorization) == 0:
		return bearerToken(authentication[0])
	}
	token, err = bearerToken(authorization[0])
	if authorization[0] == authentication[0] {
		return token, err
	}
	twin, twinErr := bearerToken(authentication[0])
	if err != nil || twinErr != nil || token != twin {
		return "", ErrAmbiguous
	}
	return token, nil
}

// bearerToken reads `Bearer <token>` (RFC 6750, 2.1): the scheme in any case,
// one space. A second space is left in the token, where Verify refuses it.
func bearerToken(value string) (string, error) {
	scheme, token, _ := strings.Cut(value, " ")
	if scheme == "" && token == "" {
		return "", ErrMissing
	}
	if !strings.EqualFold(scheme, "bearer") {
		return "", ErrScheme
	}
	if token == "" {
		return "", ErrMissing
	}
	return token, nil
}

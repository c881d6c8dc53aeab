package proxytest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/proxy/proxytest"
)

func TestKeysMakeGoodAndBadTokens(t *testing.T) {
	k := proxytest.NewKeys(t, nil)
	good := k.Session("s1", "alice")
	tests := []struct {
		name  string
		token string
		want  error // nil = taken
	}{
		{"issued", good, nil},
		{"by hand", k.Sign(k.Header(), k.Claims("s1", "alice")), nil},
		{"within the leeway", k.Expired("s1", "alice", 20*time.Second), nil},
		{"expired", k.Expired("s1", "alice", 31*time.Second), auth.ErrExpired},
		{"unsigned", k.Unsigned("s1", "alice"), auth.ErrMalformed},
		{"alg confusion", k.Confused("s1", "alice"), auth.ErrAlgorithm},
		{"zero signature", proxytest.Resigned(good, make([]byte, 64)), auth.ErrSignature},
		{"control token", k.Control("alice", false), auth.ErrHeader},
		{"another key", proxytest.NewKeys(t, nil).Session("s1", "alice"), auth.ErrUnknownKey},
		{"no sid", k.Sign(k.Header(), proxytest.Change(k.Claims("s1", "alice"), "sid", nil)), auth.ErrClaims},
		{"last bit", proxytest.FlipLastBit(good), auth.ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := k.Verifier.Verify(tt.token, auth.KindSession)
			if !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

package auth

import (
	"errors"
	"strings"
	"testing"
)

func TestBearer(t *testing.T) {
	tests := []struct {
		name           string
		authorization  []string
		authentication []string
		token          string
		err            error
	}{
		{name: "nothing sent", err: ErrMissing},
		{name: "bearer", authorization: []string{"Bearer abc"}, token: "abc"},
		{name: "scheme in lower case", authorization: []string{"bearer abc"}, token: "abc"},
		{name: "scheme in upper case", authorization: []string{"BEARER abc"}, token: "abc"},
		{name: "old JVM client", authentication: []string{"Bearer abc"}, token: "abc"},
		{name: "both and equal", authorization: []string{"Bearer abc"}, authentication: []string{"Bearer abc"}, token: "abc"},
		{name: "both, equal but for the scheme's case", authorization: []string{"Bearer abc"}, authentication: []string{"bearer abc"}, token: "abc"},
		{name: "both and different", authorization: []string{"Bearer abc"}, authentication: []string{"Bearer abd"}, err: ErrAmbiguous},
		{name: "good one beside another scheme", authorization: []string{"Bearer abc"}, authentication: []string{"Basic eDp5"}, err: ErrAmbiguous},
		{name: "another scheme beside a good one", authorization: []string{"Basic eDp5"}, authentication: []string{"Bearer abc"}, err: ErrAmbiguous},
		{name: "empty one beside a good one", authorization: []string{""}, authentication: []string{"Bearer abc"}, err: ErrAmbiguous},
		{name: "both another scheme", authorization: []string{"Basic eDp5"}, authentication: []string{"Basic eDp5"}, err: ErrScheme},
		{name: "two authorizations", authorization: []string{"Bearer abc", "Bearer abd"}, err: ErrAmbiguous},
		{name: "two equal authorizations", authorization: []string{"Bearer abc", "Bearer abc"}, err: ErrAmbiguous},
		{name: "two authentications", authentication: []string{"Bearer abc", "Bearer abc"}, err: ErrAmbiguous},
		{name: "two authentications beside a good one", authorization: []string{"Bearer abc"}, authentication: []string{"Bearer abc", "Bearer abc"}, err: ErrAmbiguous},
		{name: "basic", authorization: []string{"Basic eDp5"}, err: ErrScheme},
		{name: "token without scheme", authorization: []string{"abc"}, err: ErrScheme},
		{name: "longer scheme", authorization: []string{"BearerX abc"}, err: ErrScheme},
		{name: "tab for a space", authorization: []string{"Bearer\tabc"}, err: ErrScheme},
		{name: "space in front", authorization: []string{" Bearer abc"}, err: ErrScheme},
		{name: "empty value", authorization: []string{""}, err: ErrMissing},
		{name: "bearer without token", authorization: []string{"Bearer"}, err: ErrMissing},
		{name: "bearer and a space", authorization: []string{"Bearer "}, err: ErrMissing},
		{name: "second space stays in the token", authorization: []string{"Bearer  abc"}, token: " abc"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			token, err := Bearer(tt.authorization, tt.authentication)
			if token != tt.token || !errors.Is(err, tt.err) {
				t.Errorf("got %q, %v; want %q, %v", token, err, tt.token, tt.err)
			}
		})
	}
}

func TestBearerAllocatesNothing(t *testing.T) {
	values := []string{"Bearer abc"}
	if n := testing.AllocsPerRun(100, func() { _, _ = Bearer(values, values) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// What Bearer returns is the end of every value that was sent, and nothing
// more: no reader of the same headers sees another token.
func FuzzBearer(f *testing.F) {
	f.Add("Bearer abc", "bearer abc", uint8(3))
	f.Add("Bearer  abc", "", uint8(1))
	f.Add("", "Basic x", uint8(2))
	f.Fuzz(func(t *testing.T, a, b string, sent uint8) {
		var authorization, authentication []string
		if sent&1 != 0 {
			authorization = []string{a}
		}
		if sent&2 != 0 {
			authentication = []string{b}
		}
		token, err := Bearer(authorization, authentication)
		if err != nil {
			if token != "" {
				t.Fatalf("token %q with %v", token, err)
			}
			return
		}
		for _, value := range append(authorization, authentication...) {
			if token == "" || !strings.EqualFold(value[:len("bearer ")], "bearer ") || value[len("bearer "):] != token {
				t.Fatalf("%q taken for token %q", value, token)
			}
		}
	})
}

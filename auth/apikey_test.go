package auth

import (
	"crypto/rand"
	"errors"
	"regexp"
	"strings"
	"testing"
)

func TestAPIKey(t *testing.T) {
	key, id, hash, err := NewAPIKey(rand.Reader)
	ok(t, err)
	if !regexp.MustCompile(`^sck_[0-9a-v]{16}_[0-9a-v]{39}$`).MatchString(key) || !strings.HasPrefix(key, "sck_"+id+"_") {
		t.Errorf("a key of another form, of %d bytes", len(key))
	}
	gotID, gotHash, err := ParseAPIKey(key)
	if err != nil || gotID != id || !gotHash.Equal(hash) {
		t.Errorf("read as %s, %v", gotID, err)
	}
	other, otherID, otherHash, err := NewAPIKey(rand.Reader)
	ok(t, err)
	if other == key || otherID == id || otherHash.Equal(hash) {
		t.Error("two keys are alike")
	}
	if _, _, _, err := NewAPIKey(strings.NewReader("short")); err == nil {
		t.Error("a key of too little randomness")
	}
}

// Whatever one letter is changed to, the key is told to be damaged.
func TestParseAPIKeyRefuses(t *testing.T) {
	key, _, _, err := NewAPIKey(strings.NewReader("thirty bytes that are not random"))
	ok(t, err)
	for i := range key {
		for _, c := range "0v_w-A" {
			if changed := key[:i] + string(c) + key[i+1:]; changed != key {
				wantMalformed(t, changed)
			}
		}
	}
	for _, damaged := range []string{"", "sck_", key[:len(key)-1], key + "0", " " + key, strings.ToUpper(key), key[4:], key[:10] + key[11:12] + key[10:11] + key[12:]} {
		wantMalformed(t, damaged)
	}
}

func wantMalformed(t *testing.T, key string) {
	t.Helper()
	if _, _, err := ParseAPIKey(key); !errors.Is(err, ErrMalformed) {
		t.Errorf("%s: %v", key, err)
	}
}

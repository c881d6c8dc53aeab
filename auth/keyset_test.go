package auth

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// filedKit is a kit whose keys are in a file.
type filedKit struct {
	*kit
	path string
	logs *observer.ObservedLogs
}

func newFiledKit(t *testing.T) *filedKit {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	f := &filedKit{kit: newKit(t), logs: logs}
	f.path = writeFile(t, "keys.json", 0o644, f.set("es256", "eddsa"))
	var err error
	f.keys, err = NewKeySet(KeySetConfig{Files: []string{f.path}, Logger: zap.New(core)})
	ok(t, err)
	f.verifier.keys = f.keys
	return f
}

// set is a JWKS of some of the kit's keys, under the kids that they mint with.
func (f *filedKit) set(names ...string) []byte {
	var keys []members
	for _, name := range names {
		key := map[string]*SigningKey{"es256": f.es256, "eddsa": f.eddsa, "rs256": f.rs256}[name]
		keys = append(keys, jwkOf(f, key.KeyID(), key.private.Public()))
	}
	return jwks(f, keys...)
}

func (f *filedKit) write(data []byte) {
	f.Helper()
	rewriteFile(f, f.path, 0o644, data)
}

func TestRemovedKeyKillsRememberedTokens(t *testing.T) {
	f := newFiledKit(t)
	dead, _ := f.mint(f.es256, sessionGrant())
	alive, _ := f.mint(f.eddsa, sessionGrant())
	_, err := f.verifier.Verify(dead, KindSession)
	ok(t, err)
	first, err := f.verifier.Verify(alive, KindSession)
	ok(t, err)
	f.write(f.set("eddsa", "rs256"))
	ok(t, f.keys.Reload())
	if _, err := f.verifier.Verify(dead, KindSession); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("token of a removed key: %v", err)
	}
	if again, err := f.verifier.Verify(alive, KindSession); err != nil || again != first {
		t.Errorf("token of a key that stayed is forgotten: %v", err)
	}
	coming := sign(t, f.rs256, headerOf(f.rs256).json(t), claims().json(t))
	if _, err := f.verifier.Verify(coming, KindSession); err != nil {
		t.Errorf("token of an added key: %v", err)
	}
}

// A kid that changes hands must not carry the old key's tokens along.
func TestReplacedKeyKillsRememberedTokens(t *testing.T) {
	f := newFiledKit(t)
	token, _ := f.mint(f.es256, sessionGrant())
	_, err := f.verifier.Verify(token, KindSession)
	ok(t, err)
	other, err := GenerateSigningKey(ES256)
	ok(t, err)
	f.write(jwks(t, jwkOf(t, f.es256.KeyID(), other.private.Public())))
	ok(t, f.keys.Reload())
	if _, err := f.verifier.Verify(token, KindSession); !errors.Is(err, ErrSignature) {
		t.Errorf("got %v", err)
	}
	f.write(f.set("es256"))
	ok(t, f.keys.Reload())
	if _, err := f.verifier.Verify(token, KindSession); err != nil {
		t.Errorf("the key is back: %v", err)
	}
}

func TestFaultyReloadKeepsTheLastGoodSet(t *testing.T) {
	f := newFiledKit(t)
	token, _ := f.mint(f.es256, sessionGrant())
	private := privatePEM(t, "PRIVATE KEY", f.rs256)
	faults := []struct {
		name string
		do   func()
	}{
		{"no keys", func() { f.write([]byte(`{"keys":[]}`)) }},
		{"cut short", func() { f.write(f.set("rs256")[:50]) }},
		{"empty", func() { f.write(nil) }},
		{"one good key, one broken", func() {
			f.write(bytes.Replace(f.set("rs256", "es256"), []byte(`"y":"`), []byte(`"y":"A`), 1))
		}},
		{"too long", func() { f.write(bytes.Repeat([]byte(" "), maxKeyFileBytes+1)) }},
		{"private and open to all", func() { f.write(private) }},
		{"gone", func() { ok(t, os.Remove(f.path)) }},
	}
	for _, tt := range faults {
		t.Run(tt.name, func(t *testing.T) {
			before := f.keys.KeyIDs()
			tt.do()
			if err := f.keys.Reload(); err == nil {
				t.Fatal("reloaded")
			}
			if after := f.keys.KeyIDs(); !slices.Equal(before, after) {
				t.Errorf("keys are now %v", after)
			}
			if _, err := f.verifier.Verify(token, KindSession); err != nil {
				t.Errorf("a good token is refused: %v", err)
			}
		})
	}
	f.write(f.set("eddsa"))
	ok(t, f.keys.Reload())
	if _, err := f.verifier.Verify(token, KindSession); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("after recovery: %v", err)
	}
}

func TestReloadIsQuietIfNothingChanged(t *testing.T) {
	f := newFiledKit(t)
	for range 3 {
		ok(t, f.keys.Reload())
	}
	if n := f.logs.FilterMessage("keys loaded").Len(); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

// A file that others may now read is a fault even though its content is the
// same.
func TestReloadSeesAModeThatWasOpened(t *testing.T) {
	k := newKit(t)
	path := writeFile(t, "key.pem", 0o600, privatePEM(t, "PRIVATE KEY", k.es256))
	set, err := NewKeySet(KeySetConfig{Files: []string{path}})
	ok(t, err)
	ok(t, os.Chmod(path, 0o640))
	if err := set.Reload(); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("got %v", err)
	}
}

func TestRunFollowsTheFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFiledKit(t)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- f.keys.Run(ctx) }()
		warnings := func() int { return f.logs.FilterLevelExact(zapcore.WarnLevel).Len() }
		token, _ := f.mint(f.es256, sessionGrant())
		_, err := f.verifier.Verify(token, KindSession)
		ok(t, err)

		f.write([]byte("{"))
		time.Sleep(10 * defaultKeyInterval)
		synctest.Wait()
		if n := warnings(); n != 1 {
			t.Errorf("one fault, %d warnings", n)
		}
		f.write(nil)
		time.Sleep(2 * defaultKeyInterval)
		synctest.Wait()
		if n := warnings(); n != 2 {
			t.Errorf("another fault, %d warnings", n)
		}

		f.write(f.set("eddsa"))
		time.Sleep(defaultKeyInterval)
		synctest.Wait()
		if _, err := f.verifier.Verify(token, KindSession); !errors.Is(err, ErrUnknownKey) {
			t.Errorf("an interval after the key was removed: %v", err)
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run returned %v", err)
		}
	})
}

func TestKeySetsOfSeveralFiles(t *testing.T) {
	k := newKit(t)
	a := writeFile(t, "a.pem", 0o644, publicPEM(t, k.es256.private.Public()))
	b := writeFile(t, "b.json", 0o644, jwks(t, jwkOf(t, "b", k.eddsa.private.Public())))
	same := writeFile(t, "same.json", 0o644, jwks(t, jwkOf(t, k.es256.KeyID(), k.es256.private.Public())))
	clash := writeFile(t, "clash.json", 0o644, jwks(t, jwkOf(t, "b", k.es256.private.Public())))

	set, err := NewKeySet(KeySetConfig{Files: []string{a, b, same}, Own: []*SigningKey{k.es256}})
	ok(t, err)
	want := []string{k.es256.KeyID(), "b"}
	slices.Sort(want)
	if got := set.KeyIDs(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if _, err := NewKeySet(KeySetConfig{Files: []string{b, clash}}); err == nil || !strings.Contains(err.Error(), `kid "b"`) {
		t.Errorf("two keys of one kid: %v", err)
	}
}

func TestNewKeySetRefuses(t *testing.T) {
	if _, err := NewKeySet(KeySetConfig{}); err == nil {
		t.Error("no keys: taken")
	}
	if _, err := NewKeySet(KeySetConfig{Own: []*SigningKey{nil}}); err == nil {
		t.Error("nil key: taken")
	}
	if _, err := NewKeySet(KeySetConfig{Interval: -1, Own: []*SigningKey{newKit(t).es256}}); err == nil {
		t.Error("negative interval: taken")
	}
}

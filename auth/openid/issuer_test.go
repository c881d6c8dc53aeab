package openid

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/sconce-dev/sconce/auth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const issuerURL = "https://login.example/realms/acme"

// fake is an issuer on the other end of a transport. It is not one by HTTP where
// the clock is not the real one: sockets and synctest do not go together.
type fake struct {
	mu      sync.Mutex
	answer  http.HandlerFunc // of the JWKS; nil = down
	asked   []time.Time      // when the JWKS was asked for
	issuer  string           // that discovery says
	jwksURI string           // that discovery says
}

func newFake(t *testing.T, kids ...string) *fake {
	f := &fake{issuer: issuerURL, jwksURI: issuerURL + "/keys"}
	f.publish(t, kids...)
	return f
}

// publish makes fresh keys of these ids the issuer's.
func (f *fake) publish(t *testing.T, kids ...string) {
	t.Helper()
	doc := jwks(t, kids...)
	f.set(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(doc) })
}

func (f *fake) set(answer http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

func jwks(t *testing.T, kids ...string) []byte {
	t.Helper()
	var list []map[string]string
	for _, kid := range kids {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		point, err := key.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		encode := base64.RawURLEncoding.EncodeToString
		list = append(list, map[string]string{"kty": "EC", "crv": "P-256", "kid": kid, "x": encode(point[1:33]), "y": encode(point[33:])})
	}
	b, err := json.Marshal(map[string]any{"keys": list})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ServeHTTP serves discovery and the keys.
func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	answer, issuer, at := f.answer, f.issuer, f.jwksURI
	if strings.HasSuffix(r.URL.Path, "/keys") {
		f.asked = append(f.asked, time.Now())
	}
	f.mu.Unlock()
	switch {
	case answer == nil:
		w.WriteHeader(http.StatusServiceUnavailable)
	case strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration"):
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": issuer, "jwks_uri": at, "id_token_signing_alg_values_supported": []string{"HS256", "none"}})
	default:
		answer(w, r)
	}
}

// RoundTrip is the transport to it.
func (f *fake) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.ServeHTTP(w, r)
	}()
	select {
	case <-done:
		return w.Result(), nil
	case <-r.Context().Done():
		<-done
		return nil, r.Context().Err()
	}
}

func (f *fake) times() []time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

// run makes an Issuer of f and runs it until the test ends.
func run(t *testing.T, f *fake, change ...func(*Config)) *Issuer {
	t.Helper()
	c := Config{Issuer: issuerURL, Transport: f}
	for _, ch := range change {
		ch(&c)
	}
	i, err := NewIssuer(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		if err := i.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	t.Cleanup(func() { cancel(); <-over })
	return i
}

func TestDiscoveryAndRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, "a", "b")
		i := run(t, f)
		synctest.Wait()
		wantKids(t, i, "a", "b")
		f.publish(t, "c")
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		wantKids(t, i, "c") // unasked
		if n := len(f.times()); n != 2 {
			t.Errorf("%d fetches in five minutes, want 2", n)
		}
	})
}

func wantKids(t *testing.T, i *Issuer, want ...string) {
	t.Helper()
	if got := i.Keys().KeyIDs(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("keys %v, want %v", got, want)
	}
}

// However many tokens of unknown keys come, and whether the issuer answers,
// refuses or hangs: one fetch at a time, and none within ten seconds of another.
func TestRefetchBound(t *testing.T) {
	answers := map[string]http.HandlerFunc{
		"good":    nil, // as it was
		"down":    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"no JWKS": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"slow": func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(4 * time.Second)
			w.WriteHeader(http.StatusBadGateway)
		},
		"far slower": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, "a")
				i := run(t, f)
				synctest.Wait()
				if answer != nil {
					f.set(answer)
				}
				said := map[error]int{}
				for range 600 { // a minute, ten waves a second of a hundred tokens
					for range 100 {
						err := i.missing()
						var pending *auth.PendingError
						if errors.As(err, &pending) {
							err = auth.ErrKeysPending
						}
						said[err]++
					}
					time.Sleep(100 * time.Millisecond)
				}
				times := f.times()
				if len(times) < 5 || len(times) > 7 {
					t.Errorf("%d fetches in a minute, want one each ten seconds", len(times))
				}
				for n := 1; n < len(times); n++ {
					if d := times[n].Sub(times[n-1]); d < 10*time.Second {
						t.Errorf("fetch %d came %v after the one before", n, d)
					}
				}
				other := auth.ErrUnknownKey
				if answer != nil {
					other = auth.ErrIssuerAway
				}
				if said[other] == 0 || said[auth.ErrKeysPending] == 0 {
					t.Errorf("said %v, want %v and that it is pending", said, other)
				}
				wantKids(t, i, "a") // what is known stays
			})
		})
	}
}

// All who come while a fetch is due wait for the one, and find the new key.
func TestManyWaitForOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, "a")
		i := run(t, f)
		time.Sleep(time.Minute)
		doc := jwks(t, "a", "b")
		f.set(func(w http.ResponseWriter, _ *http.Request) { time.Sleep(time.Second); _, _ = w.Write(doc) })
		var waiting sync.WaitGroup
		for range 100 {
			waiting.Go(func() {
				var pending *auth.PendingError
				if !errors.As(i.missing(), &pending) {
					t.Error("not told to wait")
					return
				}
				<-pending.Done
				if len(i.Keys().KeyIDs()) != 2 {
					t.Error("the wait ended before the key was there")
				}
			})
		}
		waiting.Wait()
		if n := len(f.times()); n != 2 {
			t.Errorf("%d fetches, want the first and one for all", n)
		}
		if err := i.missing(); !errors.Is(err, auth.ErrUnknownKey) {
			t.Errorf("right after the fetch: %v", err)
		}
	})
}

// An issuer that is away at the start is asked again each ten seconds, and its
// coming is told.
func TestAwayAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.set(nil)
		var told []string
		i := run(t, f, func(c *Config) { c.OnState = func(fault string) { told = append(told, fault) } })
		if err := i.missing(); !errors.Is(err, auth.ErrKeysPending) {
			t.Errorf("before the first fetch: %v", err)
		}
		synctest.Wait()
		if err := i.missing(); !errors.Is(err, auth.ErrIssuerAway) {
			t.Errorf("away: %v", err)
		}
		time.Sleep(25 * time.Second)
		f.publish(t, "a")
		time.Sleep(6 * time.Second)
		synctest.Wait()
		wantKids(t, i, "a")
		if len(told) != 2 || !strings.Contains(told[0], "answered 503") || told[1] != "" {
			t.Errorf("told %q, want once that it is away and once that it is back", told)
		}
	})
}

func TestWhatIsNotBelieved(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*fake)
		want   string
	}{
		"another issuer's discovery":            {func(f *fake) { f.issuer = "https://evil.example" }, "did not match"},
		"an answer of a megabyte in the reason": {func(f *fake) { f.issuer = strings.Repeat("é", 1<<18) }, "did not match"},
		"keys in plaintext":                     {func(f *fake) { f.jwksURI = "http://login.example/keys" }, "not https"},
		"keys in a file":                        {func(f *fake) { f.jwksURI = "file:///etc/keys" }, "is no URL"},
		"no place for keys":                     {func(f *fake) { f.jwksURI = "" }, "is no URL"},
		"a redirect": {func(f *fake) {
			f.answer = func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, issuerURL+"/other", http.StatusFound)
			}
		}, "answered 302"},
		"two MiB": {func(f *fake) {
			f.answer = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 2<<20)) }
		}, "longer than 1048576 bytes"},
		"ten thousand keys": {func(f *fake) {
			f.answer = func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write([]byte(`{"keys":[{}` + strings.Repeat(",{}", 9999) + `]}`))
			}
		}, "at most 100"},
		"nothing": {func(f *fake) { f.answer = func(http.ResponseWriter, *http.Request) {} }, "not a JWKS"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, "a")
				c.change(f)
				var told []string
				i := run(t, f, func(c *Config) { c.OnState = func(fault string) { told = append(told, fault) } })
				synctest.Wait()
				if len(told) != 1 || !strings.Contains(told[0], c.want) || len(told[0]) > maxFault {
					t.Errorf("told %q, want %q", told, c.want)
				}
				wantKids(t, i)
			})
		})
	}
}

// The same over real HTTP, with the place of the keys configured.
func TestOverHTTP(t *testing.T) {
	f := newFake(t, "a")
	server := httptest.NewServer(f)
	defer server.Close()
	fetched := make(chan string, 1)
	i := run(t, f, func(c *Config) {
		c.Issuer, c.JWKS, c.Transport = server.URL, server.URL+"/keys", nil
		c.OnState = func(fault string) { fetched <- fault }
	})
	if fault := <-fetched; fault != "" {
		t.Fatal(fault)
	}
	wantKids(t, i, "a")
}

func TestNewIssuerRefuses(t *testing.T) {
	for name, c := range map[string]Config{
		"nothing":             {},
		"plaintext":           {Issuer: "http://login.example"},
		"a password":          {Issuer: "https://a:b@login.example"},
		"no host":             {Issuer: "https:///x"},
		"keys in plaintext":   {Issuer: issuerURL, JWKS: "http://login.example/keys"},
		"a file as the place": {Issuer: issuerURL, JWKS: "/etc/keys.json"},
	} {
		if _, err := NewIssuer(c); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

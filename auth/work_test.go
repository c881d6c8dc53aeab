package auth

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// hostile are tokens of about size bytes that make each part of the check work as
// hard as it can. All but the first two have a signature that is right, as from a
// leaked key: else their claims would not be read.
func (k *kit) hostile(size int) map[string]string {
	k.Helper()
	raw := size*3/4 - 400 // of JSON, beside what a token needs
	many := func(n int) string {
		var b strings.Builder
		for i := 0; b.Len() < n; i++ {
			fmt.Fprintf(&b, `"%x":0,`, i)
		}
		return b.String()
	}
	nested := func(n int) string {
		return `"x":` + strings.Repeat("[", n/2) + strings.Repeat("]", n/2) + ","
	}
	header, body := headerOf(k.es256).json(k), claims().json(k)
	with := func(object, more string) string { return "{" + more + object[1:] }
	return map[string]string{
		"dots":                  strings.Repeat(".", size),
		"letters":               strings.Repeat("a", size-8) + ".bbb.ccc",
		"many header members":   sign(k, k.es256, with(header, many(raw)), body),
		"nested header":         sign(k, k.es256, with(header, nested(raw)), body),
		"many claims":           sign(k, k.es256, header, with(body, many(raw))),
		"nested claims":         sign(k, k.es256, header, with(body, nested(raw))),
		"escapes":               sign(k, k.es256, header, with(body, `"x":"`+strings.Repeat(`\u0041`, raw/6)+`",`)),
		"long name":             sign(k, k.es256, header, with(body, `"`+strings.Repeat("s", raw)+`":0,`)),
		"a name twice, far off": sign(k, k.es256, header, with(body, `"x":0,`+many(raw)+`"x":0,`)),
	}
}

// The work that a token makes grows with its length and not faster, and ends at
// MaxTokenBytes: a longer one costs a look at its length. Allocations stand for
// the work, since they are the same on each machine.
func TestWorkOfTheLargestToken(t *testing.T) {
	k := newKit(t, func(cfg *VerifierConfig) { cfg.CacheSize = -1 })
	quarter, half, large := k.hostile(MaxTokenBytes/4), k.hostile(MaxTokenBytes/2), k.hostile(MaxTokenBytes)
	for name, token := range large {
		t.Run(name, func(t *testing.T) {
			if len(token) > MaxTokenBytes || len(token) < MaxTokenBytes*9/10 {
				t.Fatalf("the test is off: a token of %d bytes", len(token))
			}
			a, b, c := k.work(quarter[name]), k.work(half[name]), k.work(token)
			// Twice the bytes on top, twice the work on top; were it the square, four
			// times. The rest is slack for tables that double.
			if c.objects-b.objects > 3*(b.objects-a.objects)+100 || c.bytes-b.bytes > 3*(b.bytes-a.bytes)+8192 {
				t.Errorf("%+v, %+v and %+v for a quarter, a half and a whole token", a, b, c)
			}
			if c.objects > 2*MaxTokenBytes || c.bytes > 64*MaxTokenBytes {
				t.Errorf("%+v for one token", c)
			}
			if _, err := k.verifier.Verify(token+"x", KindSession); len(token) == MaxTokenBytes && !errors.Is(err, ErrTooLong) {
				t.Errorf("one byte more: %v", err)
			}
		})
	}
	for name, token := range map[string]string{"dots": strings.Repeat(".", 1<<20), "a token": strings.Repeat("a", 1<<20) + ".b.c"} {
		if w := k.work(token); w != (work{}) {
			t.Errorf("1 MiB of %s: %+v", name, w)
		}
	}
}

// work is what one check of a token takes from the heap.
type work struct{ objects, bytes int64 }

func (k *kit) work(token string) work {
	const runs = 50
	check := func() { _, _ = k.verifier.Verify(token, KindSession) }
	check()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		check()
	}
	runtime.ReadMemStats(&after)
	return work{int64(after.Mallocs-before.Mallocs) / runs, int64(after.TotalAlloc-before.TotalAlloc) / runs}
}

package relay_test

import (
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
)

// A client that breaks the rules is told so at once, and what it has at the backend ends
// at once; its connection ends later, and is not read until then. So many wait in that
// way, and the connection of one more ends at once.
func TestTarpit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigConfig{limits: relay.Limits{Tarpit: time.Minute}})
		l, first, b := r.open(proxytest.PeerConfig{Lenient: true}, proxytest.PeerConfig{})
		breaks(first)
		if got := b.Stream(l.bid); !got.Reset {
			t.Error("its stream goes on at the backend")
		}
		first.Open(proxytest.Fields(":method", "POST", ":scheme", "http", ":path", "/x", ":authority", "a"), true)
		synctest.Wait()
		if n := b.Opened(); n != 1 {
			t.Errorf("%d streams at the backend: it is still read", n)
		}
		for range relay.MostTarpitted - 1 {
			breaks(r.client(proxytest.PeerConfig{Lenient: true}))
		}
		more := r.client(proxytest.PeerConfig{Lenient: true})
		breaks(more)
		time.Sleep(2 * time.Second) // in which it may read its last words
		synctest.Wait()
		if !more.Closed() {
			t.Errorf("more than %d wait", relay.MostTarpitted)
		}
		time.Sleep(57 * time.Second)
		synctest.Wait()
		if first.Closed() {
			t.Error("the connection ended before its time")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !first.Closed() {
			t.Error("the connection does not end")
		}
		again := r.client(proxytest.PeerConfig{Lenient: true}) // there is room again
		breaks(again)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if again.Closed() {
			t.Error("who waited still counts")
		}
	})
}

// breaks sends more SETTINGS than anybody may, and has the GOAWAY for it.
func breaks(c *proxytest.Peer) {
	for range 10*relay.DefaultLimits().Settings + 2 {
		c.Settings()
	}
	synctest.Wait()
	if f := c.WaitGoAway(1); f.Code != http2.ErrCodeEnhanceYourCalm {
		panic(f.String())
	}
}

// Calls that no engine gets are taken by sixteens, and a millisecond goes by in between;
// those that one gets are not held up.
func TestRefusedCallsArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigConfig{router: refusing})
		l, c, b := r.open(proxytest.PeerConfig{}, proxytest.PeerConfig{})
		l.answer()
		l.done()
		begun := time.Now()
		calls := func(path string) {
			for range 80 {
				c.Open(proxytest.Fields(":method", "POST", ":scheme", "http", ":path", path, ":authority", "a"), true)
			}
			synctest.Wait()
		}
		calls("/x")
		if n := b.Opened(); n != 81 || !time.Now().Equal(begun) {
			t.Errorf("%d calls have gone on after %v", n, time.Since(begun))
		}
		before := c.Count(http2.FrameHeaders)
		calls("/refused")
		for pause := range 5 {
			if n := c.Count(http2.FrameHeaders) - before; n != 16*(pause+1) {
				t.Errorf("%d calls were answered after %v", n, time.Since(begun))
			}
			time.Sleep(time.Millisecond)
			synctest.Wait()
		}
	})
}

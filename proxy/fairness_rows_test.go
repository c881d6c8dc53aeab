package proxy_test

import (
	"bytes"
	"time"

	"golang.org/x/net/http2"

	"github.com/sconce-dev/sconce/proxy"
	"github.com/sconce-dev/sconce/proxy/proxytest"
)

// atLimit is a tenant who has all that a limit gives her, and asks for more two hundred
// times in a second.
type atLimit struct {
	attack
	quotas proxy.Quotas
	method string // of a call that is past the limit,
	limit  string // whose refusal names it
}

const fairStreams, fairRequests, fairArtifacts = 50, 50, 256 << 10

func limitsReached() []atLimit {
	addArtifacts := proxytest.SparkService + "AddArtifacts"
	upload := proxytest.Message(proxytest.Join(aliceRequest, proxytest.Bytes(3, bytes.Repeat([]byte("a"), 16_000))))
	unread := func(name string) attack { // the windows of all her streams are full
		return attack{name: name, large: true, settings: []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}}, run: func(a *attacker) {
			a.steady(fairStreams, func() { a.plan() })
		}}
	}
	return []atLimit{
		{unread("streams, their windows full"), proxy.Quotas{Session: proxy.Quota{Streams: fairStreams}}, analyze, "limits.session_streams"},
		{unread("bytes in flight"), proxy.Quotas{Session: proxy.Quota{InFlight: fairStreams / 2 * (256 << 10)}}, analyze, "limits.session_in_flight"},
		{attack{name: "requests in a second", run: func(a *attacker) {
			a.steady(10*fairRequests, func() { a.plan() })
		}}, proxy.Quotas{Token: proxy.Quota{Requests: fairRequests}}, analyze, "limits.token_requests"},
		{attack{name: "bytes of artifacts", run: func(a *attacker) {
			a.steady(fairArtifacts/16_000+2, func() {
				a.Data(a.Open(proxytest.Call(addArtifacts, a.Creds...), false), true, upload)
			})
		}}, proxy.Quotas{Session: proxy.Quota{Artifacts: fairArtifacts}}, addArtifacts, "limits.session_artifacts"},
	}
}

// steady does it so often at once, and then twice in each hundredth of a second.
func (a *attacker) steady(first int, do func()) {
	for range first {
		do()
	}
	for a.Flush() && !over(a.stop) {
		a.tell()
		time.Sleep(10 * time.Millisecond)
		do()
		do()
	}
}

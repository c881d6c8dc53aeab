//go:build !race

package proxy_test

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sconce-dev/sconce/proxy/proxytest"
)

// Whoever is at a limit, and past it, is told so by its name; and another tenant does
// at least half of what he does without her.
func TestTenantAtHerLimitsMovesNoOther(t *testing.T) {
	least, most := *sieges, 8**sieges
	for _, at := range limitsReached() {
		t.Run(at.name, func(t *testing.T) {
			s := newSiege(t, at.attack, at.quotas)
			s.method = proxytest.SparkService + "GetStatus" // no rate bounds it, or he would be at his limit before her
			s.work()
			held := heap()
			var idle, busy proxytest.Pace
			var quiet, beside waits
			grown := 0
			// Slices are added until the medians say what they have to, or never will.
			for n := 0; n < least || n < most && busy.Median()*2 < idle.Median(); n++ {
				idle.Take(func() { quiet.add(s.work) })
				end := s.begin()
				s.past(at, s.hers)
				if !at.large { // what she was free to send at once is not what she may go on with
					s.settle("calls at the engine", 1, s.live)
				}
				busy.Take(func() { beside.add(s.work) })
				grown = max(grown, heap()-held)
				end(true)
				s.settle("calls at the engine", 0, s.live)
			}
			peak := s.engine.counts(t).Peak
			t.Logf("%d calls beside her, %d without; %d KiB, %d calls at once; his wait is %v in place of %v", busy.Median(), idle.Median(), grown>>10, peak, beside, quiet)
			if busy.Median()*2 < idle.Median() {
				t.Errorf("beside a tenant at her limit another does %d calls in place of %d", busy.Median(), idle.Median())
			}
			if at.quotas.Session.Streams > 0 && peak > fairStreams {
				t.Errorf("%d calls at once at the engine", peak)
			}
			// Both windows of each stream, and as much again in the engine.
			if most := 4*fairStreams*(256<<10) + 16<<20; grown > most {
				t.Errorf("it holds %d KiB, want at most %d", grown>>10, most>>10)
			}
		})
	}
}

// past makes calls of hers until one is refused, which is soon: she is at her limit.
func (s *siege) past(at atLimit, creds []string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), proxytest.Patience)
	defer cancel()
	ctx = proxytest.With(ctx, creds...)
	for ctx.Err() == nil {
		_, err := s.caller.Collect(ctx, at.method, aliceRequest)
		if st := status.Convert(err); err != nil && st.Code() != codes.ResourceExhausted || err != nil && !strings.Contains(st.Message(), at.limit) {
			s.t.Errorf("past %s she reads %v", at.limit, err)
		}
		if err != nil {
			return
		}
	}
	s.t.Errorf("nothing is refused past %s", at.limit)
}

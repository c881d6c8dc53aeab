package proxy_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/proxytest/gateway"
	"github.com/sconce-dev/sconce/sessions"
)

// told hears which sessions are in use.
type told struct {
	sessions.UseStore
	uses chan []sessions.Use
}

func (s told) Touch(ctx context.Context, uses []sessions.Use) error {
	select {
	case s.uses <- slices.Clone(uses):
	case <-ctx.Done():
	}
	return ctx.Err()
}

// What counts as a use of a session: every method but those that only end what runs or
// ask of what was before, which are none also while they are open for long. A session
// that is beside it is told of in every round, so that the test need not wait for what
// does not come.
func TestWhatIsAUse(t *testing.T) {
	notUse := []string{"ReleaseExecute", "ReleaseSession", "FetchErrorDetails"}
	hears := told{uses: make(chan []sessions.Use)}
	g := gateway.Start(t, gateway.Config{Uses: hears, TouchEvery: 10 * time.Millisecond})
	c := proxytest.NewCaller(t, g.Dial)
	beside := g.Session("bob", sessions.Active)
	open := make(chan struct{})
	g.Spark.Script("", func(x *proxytest.Exchange) error {
		x.Drain()
		if proxytest.UserID(x.Messages()[0]) == "bob" {
			<-x.Context().Done()
			return nil
		}
		<-open
		return x.Send(proxytest.Text(1, "done"))
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	keep := make(chan struct{})
	go func() {
		defer close(keep)
		_, _ = c.Collect(proxytest.With(ctx, g.Credentials(beside, "bob")...), analyze, proxytest.Request(sparkB, "bob"))
	}()
	// next is whether a round that begins after this tells of the session.
	next := func(id sessions.ID) bool {
		for range 2 { // the first may have begun before
			<-hears.uses
		}
		for {
			uses := <-hears.uses
			has := func(id sessions.ID) bool {
				return slices.ContainsFunc(uses, func(u sessions.Use) bool { return u.ID == id })
			}
			if has(beside) {
				return has(id)
			}
		}
	}
	for i, m := range []string{
		"ExecutePlan", "AnalyzePlan", "Config", "AddArtifacts", "ArtifactStatus", "Interrupt", "ReattachExecute",
		"ReleaseExecute", "ReleaseSession", "FetchErrorDetails", "CloneSession", "GetStatus",
	} {
		id := g.Session("alice", sessions.Active)
		spark := strings.Replace(spark1, spark1[:2], string("0123456789abcdef"[i])+"7", 1)
		request := proxytest.Request(spark, "alice")
		if m == "CloneSession" {
			request = append(request, proxytest.Text(4, spark[:35]+"e")...)
		}
		done := make(chan error)
		go func() {
			_, err := c.Collect(proxytest.With(ctx, g.Credentials(id, "alice")...), proxytest.SparkService+m, request)
			done <- err
		}()
		for g.Spark.Calls(m) == 0 {
			<-hears.uses
		}
		if used, want := next(id), !slices.Contains(notUse, m); used != want {
			t.Errorf("%s is a use: %t, want %t", m, used, want)
		}
		open <- struct{}{}
		for ended := false; !ended; {
			select {
			case err := <-done:
				if err != nil {
					t.Errorf("%s: %v", m, err)
				}
				ended = true
			case <-hears.uses:
			}
		}
	}
	cancel()
	for ended := false; !ended; {
		select {
		case <-keep:
			ended = true
		case <-hears.uses:
		}
	}
}

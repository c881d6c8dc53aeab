package proxy_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/proxytest/gateway"
	"github.com/sconce-dev/sconce/sessions"
)

// told hears which sessions are in use.
type told struct {
	sessions.UseStore
	uses chan []sessions.Use
}

func (s told) Touch(ctx context.Context, uses []sessions.Use) (map[sessions.ID][]string, error) {
	select {
	case s.uses <- slices.Clone(uses):
	case <-ctx.Done():
	}
	return nil, ctx.Err()
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

// A token that expires lets nobody in, and cuts nothing that it let in.
func TestExpiryCutsNoRunningQuery(t *testing.T) {
	g := gateway.Start(t, gateway.Config{})
	id := g.Session("alice", sessions.Active)
	// It is taken for 30 s longer than it says.
	exp := time.Now().Add(6*time.Second - 30*time.Second).Unix()
	token := g.Keys.Sign(g.Keys.Header(), proxytest.Change(g.Keys.Claims(string(id), "alice"), "exp", exp, "iat", exp-3600, "nbf", exp-3600))
	ctx, cancel := context.WithTimeout(t.Context(), proxytest.Patience)
	defer cancel()
	ctx = proxytest.With(ctx, "authorization", "Bearer "+token, "x-session-id", string(id))
	began, on := make(chan struct{}), make(chan struct{})
	g.Spark.Script("ExecutePlan", func(x *proxytest.Exchange) error {
		x.Drain()
		if err := x.Send(proxytest.Text(1, "before")); err != nil {
			return err
		}
		close(began)
		select {
		case <-on:
		case <-x.Context().Done():
			return x.Context().Err()
		}
		return x.Send(proxytest.Text(1, "after"))
	})
	c := proxytest.NewCaller(t, g.Dial)
	var rows [][]byte
	ended := make(chan error, 1)
	go func() {
		var err error
		rows, err = c.Collect(ctx, proxytest.SparkService+"ExecutePlan", aliceRequest)
		ended <- err
	}()
	select {
	case <-began:
	case err := <-ended:
		t.Fatalf("it does not begin: %v", err)
	}
	for ctx.Err() == nil {
		_, err := c.Unary(ctx, analyze, aliceRequest)
		if status.Code(err) == codes.Unauthenticated {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	close(on)
	if err := <-ended; err != nil || len(rows) != 2 {
		t.Errorf("%d messages, %v", len(rows), err)
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	sconcev1 "github.com/sconce-dev/sconce/proto/sconce/v1"
)

func (a *app) sessionCreate() *cobra.Command {
	var req sconcev1.CreateSessionRequest
	cmd := &cobra.Command{
		Use: "create", Short: "Create a session on a cluster", Args: noArgs,
		Example: "  sconce session create --name lake --cluster spark --catalog lake --database shop\n" +
			"  sconce session create --conf spark.sql.shuffle.partitions=8 --idle-timeout 2h --label team=physics",
	}
	cmd.Flags().StringVar(&req.Name, "name", "", "a name of your own (default: the session's id)")
	cmd.Flags().StringVar(&req.Cluster, "cluster", "", "name of the cluster (default: the only one there is)")
	fill := createFlags(cmd, &req)
	cmd.Flags().StringVar(&req.RequestId, "request-id", "", "an id of your own for this request: repeated within a day it returns the same session")
	return a.sessionCall(cmd, a.newClient(cmd, engineTimeout), func(ctx context.Context, svc sconcev1.SessionServiceClient, _ []string) (*sconcev1.Session, error) {
		fill()
		return a.createSession(ctx, svc, &req)
	}, func(s sessionView) string { return fmt.Sprintf("\nNow get a token: sconce token issue %s\n", s.ID) })
}

// createFlags adds what a session may choose; the function that it returns puts
// into req what was given.
func createFlags(cmd *cobra.Command, req *sconcev1.CreateSessionRequest) (fill func()) {
	f := cmd.Flags()
	var idle, age daysFlag
	f.StringVar(&req.Catalog, "catalog", "", "the catalog to begin in (default: the engine's)")
	f.StringVar(&req.Database, "database", "", "the database to begin in (default: the engine's)")
	f.Var(pairsFlag{&req.Conf}, "conf", "Spark configuration to begin with, `key=value`; may be given several times")
	f.Var(&idle, "idle-timeout", "how long it may be unused before it goes idle, such as 30m, 8h or 2d, 0 for never (default: the cluster's)")
	f.Var(&age, "max-age", "how long after its creation it is closed, such as 12h or 7d (default: the cluster's)")
	f.Var(pairsFlag{&req.Labels}, "label", "a mark of your own, `key=value`; may be given several times")
	return func() {
		if f.Changed("idle-timeout") {
			req.IdleTimeout = durationpb.New(time.Duration(idle))
		}
		if f.Changed("max-age") {
			req.MaxAge = durationpb.New(time.Duration(age))
		}
	}
}

// createNote is when whoever waits for a session reads why.
const createNote = 5 * time.Second

// createSession makes a session, and says on standard error what it waits for where
// that takes long. The gateway goes on making it when nobody waits any more.
func (a *app) createSession(ctx context.Context, svc sconcev1.SessionServiceClient, req *sconcev1.CreateSessionRequest) (*sconcev1.Session, error) {
	silence := a.noteAfter(createNote, "waiting for the cluster: an engine may take some minutes to start")
	resp, err := svc.CreateSession(ctx, req)
	silence()
	if status.Code(err) != codes.DeadlineExceeded {
		return resp.GetSession(), err
	}
	look := "list"
	if req.GetName() != "" {
		look = "describe " + shellQuote(req.GetName())
	}
	return nil, errors.New("no answer within --timeout, but if the gateway was reached the session is still being made: look with `sconce session " + look + "`")
}

// noteAfter writes a line to standard error once that time is over, unless it is
// silenced before.
func (a *app) noteAfter(wait time.Duration, line string) (silence func()) {
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-time.After(wait):
			fmt.Fprintln(a.stderr, line)
		case <-over:
		}
	}()
	return func() {
		close(over)
		<-done
	}
}

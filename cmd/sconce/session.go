package main

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	sconcev1 "github.com/sconce-dev/sconce/proto/sconce/v1"
)

func (a *app) sessionCommand() *cobra.Command {
	return group("session", "Create, list, describe and close sessions",
		a.sessionCreate(), a.sessionList(), a.sessionDescribe(), a.sessionClose())
}

// sessionCall makes a command that calls the gateway about one session and
// prints it.
func (a *app) sessionCall(cmd *cobra.Command, call func(context.Context, sconcev1.SessionServiceClient, []string) (*sconcev1.Session, error),
	after func(sessionView) string) *cobra.Command {
	c := a.newClient(cmd)
	var out output
	out.flag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := out.check(); err != nil {
			return err
		}
		return c.do(cmd.Context(), func(ctx context.Context, svc sconcev1.SessionServiceClient) error {
			s, err := call(ctx, svc, args)
			if err != nil {
				return err
			}
			v := viewSession(s)
			return out.print(a.stdout, v, func(w io.Writer) error {
				if err := sessionSheet(w, v); err != nil {
					return err
				}
				_, err := io.WriteString(a.stderr, after(v))
				return err
			})
		})
	}
	return cmd
}

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
	return a.sessionCall(cmd, func(ctx context.Context, svc sconcev1.SessionServiceClient, _ []string) (*sconcev1.Session, error) {
		fill()
		resp, err := svc.CreateSession(ctx, &req)
		return resp.GetSession(), err
	}, func(s sessionView) string { return fmt.Sprintf("\nNow get a token: sconce token issue %s\n", s.ID) })
}

// createFlags adds what a session may choose; the function that it returns puts
// into req what was given.
func createFlags(cmd *cobra.Command, req *sconcev1.CreateSessionRequest) (fill func()) {
	f := cmd.Flags()
	var idle, age time.Duration
	f.StringVar(&req.Catalog, "catalog", "", "the catalog to begin in (default: the engine's)")
	f.StringVar(&req.Database, "database", "", "the database to begin in (default: the engine's)")
	f.Var(pairsFlag{&req.Conf}, "conf", "Spark configuration to begin with, `key=value`; may be given several times")
	f.DurationVar(&idle, "idle-timeout", 0, "how long it may be unused before it goes idle, 0 for never (default: the cluster's)")
	f.DurationVar(&age, "max-age", 0, "how long after its creation it is closed (default: the cluster's)")
	f.Var(pairsFlag{&req.Labels}, "label", "a mark of your own, `key=value`; may be given several times")
	return func() {
		if f.Changed("idle-timeout") {
			req.IdleTimeout = durationpb.New(idle)
		}
		if f.Changed("max-age") {
			req.MaxAge = durationpb.New(age)
		}
	}
}

func (a *app) sessionDescribe() *cobra.Command {
	cmd := &cobra.Command{
		Use: "describe SESSION", Short: "Show one session, named by its id or its name", Args: oneSession,
	}
	return a.sessionCall(cmd, func(ctx context.Context, svc sconcev1.SessionServiceClient, args []string) (*sconcev1.Session, error) {
		id, err := findSession(ctx, svc, args[0])
		if err != nil {
			return nil, err
		}
		resp, err := svc.DescribeSession(ctx, &sconcev1.DescribeSessionRequest{SessionId: id})
		return resp.GetSession(), err
	}, func(sessionView) string { return "" })
}

func (a *app) sessionClose() *cobra.Command {
	cmd := &cobra.Command{
		Use: "close SESSION", Short: "End a session for ever, named by its id or its name", Args: oneSession,
		Long: "End a session for ever: its streams end, its tokens are worth nothing.",
	}
	return a.sessionCall(cmd, func(ctx context.Context, svc sconcev1.SessionServiceClient, args []string) (*sconcev1.Session, error) {
		id, err := findSession(ctx, svc, args[0])
		if err != nil {
			return nil, err
		}
		resp, err := svc.CloseSession(ctx, &sconcev1.CloseSessionRequest{SessionId: id})
		return resp.GetSession(), err
	}, func(sessionView) string { return "" })
}

func (a *app) sessionList() *cobra.Command {
	var req sconcev1.ListSessionsRequest
	cmd := &cobra.Command{Use: "list", Short: "List your sessions, the newest first", Args: noArgs}
	cmd.Flags().BoolVar(&req.Closed, "closed", false, "closed sessions too")
	cmd.Flags().Var(pairsFlag{&req.Labels}, "label", "only sessions with this label, `key=value`; may be given several times")
	cmd.Flags().BoolVar(&req.Organisation, "organisation", false, "all sessions of the organisation, for its admins")
	c := a.newClient(cmd)
	var out output
	out.flag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := out.check(); err != nil {
			return err
		}
		return c.do(cmd.Context(), func(ctx context.Context, svc sconcev1.SessionServiceClient) error {
			list, err := allSessions(ctx, svc, &req)
			if err != nil {
				return err
			}
			return out.print(a.stdout, list, func(w io.Writer) error {
				if len(list) == 0 {
					_, err := fmt.Fprintln(a.stderr, "no sessions: make one with `sconce session create`")
					return err
				}
				return sessionTable(w, list, a.now())
			})
		})
	}
	return cmd
}

// allSessions follows the pages to the end.
func allSessions(ctx context.Context, svc sconcev1.SessionServiceClient, req *sconcev1.ListSessionsRequest) ([]sessionView, error) {
	list := []sessionView{}
	for {
		resp, err := svc.ListSessions(ctx, req)
		if err != nil {
			return nil, err
		}
		for _, s := range resp.GetSessions() {
			list = append(list, viewSession(s))
		}
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			return list, nil
		}
	}
}

var sessionID = regexp.MustCompile(`^s-[0-9a-z]{26}$`)

// findSession returns the id of a session named by its id or its name.
func findSession(ctx context.Context, svc sconcev1.SessionServiceClient, name string) (string, error) {
	if sessionID.MatchString(name) {
		return name, nil
	}
	list, err := allSessions(ctx, svc, &sconcev1.ListSessionsRequest{Name: name})
	if err != nil {
		return "", err
	}
	if len(list) == 0 {
		return "", fmt.Errorf("you have no open session named %q: see `sconce session list`", name)
	}
	return list[0].ID, nil
}

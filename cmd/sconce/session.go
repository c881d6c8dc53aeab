package main

import (
	"context"
	"fmt"
	"io"
	"regexp"

	"github.com/spf13/cobra"

	sconcev1 "github.com/sconce-dev/sconce/proto/sconce/v1"
)

func (a *app) sessionCommand() *cobra.Command {
	return group("session", "Create, list, describe and close sessions",
		a.sessionCreate(), a.sessionList(), a.sessionDescribe(), a.sessionClose())
}

// sessionCall makes a command that calls the gateway about one session, by c, and
// prints it.
func (a *app) sessionCall(cmd *cobra.Command, c *client, call func(context.Context, sconcev1.SessionServiceClient, []string) (*sconcev1.Session, error),
	after func(sessionView) string) *cobra.Command {
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

func (a *app) sessionDescribe() *cobra.Command {
	cmd := &cobra.Command{
		Use: "describe SESSION", Short: "Show one session, named by its id or its name", Args: oneSession,
	}
	return a.sessionCall(cmd, a.newClient(cmd, callTimeout), func(ctx context.Context, svc sconcev1.SessionServiceClient, args []string) (*sconcev1.Session, error) {
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
	return a.sessionCall(cmd, a.newClient(cmd, callTimeout), func(ctx context.Context, svc sconcev1.SessionServiceClient, args []string) (*sconcev1.Session, error) {
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
	c := a.newClient(cmd, callTimeout)
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

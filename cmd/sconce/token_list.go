package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	sconcev1 "github.com/sconce-dev/sconce/proto/sconce/v1"
)

// knownToken is a token in a list, as --output json shows it. Times are RFC 3339.
type knownToken struct {
	TokenID     string     `json:"token_id"`
	Name        string     `json:"name,omitempty"`
	State       string     `json:"state"` // open, expired or revoked
	CreateTime  time.Time  `json:"create_time"`
	ExpireTime  time.Time  `json:"expire_time"`
	LastUseTime *time.Time `json:"last_use_time,omitempty"` // to some two minutes
	RevokeTime  *time.Time `json:"revoke_time,omitempty"`
}

func viewTokens(list []*sconcev1.SessionToken, now time.Time) []knownToken {
	views := make([]knownToken, len(list))
	for i, t := range list {
		v := knownToken{
			TokenID: t.GetTokenId(), Name: t.GetName(), State: "open",
			CreateTime: t.GetCreateTime().AsTime(), ExpireTime: t.GetExpireTime().AsTime(),
			LastUseTime: optionalTime(t.GetLastUseTime()),
		}
		if now.After(v.ExpireTime) {
			v.State = "expired"
		}
		if t.GetRevokeTime() != nil {
			at := t.GetRevokeTime().AsTime()
			v.State, v.RevokeTime = "revoked", &at
		}
		views[i] = v
	}
	return views
}

func tokenTable(w io.Writer, list []knownToken) error {
	tw := newTable(w)
	fmt.Fprintln(tw, "TOKEN\tNAME\tSTATE\tCREATED\tEXPIRES\tLAST USED")
	for _, t := range list {
		used := "never"
		if t.LastUseTime != nil {
			used = t.LastUseTime.Local().Format(time.RFC3339)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", t.TokenID, t.Name, t.State,
			t.CreateTime.Local().Format(time.RFC3339), t.ExpireTime.Local().Format(time.RFC3339), used)
	}
	return tw.Flush()
}

// tokensCall makes a command that calls the gateway about the tokens of one
// session and prints some of them; none says what there is to say of none.
func (a *app) tokensCall(cmd *cobra.Command, none string,
	call func(ctx context.Context, svc sconcev1.SessionServiceClient, session string, args []string) ([]*sconcev1.SessionToken, error)) *cobra.Command {
	c := a.newClient(cmd, callTimeout)
	var out output
	out.flag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := out.check(); err != nil {
			return err
		}
		return c.do(cmd.Context(), func(ctx context.Context, svc sconcev1.SessionServiceClient) error {
			id, err := findSession(ctx, svc, args[0])
			if err != nil {
				return err
			}
			tokens, err := call(ctx, svc, id, args[1:])
			if err != nil {
				return err
			}
			list := viewTokens(tokens, a.now())
			return out.print(a.stdout, list, func(w io.Writer) error {
				if len(list) == 0 {
					_, err := fmt.Fprintln(a.stderr, none)
					return err
				}
				return tokenTable(w, list)
			})
		})
	}
	return cmd
}

func (a *app) tokenList() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list SESSION", Short: "List what is known of a session's tokens, the newest first", Args: oneSession,
		Long: "List what is known of the tokens of a session, named by its id or its name. The tokens\n" +
			"themselves are kept nowhere; one that has expired is forgotten a little later.",
	}
	return a.tokensCall(cmd, "no tokens: make one with `sconce token issue`",
		func(ctx context.Context, svc sconcev1.SessionServiceClient, session string, _ []string) ([]*sconcev1.SessionToken, error) {
			return listTokens(ctx, svc, session)
		})
}

func listTokens(ctx context.Context, svc sconcev1.SessionServiceClient, session string) ([]*sconcev1.SessionToken, error) {
	resp, err := svc.ListSessionTokens(ctx, &sconcev1.ListSessionTokensRequest{SessionId: session})
	return resp.GetTokens(), err
}

func (a *app) tokenRevoke() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "revoke SESSION [TOKEN ...]", Short: "End tokens before their time, with the streams that came by them",
		Long: "End tokens of a session before their time, on every replica within 2 seconds, with the\n" +
			"streams that came by them. A token is named by its id, or by its name, which may be that of several.",
		Example: "  sconce token revoke lake superset\n  sconce token revoke lake --all",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 || all != (len(args) == 1) {
				return usageError{fmt.Errorf("`sconce token revoke` needs a session, and the tokens to revoke or --all")}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every token of the session")
	return a.tokensCall(cmd, "nothing to revoke: these tokens were revoked before, or there are none",
		func(ctx context.Context, svc sconcev1.SessionServiceClient, session string, names []string) ([]*sconcev1.SessionToken, error) {
			req := &sconcev1.RevokeSessionTokensRequest{SessionId: session, All: all}
			if !all {
				known, err := listTokens(ctx, svc, session)
				if err != nil {
					return nil, err
				}
				if req.TokenIds, err = findTokens(known, names); err != nil {
					return nil, err
				}
			}
			resp, err := svc.RevokeSessionTokens(ctx, req)
			return resp.GetTokens(), err
		})
}

// findTokens returns the ids of the tokens of those ids or names.
func findTokens(known []*sconcev1.SessionToken, names []string) (ids []string, err error) {
	for _, name := range names {
		before := len(ids)
		for _, t := range known {
			if t.GetTokenId() == name || t.GetName() == name {
				ids = append(ids, t.GetTokenId())
			}
		}
		if len(ids) == before {
			return nil, fmt.Errorf("the session has no token of the id or name %q: see `sconce token list`", name)
		}
	}
	return ids, nil
}

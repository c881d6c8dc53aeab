package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/configs"
	sconcev1 "github.com/sconce-dev/sconce/proto/sconce/v1"
)

func (a *app) tokenCommand() *cobra.Command {
	return group("token", "Issue, reset, list and revoke the tokens that open a session, or sign one for this gateway's control API",
		a.tokenIssue(), a.tokenReset(), a.tokenList(), a.tokenRevoke(), a.tokenControl())
}

// tokenView is a token as --output json shows it.
type tokenView struct {
	Token            string    `json:"token"`
	TokenID          string    `json:"token_id"`
	ExpireTime       time.Time `json:"expire_time"`
	Endpoint         string    `json:"endpoint,omitempty"`
	ConnectionString string    `json:"connection_string,omitempty"`
	// Snippets are how each client connects with the string in SPARK_REMOTE.
	Snippets []snippetView `json:"snippets,omitempty"`
}

type snippetView struct {
	Client string `json:"client"`
	Code   string `json:"code"`
}

func (a *app) tokenIssue() *cobra.Command {
	var req sconcev1.IssueSessionTokenRequest
	cmd := &cobra.Command{
		Use: "issue SESSION", Short: "Issue a token for a session, and print its connection string", Args: oneSession,
		Long: "Issue a token for a session, named by its id or its name. The connection string goes to\n" +
			"standard output. It holds the token, which is shown this once.",
		Example: "  export SPARK_REMOTE=$(sconce token issue lake)\n  sconce token issue lake --name superset --lifetime 7d",
	}
	cmd.Flags().StringVar(&req.Name, "name", "", "what it is called in `sconce token list`")
	cmd.Flags().BoolVar(&req.Replace, "replace", false, "revoke the session's other tokens of that name: as `sconce token reset`")
	// A word in backquotes would be taken for the name of the flag's value.
	for _, name := range []string{"name", "replace"} {
		cmd.Flags().Lookup(name).Usage = strings.ReplaceAll(cmd.Flags().Lookup(name).Usage, "`", "'")
	}
	return a.issueCall(cmd, &req)
}

func (a *app) tokenReset() *cobra.Command {
	req := sconcev1.IssueSessionTokenRequest{Replace: true}
	cmd := &cobra.Command{
		Use: "reset SESSION --name NAME", Short: "Issue a token anew under its name, and end the one before", Args: oneSession,
		Long: "Issue a new token under the name of another one of the session, and then revoke that, with\n" +
			"the streams that came by it. The connection string of the new one goes to standard output.",
		Example: "  sconce token reset lake --name superset --lifetime 7d",
	}
	cmd.Flags().StringVar(&req.Name, "name", "", "which token; where several have the name, all of them end")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if req.Name == "" {
			return usageError{errors.New("which token is reset? Name it with --name; see `sconce token list`")}
		}
		return nil
	}
	return a.issueCall(cmd, &req)
}

// issueCall makes a command that asks for a token and prints it.
func (a *app) issueCall(cmd *cobra.Command, req *sconcev1.IssueSessionTokenRequest) *cobra.Command {
	var lifetime daysFlag
	var out output
	cmd.Flags().Var(&lifetime, "lifetime", "how long it is good, such as 10m, 8h or 7d (default: as the gateway is configured, an hour)")
	out.flag(cmd)
	c := a.newClient(cmd, callTimeout)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := out.check(); err != nil {
			return err
		}
		return c.do(cmd.Context(), func(ctx context.Context, svc sconcev1.SessionServiceClient) (err error) {
			if req.SessionId, err = findSession(ctx, svc, args[0]); err != nil {
				return err
			}
			if lifetime != 0 {
				req.Lifetime = durationpb.New(time.Duration(lifetime))
			}
			resp, err := svc.IssueSessionToken(ctx, req)
			if err != nil {
				return err
			}
			return a.printToken(out, viewToken(resp))
		})
	}
	return cmd
}

func viewToken(r *sconcev1.IssueSessionTokenResponse) tokenView {
	v := tokenView{
		Token: r.GetToken(), TokenID: r.GetTokenId(), ExpireTime: r.GetExpireTime().AsTime(),
		Endpoint: r.GetEndpoint(), ConnectionString: r.GetConnectionString(),
	}
	for _, s := range r.GetSnippets() {
		v.Snippets = append(v.Snippets, snippetView{s.GetClient(), s.GetCode()})
	}
	return v
}

// printToken writes what a program wants to standard output, and what a person
// wants to know of it to standard error.
func (a *app) printToken(out output, v tokenView) error {
	return out.print(a.stdout, v, func(w io.Writer) error {
		line := v.ConnectionString
		if line == "" {
			line = v.Token
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(a.stderr, "token %s, good until %s\n", v.TokenID, v.ExpireTime.Local().Format(time.RFC3339)); err != nil {
			return err
		}
		return usage(a.stderr, v)
	})
}

// usage says how clients connect with a token.
func usage(w io.Writer, v tokenView) error {
	if len(v.Snippets) == 0 {
		return nil
	}
	if _, err := fmt.Fprintf(w, "endpoint %s; with the connection string in SPARK_REMOTE, connect by\n", v.Endpoint); err != nil {
		return err
	}
	for _, s := range v.Snippets {
		if _, err := fmt.Fprintf(w, "\n%s:\n    %s\n", s.Client, strings.ReplaceAll(s.Code, "\n", "\n    ")); err != nil {
			return err
		}
	}
	return nil
}

// controlFlags is what `token control` is told.
type controlFlags struct {
	sources configs.Sources
	grant   auth.Grant
}

func (a *app) tokenControl() *cobra.Command {
	f := controlFlags{grant: auth.Grant{Kind: auth.KindControl}}
	var out output
	cmd := &cobra.Command{
		Use: "control", Short: "Sign a control token with the gateway's own key", Args: noArgs,
		Long: "Sign a token for the control API (sconce session, sconce token issue) with the gateway's own\n" +
			"key: for whoever may read that key, to let the first people in. It asks no gateway.",
		Example: "  sconce token control --config sconce.yaml --subject ada --org physics --lifetime 8h",
		RunE: func(*cobra.Command, []string) error {
			if err := out.check(); err != nil {
				return err
			}
			return a.controlToken(f, out)
		},
	}
	cmd.Flags().StringVar(&f.sources.File, "config", "", "configuration of the gateway, for its issuer and key")
	cmd.Flags().StringVar(&f.grant.Subject, "subject", "", "who the token is for")
	cmd.Flags().StringVar(&f.grant.Org, "org", "", "the organisation they belong to")
	cmd.Flags().BoolVar(&f.grant.Admin, "admin", false, "they administer that organisation")
	cmd.Flags().Var((*daysFlag)(&f.grant.Lifetime), "lifetime", "how long it is good, such as 10m, 8h or 7d (default: as configured, an hour)")
	out.flag(cmd)
	return cmd
}

func (a *app) controlToken(f controlFlags, out output) error {
	if f.sources.File == "" || f.grant.Subject == "" || f.grant.Org == "" {
		return usageError{fmt.Errorf("`sconce token control` needs --config, --subject and --org")}
	}
	f.sources.Environ = a.environ
	cfg, err := configs.Load(f.sources)
	if err != nil {
		return err
	}
	key, err := auth.LoadSigningKey(cfg.Auth.SigningKey)
	if err != nil {
		return err
	}
	issuer, err := newIssuer(cfg, key, a.now)
	if err != nil {
		return err
	}
	token, id, err := issuer.Issue(f.grant)
	if err != nil {
		return usageError{err}
	}
	return a.printToken(out, tokenView{Token: token, TokenID: id.TokenID, ExpireTime: id.Expires})
}

// newIssuer makes the issuer that a configuration describes.
func newIssuer(cfg *configs.Config, key *auth.SigningKey, now func() time.Time) (*auth.Issuer, error) {
	return auth.NewIssuer(auth.IssuerConfig{
		Key: key, Issuer: cfg.Auth.Issuer, Lifetime: cfg.Auth.TokenLifetime, MaxLifetime: cfg.Auth.MaxTokenLifetime, Now: now,
	})
}

package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	sconcev1 "github.com/sconce-dev/sconce/proto/sconce/v1"
)

// apiKeyView is an API key as --output json shows it. Times are RFC 3339.
type apiKeyView struct {
	Secret       string     `json:"secret,omitempty"` // only when it is made
	KeyID        string     `json:"key_id"`
	Name         string     `json:"name,omitempty"`
	State        string     `json:"state"` // open, expired or revoked
	Subject      string     `json:"subject"`
	Organisation string     `json:"organisation"`
	Admin        bool       `json:"admin"`
	CreatedBy    string     `json:"created_by"`
	CreateTime   time.Time  `json:"create_time"`
	ExpireTime   time.Time  `json:"expire_time"`
	LastUseTime  *time.Time `json:"last_use_time,omitempty"`
	RevokeTime   *time.Time `json:"revoke_time,omitempty"`
}

func viewKey(k *sconcev1.Key, now time.Time) apiKeyView {
	v := apiKeyView{
		KeyID: k.GetKeyId(), Name: k.GetName(), State: "open", Subject: k.GetSubject(), Organisation: k.GetOrganisation(),
		Admin: k.GetAdmin(), CreatedBy: k.GetCreatedBy(), CreateTime: k.GetCreateTime().AsTime(), ExpireTime: k.GetExpireTime().AsTime(),
	}
	if !now.Before(v.ExpireTime) {
		v.State = "expired"
	}
	if k.GetLastUseTime() != nil {
		at := k.GetLastUseTime().AsTime()
		v.LastUseTime = &at
	}
	if k.GetRevokeTime() != nil {
		at := k.GetRevokeTime().AsTime()
		v.State, v.RevokeTime = "revoked", &at
	}
	return v
}

func keyTable(w io.Writer, list []apiKeyView) error {
	tw := newTable(w)
	fmt.Fprintln(tw, "KEY\tNAME\tSTATE\tSUBJECT\tROLE\tEXPIRES\tLAST USED")
	for _, k := range list {
		role, used := "user", "never"
		if k.Admin {
			role = "admin"
		}
		if k.LastUseTime != nil {
			used = k.LastUseTime.Local().Format(time.RFC3339)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.KeyID, k.Name, k.State, k.Subject, role,
			k.ExpireTime.Local().Format(time.RFC3339), used)
	}
	return tw.Flush()
}

func (a *app) keyCreate() *cobra.Command {
	var req sconcev1.CreateKeyRequest
	var lifetime daysFlag
	cmd := &cobra.Command{
		Use: "create", Short: "Create an API key, for admins of the organisation", Args: noArgs,
		Long: "Create an API key, for yourself or for somebody else of your organisation. Only its admins\n" +
			"may. The key goes to standard output; it is shown this once. It is used as a control token\n" +
			"is, in SCONCE_TOKEN or by --token-file, and opens no session on the data path.\n\n" +
			"The first key of a fresh installation is made with a token that the gateway's own key signs.",
		Example: "  export SCONCE_TOKEN=$(sconce token control --config sconce.yaml --subject ada --org physics --admin)\n" +
			"  sconce key create --name laptop --admin > ada.key",
	}
	cmd.Flags().StringVar(&req.Name, "name", "", "what it is called in lists")
	cmd.Flags().StringVar(&req.Subject, "subject", "", "whom it speaks for (default: you)")
	cmd.Flags().BoolVar(&req.Admin, "admin", false, "it speaks as an admin of the organisation")
	cmd.Flags().Var(&lifetime, "lifetime", "how long it is good, such as 12h or 30d, at most 366d (default: 90 days)")
	c := a.newClient(cmd, callTimeout)
	var out output
	out.flag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := out.check(); err != nil {
			return err
		}
		if lifetime != 0 {
			req.Lifetime = durationpb.New(time.Duration(lifetime))
		}
		return c.doKeys(cmd.Context(), func(ctx context.Context, svc sconcev1.KeyServiceClient) error {
			resp, err := svc.CreateKey(ctx, &req)
			if err != nil {
				return err
			}
			v := viewKey(resp.GetKey(), a.now())
			v.Secret = resp.GetSecret()
			return out.print(a.stdout, v, func(w io.Writer) error {
				if _, err := fmt.Fprintln(w, v.Secret); err != nil {
					return err
				}
				_, err := fmt.Fprintf(a.stderr, "key %s, for %s of %s, good until %s; it is not shown again\n",
					v.KeyID, v.Subject, v.Organisation, v.ExpireTime.Local().Format(time.RFC3339))
				return err
			})
		})
	}
	return cmd
}

// keysCall makes a command that calls the gateway and prints the keys it returns.
func (a *app) keysCall(cmd *cobra.Command, call func(context.Context, sconcev1.KeyServiceClient, []string) ([]*sconcev1.Key, error)) *cobra.Command {
	c := a.newClient(cmd, callTimeout)
	var out output
	out.flag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := out.check(); err != nil {
			return err
		}
		return c.doKeys(cmd.Context(), func(ctx context.Context, svc sconcev1.KeyServiceClient) error {
			keys, err := call(ctx, svc, args)
			if err != nil {
				return err
			}
			list := make([]apiKeyView, len(keys))
			for i, k := range keys {
				list[i] = viewKey(k, a.now())
			}
			return out.print(a.stdout, list, func(w io.Writer) error {
				if len(list) == 0 {
					_, err := fmt.Fprintln(a.stderr, "no API keys: an admin makes one with `sconce key create`")
					return err
				}
				return keyTable(w, list)
			})
		})
	}
	return cmd
}

func (a *app) keyList() *cobra.Command {
	var req sconcev1.ListKeysRequest
	cmd := &cobra.Command{
		Use: "list", Short: "List what is known of API keys, the newest first", Args: noArgs,
		Long: "List the API keys that speak for you, or with --organisation all of your organisation. The\n" +
			"keys themselves are kept nowhere. The last use is true to a minute.",
	}
	cmd.Flags().BoolVar(&req.Organisation, "organisation", false, "all of the organisation, for its admins")
	return a.keysCall(cmd, func(ctx context.Context, svc sconcev1.KeyServiceClient, _ []string) ([]*sconcev1.Key, error) {
		resp, err := svc.ListKeys(ctx, &req)
		return resp.GetKeys(), err
	})
}

func (a *app) keyRevoke() *cobra.Command {
	cmd := &cobra.Command{
		Use: "revoke KEY ...", Short: "End API keys before their time",
		Long: "End API keys, named by their ids in `sconce key list`. The next call by one is refused. The\n" +
			"sessions and tokens that were made by it stay.",
		Example: "  sconce key revoke 3kq0v9d2m1t7h5ra",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{fmt.Errorf("`sconce key revoke` needs the ids of keys: see `sconce key list`")}
			}
			return nil
		},
	}
	return a.keysCall(cmd, func(ctx context.Context, svc sconcev1.KeyServiceClient, ids []string) (keys []*sconcev1.Key, err error) {
		for _, id := range ids {
			resp, err := svc.RevokeKey(ctx, &sconcev1.RevokeKeyRequest{KeyId: id})
			if err != nil {
				return nil, err
			}
			keys = append(keys, resp.GetKey())
		}
		return keys, nil
	})
}

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sconce-dev/sconce/auth"
)

func (a *app) keyCommand() *cobra.Command {
	var out, alg string
	generate := &cobra.Command{
		Use: "generate", Short: "Make a key that signs tokens", Args: noArgs,
		Long:    "Make a key that signs tokens, for auth.signing_key. An existing file is not overwritten.",
		Example: "  sconce key generate --out signing.pem",
		RunE: func(*cobra.Command, []string) error {
			if out == "" {
				return usageError{fmt.Errorf("no --out: name the file to write the key to")}
			}
			key, err := makeKey(auth.Algorithm(alg), out)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.stdout, "%s: a new %s key, kid %s\n", out, key.Algorithm(), key.KeyID())
			return err
		},
	}
	generate.Flags().StringVar(&out, "out", "", "file to write, readable by you alone")
	generate.Flags().StringVar(&alg, "alg", string(auth.ES256), "algorithm: ES256 or EdDSA")
	return group("key", "Create, list and revoke API keys, and make the keys that sign tokens",
		a.keyCreate(), a.keyList(), a.keyRevoke(), generate)
}

func makeKey(alg auth.Algorithm, path string) (*auth.SigningKey, error) {
	key, err := auth.GenerateSigningKey(alg)
	if err != nil {
		return nil, err
	}
	return key, key.WritePEM(path)
}

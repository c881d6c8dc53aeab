package main

import (
	"context"
	"fmt"

	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/configs"
	"github.com/sconce-dev/sconce/sessions"
)

// checkFiles returns what is wrong with what stands in the files that a configuration
// names, so that a gateway which starts has what it needs, and one that does not says
// everything at once; and what engines that it will start lack. That they can be read, and that the certificate is one, configs
// has seen to.
func checkFiles(ctx context.Context, cfg *configs.Config, environ []string) error {
	var faults configs.Faults
	check := func(path string, err error) {
		if err != nil {
			faults = append(faults, configs.Fault{Path: path, Problem: err.Error()})
		}
	}
	_, err := auth.LoadSigningKey(cfg.Auth.SigningKey)
	check("auth.signing_key", err)
	if len(cfg.Auth.KeyFiles) > 0 {
		_, err = auth.NewKeySet(auth.KeySetConfig{Files: cfg.Auth.KeyFiles})
		check("auth.key_files", err)
	}
	_, err = redisTLS(cfg.Redis.TLS)
	check("redis.tls", err)
	for i, c := range cfg.Clusters {
		if c.TLS.Enabled {
			_, err = (&sessions.Cluster{Name: c.Name, TLS: clusterTLS(c.TLS)}).TLSConfig()
			if err != nil {
				err = fmt.Errorf("%w: write the paths of PEM files", err)
			}
			check(fmt.Sprintf("clusters[%d].tls", i), err)
		}
		if c.Launch.Given() {
			check(fmt.Sprintf("clusters[%d].launch", i), launchEngine(c.Launch).Check(ctx, environ))
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return faults
}

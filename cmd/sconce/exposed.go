package main

import (
	"fmt"

	"go.uber.org/zap"

	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/configs"
)

// warnExposed says which files with secrets others on this machine may be at. Only
// signing keys are refused for that (checkFiles): whoever has one of those is anybody.
func warnExposed(cfg *configs.Config, log *zap.Logger) {
	check := func(key, path string) {
		if path == "" {
			return
		}
		if err := auth.CheckSecretFile(path); err != nil {
			log.Warn("a file with a secret is not private", zap.String("key", key), zap.Error(err))
		}
	}
	check("tls.key", cfg.TLS.Key)
	check("redis.password_file", cfg.Redis.PasswordFile)
	check("redis.tls.key", cfg.Redis.TLS.Key)
	check("journal.key_file", cfg.Journal.KeyFile)
	for i, c := range cfg.Clusters {
		check(fmt.Sprintf("clusters[%d].token_file", i), c.TokenFile)
		check(fmt.Sprintf("clusters[%d].tls.key", i), c.TLS.Key)
	}
}

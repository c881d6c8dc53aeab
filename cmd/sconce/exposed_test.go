package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sconce-dev/sconce/configs"
)

// Every file with a secret that others may be at is named, by its key.
func TestExposedSecretsAreNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("s3cret"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := &configs.Config{TLS: configs.TLS{Key: file}, Journal: configs.Journal{KeyFile: file}}
	cfg.Redis.PasswordFile, cfg.Redis.TLS.Key = file, file
	cfg.Clusters = []configs.Cluster{{}, {TokenFile: file, TLS: configs.ClusterTLS{Key: file}}}
	warned := func() (keys []string) {
		core, logs := observer.New(zap.WarnLevel)
		warnExposed(cfg, zap.New(core))
		for _, entry := range logs.All() {
			key, _ := entry.ContextMap()["key"].(string)
			keys = append(keys, key)
		}
		return keys
	}
	if got := warned(); got != nil {
		t.Errorf("private, and yet warned of: %v", got)
	}
	if err := os.Chmod(file, 0o604); err != nil {
		t.Fatal(err)
	}
	want := []string{"tls.key", "redis.password_file", "redis.tls.key", "journal.key_file", "clusters[1].token_file", "clusters[1].tls.key"}
	if got := warned(); !slices.Equal(got, want) {
		t.Errorf("warned of %v, want %v", got, want)
	}
}

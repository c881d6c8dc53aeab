package sessions

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// ClusterPolicy is what the sessions of a cluster may choose, and what they have
// where they do not choose.
type ClusterPolicy struct {
	// IdleTimeout is how long a session may be unused before it goes idle. 0 = it
	// never does.
	IdleTimeout time.Duration
	// MinIdleTimeout and MaxIdleTimeout bound what a session may choose; 0 = no bound.
	MinIdleTimeout, MaxIdleTimeout time.Duration
	// AllowNeverIdle: a session may choose never to go idle.
	AllowNeverIdle bool
	// MaxAge is how long after its creation a session is closed, and the longest
	// that one may choose. 0 = never, no bound.
	MaxAge time.Duration
	// CloseUnusedAfter is how long after its last use a session is closed that has no
	// engine, or is on a cluster that is an address. 0 = never.
	CloseUnusedAfter time.Duration
	// MaxTokenLifetime is the longest life of a token for one of its sessions, where
	// that is less than the Manager's. 0 = the Manager's.
	MaxTokenLifetime time.Duration
	// ConfAllow and ConfDeny are patterns of the keys of Spark configuration that
	// a session may set, "*" standing for any letters: those of an empty ConfAllow
	// are all, and what ConfDeny or neverConf matches is refused.
	ConfAllow, ConfDeny []string
	// Catalogs are the names that a session may choose as its catalog; empty =
	// the engine is asked alone.
	Catalogs []string
}

// neverConf are the keys that no session may set, whatever the configuration
// says: they would take a session out of Sconce's hands, or show what belongs to
// the engine.
var neverConf = []string{
	"spark.connect.*", "*.authenticate", "*.authenticate.*", "spark.master", "spark.submit.*", "spark.app.*",
	"spark.ui.*", "spark.acls.*", "spark.admin.*", "spark.modify.*", "spark.redaction.*", "spark.sql.redaction.*",
	"spark.plugins", "spark.extraListeners", "spark.sql.extensions", "spark.sql.queryExecutionListeners",
	"spark.jars*", "spark.driver.*", "spark.kubernetes.*", "spark.yarn.*", "spark.ssl.*", "spark.network.crypto.*",
	"spark.sql.artifact.*", "spark.sql.defaultCatalog",
}

// mayConf says why a session may not set key.
func (p *ClusterPolicy) mayConf(key string) error {
	switch {
	case key == "spark.sql.defaultCatalog":
		return &InvalidError{"conf", `key "spark.sql.defaultCatalog" is set by the field catalog`}
	case matchesAny(neverConf, key):
		return &InvalidError{"conf", fmt.Sprintf("key %q may not be set by a session", key)}
	case matchesAny(p.ConfDeny, key), len(p.ConfAllow) > 0 && !matchesAny(p.ConfAllow, key):
		return &InvalidError{"conf", fmt.Sprintf("key %q may not be set on this cluster", key)}
	}
	return nil
}

// matchesAny says whether one of the patterns matches the whole of key, in any
// case of its letters; "*" stands for any letters.
func matchesAny(patterns []string, key string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(strings.ToLower(p), strings.ToLower(key)) })
}

func matches(pattern, key string) bool {
	first, rest, wild := strings.Cut(pattern, "*")
	if !wild {
		return pattern == key
	}
	if !strings.HasPrefix(key, first) {
		return false
	}
	key = key[len(first):]
	for {
		part, more, wild := strings.Cut(rest, "*")
		if !wild {
			return strings.HasSuffix(key, part)
		}
		at := strings.Index(key, part)
		if at < 0 {
			return false
		}
		key, rest = key[at+len(part):], more
	}
}

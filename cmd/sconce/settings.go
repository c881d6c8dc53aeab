package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/sconce-dev/sconce/configs"
	"github.com/sconce-dev/sconce/proxy"
	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/redisstore"
)

// This file turns parts of a configuration into what the packages take.

func relayLimits(c *configs.Config) relay.Limits {
	l := c.Limits
	tarpit := l.Tarpit
	if tarpit == 0 {
		tarpit = -1 // to package relay, 0 is its own default
	}
	return relay.Limits{
		Streams: l.Streams, HeaderBytes: int(l.HeaderBytes), Continuations: l.Continuations,
		StreamWindow: int(l.StreamWindow), MaxStreamWindow: int(l.MaxStreamWindow), GrownWindows: int64(l.GrownWindows),
		Held:  int(l.Held),
		Pings: l.Pings, Settings: l.Settings, Resets: l.Resets, EmptyFrames: l.EmptyFrames,
		Priorities: l.Priorities, WindowUpdates: l.WindowUpdates, UnknownFrames: l.UnknownFrames,
		PendingControl: int(l.PendingControl), Preface: l.HandshakeTimeout,
		Tarpit: tarpit, PingAfter: l.PingAfter, PingTimeout: l.PingTimeout, MaxMessage: int64(c.MaxMessage),
	}
}

// leeway is how far clocks may differ. To package auth, 0 is its own default and not
// none at all.
func leeway(a configs.Auth) time.Duration { return max(a.Leeway, time.Nanosecond) }

func operators(list []configs.Operator) []sessions.Operator {
	out := make([]sessions.Operator, len(list))
	for i, o := range list {
		out[i] = sessions.Operator{Org: o.Organisation, Subject: o.Subject}
	}
	return out
}

func quotas(l configs.Limits) proxy.Quotas {
	return proxy.Quotas{
		Token:   proxy.Quota{Streams: l.TokenStreams, Requests: l.TokenRequests, InFlight: int64(l.TokenInFlight), Artifacts: uint64(l.TokenArtifacts)},
		Session: proxy.Quota{Streams: l.SessionStreams, Requests: l.SessionRequests, InFlight: int64(l.SessionInFlight), Artifacts: uint64(l.SessionArtifacts)},
		Owner:   proxy.Quota{Streams: l.OwnerStreams, Requests: l.OwnerRequests, InFlight: int64(l.OwnerInFlight), Artifacts: uint64(l.OwnerArtifacts)},
		Org:     proxy.Quota{Streams: l.OrgStreams, Requests: l.OrgRequests, InFlight: int64(l.OrgInFlight), Artifacts: uint64(l.OrgArtifacts)},
		Process: proxy.Quota{Streams: l.ProcessStreams, Requests: l.ProcessRequests, InFlight: int64(l.ProcessInFlight), Artifacts: uint64(l.ProcessArtifacts)},
	}
}

func redisConfig(c *configs.Config, now func() time.Time, log *zap.Logger) (redisstore.Config, error) {
	r, l := c.Redis, c.Limits
	password, err := secret(r.PasswordFile)
	if err != nil {
		return redisstore.Config{}, fmt.Errorf("redis.password_file: %w", err)
	}
	secure, err := redisTLS(r.TLS)
	if err != nil {
		return redisstore.Config{}, err
	}
	return redisstore.Config{
		Addresses: r.Addresses, Cluster: r.Mode == "cluster", Master: r.Master, Database: r.Database,
		Username: r.Username, Password: password, TLS: secure,
		MaxJournal: int(c.Journal.Bytes), MaxJournals: int(c.Journal.SessionBytes), MaxBlobs: int(c.Journal.Artifacts),
		DialTimeout: r.DialTimeout, Timeout: r.Timeout, PoolSize: r.PoolSize,
		MaxTokens: l.TokensPerSession, MaxOwned: l.SessionsPerOwner, MaxInOrg: l.SessionsPerOrg,
		MaxOwnedTokens: l.TokensPerOwner, MaxOrgTokens: l.TokensPerOrg,
		MaxOwnedEngines: l.EnginesPerOwner, MaxOrgEngines: l.EnginesPerOrg, MaxAudit: int64(c.Audit.Entries), Now: now, Logger: log,
	}, nil
}

func redisTLS(t configs.RedisTLS) (*tls.Config, error) {
	if !t.Enabled {
		return nil, nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("redis.tls.ca: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("redis.tls.ca: no certificate in %s: write the path of a PEM file", t.CA)
		}
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("redis.tls.cert: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}

// leaveDelay is how long after a session became idle its engine is stopped: longer
// than any replica goes on without hearing of it.
func leaveDelay(grace time.Duration) time.Duration { return max(grace, 2*time.Second) + time.Second }

// touchEvery is how often the registry hears of use: several times in the shortest
// idle timeout that a session may have.
func touchEvery(list []configs.Cluster) time.Duration {
	every := 5 * time.Second
	for _, c := range list {
		if c.MinIdleTimeout > 0 {
			every = min(every, c.MinIdleTimeout/4)
		}
	}
	return max(every, 500*time.Millisecond)
}

// wakeTimeout is how long a wake may take: any engine's start, and time to bring the
// session's state there.
func wakeTimeout(list []configs.Cluster) time.Duration {
	longest := 5 * time.Minute
	for _, c := range list {
		longest = max(longest, c.Launch.StartTimeout+2*time.Minute)
	}
	return longest
}

// stopTimeout is how long an engine may take to stop: any one's orderly end, and to be
// killed after that.
func stopTimeout(list []configs.Cluster) time.Duration {
	longest := 2 * time.Minute
	for _, c := range list {
		longest = max(longest, c.Launch.StopTimeout+30*time.Second)
	}
	return longest
}

func clusterTLS(t configs.ClusterTLS) *sessions.ClusterTLS {
	return &sessions.ClusterTLS{CAFile: t.CA, ServerName: t.ServerName, CertFile: t.Cert, KeyFile: t.Key}
}

func clusterList(list []configs.Cluster, launchers map[string]launcher) (sessions.Clusters, error) {
	out := make([]sessions.Cluster, 0, len(list))
	for i, c := range list {
		token := c.Token
		if c.TokenFile != "" {
			var err error
			if token, err = secret(c.TokenFile); err != nil {
				return nil, fmt.Errorf("clusters[%d].token_file: %w", i, err)
			}
		}
		cluster := sessions.Cluster{Name: c.Name, Address: c.Address, Token: token, UIURL: c.UIURL, Policy: sessions.ClusterPolicy{
			IdleTimeout: c.IdleTimeout, MinIdleTimeout: c.MinIdleTimeout, MaxIdleTimeout: c.MaxIdleTimeout, AllowNeverIdle: c.AllowNeverIdle,
			MaxAge: c.MaxAge, CloseUnusedAfter: c.CloseUnusedAfter, MaxTokenLifetime: c.MaxTokenLifetime, ConfAllow: c.ConfAllow, ConfDeny: c.ConfDeny, Catalogs: c.Catalogs,
		}}
		if l := launchers[c.Name]; l != nil {
			cluster.Launcher, cluster.Isolation, cluster.NeverRestart = l, sessions.Isolation(c.Isolation), c.Restart == "never"
		}
		if c.TLS.Enabled {
			cluster.TLS = clusterTLS(c.TLS)
		}
		out = append(out, cluster)
	}
	return sessions.NewClusters(out)
}

// publicEndpoint is host:port as clients should write it.
func publicEndpoint(cfg *configs.Config) (string, error) {
	if cfg.Endpoint != "" {
		return cfg.Endpoint, nil
	}
	host, port, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return "", fmt.Errorf("listen: %w", err)
	}
	ip := net.ParseIP(host)
	switch {
	case host == "127.0.0.1" && cfg.TLS.Cert == "":
		host = "localhost" // without TLS PySpark sends a token to that name alone, and to 127.0.0.1 it tries TLS for ever
	case host == "" || ip != nil && ip.IsUnspecified():
		if host, err = os.Hostname(); err != nil {
			return "", fmt.Errorf("this machine has no name: write the endpoint into the configuration: %w", err)
		}
	}
	return net.JoinHostPort(host, port), nil
}

// readTimeout is how long the resolver waits for one answer of the registry: 500 ms,
// unless Redis may take longer than that for one read.
func readTimeout(redis time.Duration) time.Duration { return max(500*time.Millisecond, redis) }

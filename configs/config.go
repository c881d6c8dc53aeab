package configs

import "time"

// Config is everything that `sconce serve` can be told. The zero value is not
// usable; start from Default. Every field is described in example.yaml, which a
// test holds to this struct.
type Config struct {
	// Listen is host:port of the one port; an empty host means every address.
	Listen string `yaml:"listen"`
	// Endpoint is host:port as clients should write it; "" means the name of
	// this machine and the port of Listen.
	Endpoint string `yaml:"endpoint"`
	Admin    Admin  `yaml:"admin"`
	TLS      TLS    `yaml:"tls"`
	Redis    Redis  `yaml:"redis"`
	Auth     Auth   `yaml:"auth"`
	// Clusters are the Spark Connect servers that exist on their own, and those
	// that Sconce starts. Names are unique.
	Clusters []Cluster `yaml:"clusters"`
	// StateDir is where Sconce keeps what it knows of the engines that it started;
	// "" = sconce in $XDG_STATE_HOME or ~/.local/state, and /var/lib/sconce for root.
	StateDir string `yaml:"state_dir"`
	// Journal is what is kept of sessions so that a new engine can have their state.
	Journal Journal `yaml:"journal"`
	Limits  Limits  `yaml:"limits"`
	// MaxMessage is the largest gRPC message let through, in bytes; 0 = no limit.
	MaxMessage Size `yaml:"max_message_bytes"`
	// HoldTimeout is how long a request waits for its session's cluster; not zero.
	HoldTimeout time.Duration `yaml:"hold_timeout"`
	// RegistryGrace is how long sessions that this process knows go on while
	// Redis is away; 0 = not at all.
	RegistryGrace time.Duration `yaml:"registry_grace"`
	// DrainTimeout is how long running streams may take after SIGTERM; 0 = they are cut.
	DrainTimeout time.Duration `yaml:"drain_timeout"`
	// MaxConnectionAge is how long a client's HTTP/2 connection takes new streams; 0 = no bound.
	MaxConnectionAge time.Duration `yaml:"max_connection_age"`
	Log              Log           `yaml:"log"`
	Audit            Audit         `yaml:"audit"`
}

// Audit is where decisions are written, besides the log.
type Audit struct {
	// Entries is about how many a stream in Redis holds; 0 = there is no stream.
	Entries int `yaml:"entries"`
}

// Admin is the listener for operators: metrics, profiles, health.
type Admin struct {
	// Listen is host:port; "" = no such listener.
	Listen string `yaml:"listen"`
}

// TLS is the certificate of the one port.
type TLS struct {
	// Cert and Key are PEM files, read again when they change; both or none.
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
	// ClientAuth says whether clients show certificates: "none", "request" (who shows
	// one must have a good one) or "require".
	ClientAuth string `yaml:"client_auth"`
	// ClientCA is the PEM file of the authorities that sign them, read again when it
	// changes; "" only with ClientAuth none.
	ClientCA string `yaml:"client_ca"`
	// RequireTLS refuses plaintext from any peer that is not on loopback.
	RequireTLS bool `yaml:"require_tls"`
}

// Redis is where the registry lives.
type Redis struct {
	// Mode is "single", "sentinel" or "cluster".
	Mode string `yaml:"mode"`
	// Addresses are host:port: the server, the sentinels, or some cluster nodes.
	Addresses []string `yaml:"addresses"`
	// Master is the name that the sentinels know; only with mode sentinel.
	Master string `yaml:"master"`
	// Database is the number of the database; 0 in a cluster.
	Database int `yaml:"database"`
	// Username is the ACL user; "" = default.
	Username string `yaml:"username"`
	// PasswordFile holds the password; "" = none.
	PasswordFile string   `yaml:"password_file"`
	TLS          RedisTLS `yaml:"tls"`
	// DialTimeout and Timeout bound a connect, and one read or write; not zero.
	DialTimeout time.Duration `yaml:"dial_timeout"`
	Timeout     time.Duration `yaml:"timeout"`
	// PoolSize is the largest number of connections per node; 0 = ten for each CPU.
	PoolSize int `yaml:"pool_size"`
}

// RedisTLS is how the registry's connections are protected.
type RedisTLS struct {
	Enabled bool `yaml:"enabled"`
	// CA is a PEM file; "" = the system's roots.
	CA string `yaml:"ca"`
	// ServerName is checked in the certificate; "" = the host that was dialled.
	ServerName string `yaml:"server_name"`
	// Cert and Key are a client certificate; both or none.
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// Auth is whose tokens count, and how Sconce signs its own.
type Auth struct {
	// Issuer is the `iss` of every token, compared exactly.
	Issuer string `yaml:"issuer"`
	// SigningKey is the PEM file that tokens are signed with; not readable by others.
	SigningKey string `yaml:"signing_key"`
	// KeyFiles are further public keys (PEM or JWKS) that are believed.
	KeyFiles []string `yaml:"key_files"`
	// Leeway is how far clocks may differ; 0 = not at all.
	Leeway time.Duration `yaml:"leeway"`
	// TokenLifetime is the life of a session token for which none was asked.
	TokenLifetime time.Duration `yaml:"token_lifetime"`
	// MaxTokenLifetime is the longest life that may be asked for.
	MaxTokenLifetime time.Duration `yaml:"max_token_lifetime"`
	// Operators are those who may drain and resume clusters; empty = nobody. From the
	// file alone.
	Operators []Operator `yaml:"operators"`
	// OIDC are the outside issuers whose tokens are believed; from the file alone.
	OIDC []OIDC `yaml:"oidc"`
}

// Operator is who may drain and resume clusters.
type Operator struct {
	// Organisation is required.
	Organisation string `yaml:"organisation"`
	// Subject is one of it; "" = each of its administrators.
	Subject string `yaml:"subject"`
}

// Cluster is one Spark Connect server, or what starts some.
type Cluster struct {
	// Name is what `sconce session create --cluster` takes: lower-case letters, digits, dashes.
	Name string `yaml:"name"`
	// Address is host:port of a server that somebody else keeps up; "" = Launch.
	Address string     `yaml:"address"`
	TLS     ClusterTLS `yaml:"tls"`
	// Token is the server's pre-shared token, TokenFile a file that holds it; at most one, both "" = none.
	Token     string `yaml:"token"`
	TokenFile string `yaml:"token_file"`
	// Launch is how Sconce starts its engines; the zero value = it does not.
	Launch Launch `yaml:"launch"`
	// Isolation is "session" (each has an engine of its own) or "shared"; "" = session.
	Isolation string `yaml:"isolation"`
	// Restart is what becomes of a session whose engine has ended: "on_use", its next
	// query wakes it, or "never"; "" = on_use.
	Restart string `yaml:"restart"`
	// Warm is how many engines stand by for those who come; 0 = none.
	Warm int `yaml:"warm"`
	// IdleTimeout is how long a session that chose nothing may be unused before it
	// goes idle; 0 = it never does, which takes AllowNeverIdle. MinIdleTimeout and
	// MaxIdleTimeout bound what one may choose; a MaxIdleTimeout of 0 = no bound.
	IdleTimeout    time.Duration `yaml:"idle_timeout"`
	MinIdleTimeout time.Duration `yaml:"min_idle_timeout"`
	MaxIdleTimeout time.Duration `yaml:"max_idle_timeout"`
	// AllowNeverIdle lets a session choose 0.
	AllowNeverIdle bool `yaml:"allow_never_idle"`
	// MaxAge is how long a session lives, and the most that one may choose; 0 = for ever.
	MaxAge time.Duration `yaml:"max_age"`
	// CloseUnusedAfter is how long after its last use a session is closed that has no
	// engine, or is on a cluster that is an address; 0 = never.
	CloseUnusedAfter time.Duration `yaml:"close_unused_after"`
	// MaxTokenLifetime is the longest life of a token for one of its sessions;
	// 0 = as auth.max_token_lifetime, and never more than that.
	MaxTokenLifetime time.Duration `yaml:"max_token_lifetime"`
	// ConfAllow and ConfDeny are patterns of the Spark configuration that a session
	// may set; an empty ConfAllow = all that ConfDeny lets through.
	ConfAllow []string `yaml:"conf_allow"`
	ConfDeny  []string `yaml:"conf_deny"`
	// UIURL is where a session's owner finds the engine's web pages, with {session},
	// {engine} and {port} in it; "" = as the engine says.
	UIURL string `yaml:"ui_url"`
	// Catalogs are the names that a session may choose; empty = the engine is asked.
	Catalogs []string `yaml:"catalogs"`
}

// setDefaults fills a new entry of the list before the file does.
func (c *Cluster) setDefaults() { *c = DefaultCluster() }

// DefaultCluster is a cluster before anything is told of it.
func DefaultCluster() Cluster {
	return Cluster{IdleTimeout: 45 * time.Minute, MinIdleTimeout: time.Minute, MaxIdleTimeout: 24 * time.Hour, CloseUnusedAfter: 30 * 24 * time.Hour}
}

// ClusterTLS is how connections to a cluster are protected.
type ClusterTLS struct {
	// Enabled speaks TLS to the cluster; else HTTP/2 in plaintext.
	Enabled bool `yaml:"enabled"`
	// CA is a PEM file; "" = the system's roots.
	CA string `yaml:"ca"`
	// ServerName is checked in the certificate; "" = the host of Address.
	ServerName string `yaml:"server_name"`
	// Cert and Key are a client certificate, read again for each connection; both or none.
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// Journal is what is kept of the sessions of clusters that Sconce launches.
type Journal struct {
	// KeyFile holds the keys that it is encrypted with, 32 bytes in base64, one a
	// line, the first writes; "" = one that is derived from auth.signing_key.
	KeyFile string `yaml:"key_file"`
	// Bytes bounds the journal of one Spark session, SessionBytes those of all Spark
	// sessions of one session together, Artifacts the files that were uploaded to it;
	// above zero.
	Bytes        Size `yaml:"bytes"`
	SessionBytes Size `yaml:"session_bytes"`
	Artifacts    Size `yaml:"artifacts"`
}

// Log is what the process says of itself, on standard error.
type Log struct {
	// Level is debug, info, warn or error.
	Level string `yaml:"level"`
	// Format is json or console.
	Format string `yaml:"format"`
}

// Default returns the configuration before anything is told. It lacks what has
// no default: a signing key.
func Default() *Config {
	return &Config{
		Listen: ":8085",
		Admin:  Admin{Listen: "127.0.0.1:9090"},
		TLS:    TLS{RequireTLS: true, ClientAuth: "none"},
		Redis: Redis{
			Mode:        "single",
			Addresses:   []string{"127.0.0.1:6379"},
			DialTimeout: 200 * time.Millisecond,
			Timeout:     200 * time.Millisecond,
		},
		Journal: Journal{Bytes: 16 << 20, SessionBytes: 64 << 20, Artifacts: 64 << 20},
		Auth: Auth{
			Issuer:           "sconce",
			Leeway:           30 * time.Second,
			TokenLifetime:    time.Hour,
			MaxTokenLifetime: 24 * time.Hour,
		},
		Limits:        defaultLimits(),
		HoldTimeout:   2 * time.Minute,
		RegistryGrace: 30 * time.Second,
		DrainTimeout:  150 * time.Second,
		Log:           Log{Level: "info", Format: "json"},
		Audit:         Audit{Entries: 100_000},
	}
}

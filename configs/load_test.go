package configs_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/configs"
)

// minimal is the least that loads.
const minimal = `
tls: {require_tls: false}
auth: {signing_key: "."}
`

func load(t *testing.T, file string, environ, set []string) (*configs.Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sconce.yaml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	return configs.Load(configs.Sources{File: path, Environ: environ, Set: set})
}

func mustLoad(t *testing.T, file string, environ, set []string) *configs.Config {
	t.Helper()
	c, err := load(t, file, environ, set)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// launchYAML is a cluster that Sconce starts.
func launchYAML(launch string) string { return "clusters:\n- {name: a, launch: " + launch + "}" }

func TestLoadKeepsTheDefaultsOfWhatIsNotWritten(t *testing.T) {
	want := configs.Default()
	want.TLS.RequireTLS = false
	want.Auth.SigningKey = "."
	if got := mustLoad(t, minimal, nil, nil); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestLoadOrder(t *testing.T) {
	file := minimal + "listen: 127.0.0.1:1\nendpoint: file:1\ndrain_timeout: 1s\n"
	environ := []string{"SCONCE_ENDPOINT=env:2", "SCONCE_DRAIN_TIMEOUT=2s", "SCONCE_SERVICE_HOST=10.0.0.1", "HOME=/root"}
	c := mustLoad(t, file, environ, []string{"drain_timeout=3s"})
	if c.Listen != "127.0.0.1:1" || c.Endpoint != "env:2" || c.DrainTimeout != 3*time.Second {
		t.Errorf("got listen %q, endpoint %q, drain_timeout %s", c.Listen, c.Endpoint, c.DrainTimeout)
	}
}

func TestLoadValues(t *testing.T) {
	file := minimal + `
max_message_bytes: 64KiB
redis:
  mode: cluster
  addresses:
    - a:1
    - b:2
clusters:
  - name: one
    address: one:15002
    tls:
      enabled: true
      server_name: spark
    conf_allow: ["spark.sql.*"]
  - name: two
    address: two:15002
    max_age: 72h
    token: |
      s3cret
`
	c := mustLoad(t, file, []string{"SCONCE_AUTH_KEY_FILES=., .."}, nil)
	want := configs.Default()
	want.TLS.RequireTLS = false
	want.MaxMessage = 64 << 10
	want.Redis.Mode, want.Redis.Addresses = "cluster", []string{"a:1", "b:2"}
	want.Auth.SigningKey, want.Auth.KeyFiles = ".", []string{".", ".."}
	one, two := configs.DefaultCluster(), configs.DefaultCluster()
	one.Name, one.Address, one.TLS = "one", "one:15002", configs.ClusterTLS{Enabled: true, ServerName: "spark"}
	one.ConfAllow = []string{"spark.sql.*"}
	two.Name, two.Address, two.Token, two.MaxAge = "two", "two:15002", "s3cret\n", 72*time.Hour
	want.Clusters = []configs.Cluster{one, two}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v\nwant %+v", c, want)
	}
}

func TestLoadTakesHostAndPortInFlowStyle(t *testing.T) {
	c := mustLoad(t, minimal+"redis: {addresses: [127.0.0.1:16399, r:2], mode: cluster}\nadmin: {listen: 127.0.0.1:1}\n", nil, nil)
	if got := c.Redis.Addresses; !reflect.DeepEqual(got, []string{"127.0.0.1:16399", "r:2"}) || c.Admin.Listen != "127.0.0.1:1" {
		t.Errorf("addresses %q, admin.listen %q", got, c.Admin.Listen)
	}
	if _, err := load(t, minimal+"redis: {addresses: [a: 1]}\n", nil, nil); err == nil {
		t.Error("a pair was taken for an address")
	}
}

func TestLoadReportsAllFaultsAtOnce(t *testing.T) {
	file := `lisen: ":8085"
drain_timeout: 150
tls:
  require_tls: yes
redis:
  mode: sentinell
  addresses: [redis://r:6379]
clusters:
  - name: Big
    address: nowhere
  - adress: x:1
hold_timeout: -1s
`
	_, err := load(t, file, []string{"SCONCE_LOG_LEVEL=loud"}, []string{"log.fromat=json", "listen"})
	var faults configs.Faults
	if !errors.As(err, &faults) {
		t.Fatalf("got %v, want Faults", err)
	}
	for _, want := range []string{
		`sconce.yaml:1: lisen: unknown key: did you mean "listen"?`,
		`sconce.yaml:2: drain_timeout: "150" is not a duration: write a number with its unit`,
		`sconce.yaml:4: tls.require_tls: "yes": write true or false`,
		`sconce.yaml:6: redis.mode: "sentinell": write one of single, sentinel, cluster`,
		`sconce.yaml:7: redis.addresses[0]: "redis://r:6379": write host:port without a scheme`,
		`sconce.yaml:9: clusters[0].name: "Big": write 1 to 63 lower-case`,
		`sconce.yaml:10: clusters[0].address: "nowhere": write host:port`,
		`sconce.yaml:11: clusters[1].adress: unknown key: did you mean "address"?`,
		`sconce.yaml:11: clusters[1].address: missing: write host:port`,
		`sconce.yaml:12: hold_timeout: below zero: write 0 or more`,
		`SCONCE_LOG_LEVEL: log.level: "loud": write one of debug`,
		`--set log.fromat: unknown key: did you mean "log.format"?`,
		`--set listen: no value: write --set key=value`,
		`auth.signing_key: missing: make one with`,
		`tls.cert: no certificate`,
	} {
		if !strings.Contains(err.Error(), "\n  "+want) {
			t.Errorf("no fault %s", want)
		}
	}
	if t.Failed() {
		t.Log(err)
	}
}

func TestLoadRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ file, want string }{
		"a syntax error":                        {"listen: [", "sconce.yaml:1: not YAML"},
		"a duplicate key":                       {"listen: a:1\nlisten: b:1", "sconce.yaml:2: not YAML"},
		"a list at the top":                     {"- listen", "sconce.yaml:1: write keys with values below it"},
		"two documents":                         {minimal + "---\nlisten: a:1", "a second YAML document"},
		"a mapping for a value":                 {"listen: {a: b}", "listen: write one plain value"},
		"a value for a mapping":                 {"redis: here", "redis: write keys with values below it"},
		"a value for a list":                    {"clusters: here", "clusters: write a list"},
		"a nested unknown key":                  {"redis:\n  tls:\n    caa: x", `sconce.yaml:3: redis.tls.caa: unknown key: did you mean "ca"?`},
		"a key like no other":                   {"zzzzzzzzzz: 1", "unknown key: see configs/example.yaml"},
		"half a certificate":                    {"tls: {cert: .}", "tls: a certificate needs its key"},
		"a certificate not there":               {"tls: {cert: gone, key: gone}", "tls.cert: open gone: no such file"},
		"a key that is no key":                  {"tls: {cert: /dev/null, key: /dev/null}", "tls.cert: tls: failed to find any PEM data"},
		"two servers as one":                    {"redis: {addresses: [a:1, b:1]}", "2 addresses for one server"},
		"no servers":                            {"redis: {addresses: []}", "redis.addresses: empty"},
		"a cluster's database":                  {"redis: {mode: cluster, database: 1}", "redis.database: a cluster has only database 0"},
		"a sentinel without master":             {"redis: {mode: sentinel}", "redis.master: goes with redis.mode: sentinel"},
		"port zero in an endpoint":              {`endpoint: "a:0"`, "the port must be a number"},
		"a port too large":                      {`listen: ":80850"`, "the port must be a number"},
		"an endpoint without host":              {`endpoint: ":8085"`, "has no host"},
		"a lifetime over the max":               {"auth: {token_lifetime: 48h}", "auth.max_token_lifetime: 24h0m0s is shorter"},
		"a lifetime of months":                  {"auth: {max_token_lifetime: 1000h}", "auth.max_token_lifetime: 1000h0m0s is longer than a closed session is remembered: write at most 696h"},
		"a cluster twice":                       {"clusters:\n- {name: a, address: a:1}\n- {name: a, address: a:1}", `"a" is already clusters[0]`},
		"two tokens for one cluster":            {"clusters:\n- {name: a, address: a:1, token: x, token_file: .}", "both token and token_file"},
		"launch and address":                    {launchYAML("{preset: sail, python: p}, address: a:1"), "are of a server that exists already"},
		"launch and a token":                    {launchYAML("{preset: sail, python: p}, token: x"), "are of a server that exists already"},
		"preset and command":                    {launchYAML("{preset: sail, python: p, command: [/bin/x]}"), "and not both"},
		"neither of them":                       {launchYAML("{cores: 1}"), "and not both"},
		"an unknown preset":                     {launchYAML("{preset: snail, python: p}"), "launch.preset: \"snail\": write one of sail, spark"},
		"no Python":                             {launchYAML("{preset: sail}"), "launch.python: missing"},
		"a command without a path":              {launchYAML("{command: [x, '{port}']}"), "with its full path"},
		"a command without a port":              {launchYAML("{command: [/bin/x]}"), "no {port}"},
		"a preset's signal":                     {launchYAML("{preset: sail, python: p, stop_signal: INT}"), "knows its own"},
		"an unknown signal":                     {launchYAML("{command: [/bin/x, '{port}'], stop_signal: HUP}"), "write one of"},
		"an env without a value":                {launchYAML("{preset: sail, python: p, env: [A]}"), "env[0]: write NAME=value"},
		"Spark's settings for Sail":             {launchYAML("{preset: sail, python: p, executors: 2}"), "are Spark's"},
		"memory for a command":                  {launchYAML("{command: [/bin/x, '{port}'], memory: 1GiB}"), "are of presets"},
		"a conf without a value":                {launchYAML("{preset: spark, python: p, conf: [a.b]}"), "conf[0]: write key=value"},
		"a conf of Sconce's":                    {launchYAML("{preset: spark, python: p, conf: [spark.connect.authenticate.token=x]}"), "is set by Sconce"},
		"bounds without allocation":             {launchYAML("{preset: spark, python: p, dynamic_allocation: {min: 1}}"), "write enabled: true"},
		"bounds the wrong way":                  {launchYAML("{preset: spark, python: p, dynamic_allocation: {enabled: true, min: 3, max: 2}}"), "2 is below min (3)"},
		"launch numbers below zero":             {launchYAML("{preset: sail, python: p, cores: -1}"), "launch.cores: below zero"},
		"too short a life alone":                {launchYAML("{preset: sail, python: p, orphan_after: 1s}"), "write at least 5s"},
		"warm below zero":                       {launchYAML("{preset: sail, python: p}, warm: -1"), "warm: below zero"},
		"an unknown isolation":                  {launchYAML("{preset: sail, python: p}, isolation: full"), "write one of"},
		"warm without launch":                   {"clusters:\n- {name: a, address: a:1, warm: 1}", "of clusters that Sconce starts"},
		"half a client certificate":             {"clusters:\n- {name: a, address: a:1, tls: {enabled: true, cert: /dev/null}}", "clusters[0].tls: a client certificate needs its key"},
		"a client certificate without TLS":      {"clusters:\n- {name: a, address: a:1, tls: {cert: /dev/null, key: /dev/null}}", "mean nothing without TLS"},
		"client certificates in plaintext":      {"tls: {require_tls: false, client_auth: require, client_ca: /dev/null}", "tls.client_auth: clients show certificates over TLS alone"},
		"certificates that plaintext evades":    {"tls: {cert: /dev/null, key: /dev/null, require_tls: false, client_auth: require, client_ca: /dev/null}", "tls.client_auth: require, and tls.require_tls is off"},
		"an authority for nothing":              {"tls: {require_tls: false, client_ca: /dev/null}", "tls.client_ca: goes with tls.client_auth"},
		"another client_auth":                   {"tls: {client_auth: maybe}", "tls.client_auth: \"maybe\": write one of"},
		"TLS settings without TLS":              {"clusters:\n- {name: a, address: a:1, tls: {server_name: x}}", "mean nothing without TLS"},
		"ui_url without a host":                 {"clusters:\n- {name: a, address: a:1, ui_url: 'spark/{session}'}", "clusters[0].ui_url: \"spark/{session}\": write an http or https URL, with {session}, {engine} and {port} where they belong"},
		"ui_url with another place":             {"clusters:\n- {name: a, address: a:1, ui_url: 'https://h/{app}'}", "clusters[0].ui_url: \"https://h/{app}\": write an http or https URL, with {session}, {engine} and {port} where they belong"},
		"ui_url that is a script":               {"clusters:\n- {name: a, address: a:1, ui_url: 'javascript:alert(1)'}", "clusters[0].ui_url: \"javascript:alert(1)\": write an http or https URL, with {session}, {engine} and {port} where they belong"},
		"ui_url of an engine that is another's": {"clusters:\n- {name: a, address: a:1, ui_url: 'https://h:{port}/'}", "clusters[0].ui_url: a cluster that is an address has no {engine} and no {port}: leave them out"},
		"idle bounds upside down":               {"clusters:\n- {name: a, address: a:1, min_idle_timeout: 48h}", "clusters[0].max_idle_timeout: 24h0m0s is shorter than min_idle_timeout (48h0m0s)"},
		"an idle time out of bounds":            {"clusters:\n- {name: a, address: a:1, idle_timeout: 48h}", "clusters[0].idle_timeout: 48h0m0s is outside"},
		"never idle, not allowed":               {"clusters:\n- {name: a, address: a:1, idle_timeout: 0s}", "clusters[0].idle_timeout: zero, and allow_never_idle is off"},
		"an age below zero":                     {"clusters:\n- {name: a, address: a:1, max_age: -1s}", "clusters[0].max_age: below zero"},
		"a pattern that is none":                {"clusters:\n- {name: a, address: a:1, conf_deny: [spark.sql.*, 'a b']}", `clusters[0].conf_deny[1]: "a b": write keys of Spark`},
		"a catalog that is none":                {"clusters:\n- {name: a, address: a:1, catalogs: ['a.b']}", `clusters[0].catalogs[0]: "a.b": write the names`},
		"a fraction of a byte":                  {"max_message_bytes: 1.5KiB", "not a size"},
		"a size below zero":                     {"max_message_bytes: -1", "not a size"},
		"no issuer":                             {`auth: {issuer: ""}`, "auth.issuer: empty"},
		"no wait at all":                        {"hold_timeout: 0s", "hold_timeout: zero"},
		"a limit switched off":                  {"limits: {pings: 0}", "limits.pings: zero: this limit cannot be switched off"},
		"a limit out of bounds":                 {"limits: {header_bytes: 1KiB}", "limits.header_bytes: 1KiB: write a number from 4KiB to 16MiB"},
		"more held than the window":             {"limits: {stream_window: 64KiB}", "limits.held: 256KiB: write a number from 1KiB to 64KiB"},
		"an anchor":                             {"listen: &a b:1", "listen: write one plain value"},
		"operators of no organisation":          {`auth: {operators: [{organisation: o}, {subject: ann}]}`, "auth.operators[1].organisation: missing"},
		"an outside issuer that is ours":        {"auth: {oidc: [{issuer: sconce, audience: a, organisation: o}]}", "auth.oidc[0].issuer: \"sconce\" is auth.issuer"},
		"an outside issuer twice":               {"auth:\n  oidc:\n  - {issuer: https://a, audience: a, organisation: o}\n  - {issuer: https://a, audience: b, organisation: o}", "is already auth.oidc[0]"},
		"an outside issuer in plaintext":        {`auth: {oidc: [{issuer: "http://a", audience: a, organisation: o}]}`, "http only for an issuer on this machine"},
		"an outside issuer's keys in plaintext": {`auth: {oidc: [{issuer: "https://a", jwks_url: "http://a/k", audience: a, organisation: o}]}`, "auth.oidc[0].jwks_url"},
		"no audience":                           {`auth: {oidc: [{issuer: "https://a", organisation: o}]}`, "auth.oidc[0].audience: missing"},
		"no organisation":                       {`auth: {oidc: [{issuer: "https://a", audience: a}]}`, "auth.oidc[0].organisation: write either"},
		"two organisations":                     {`auth: {oidc: [{issuer: "https://a", audience: a, organisation: o, claims: {organisation: org}}]}`, "write either"},
		"admin roles of no claim":               {`auth: {oidc: [{issuer: "https://a", audience: a, organisation: o, admin_roles: [x]}]}`, "auth.oidc[0].admin_roles: mean nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, tc.file, nil, nil)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v\nwant %q in it", err, tc.want)
			}
		})
	}
}

func TestLoadWithoutTheFile(t *testing.T) {
	_, err := configs.Load(configs.Sources{File: "gone.yaml"})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "--config") {
		t.Errorf("got %v", err)
	}
}

// FuzzLoad: no file makes Load panic, and what it accepts is usable.
func FuzzLoad(f *testing.F) {
	example, err := os.ReadFile("example.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(example))
	f.Add(minimal)
	f.Add("clusters:\n- [a]\n- null\n- &x {name: 1}\n- *x")
	f.Add("? a\n: b")
	f.Add("listen: !!binary aGk=\n<<: {listen: a}")
	f.Fuzz(func(t *testing.T, file string) {
		c, err := load(t, file, nil, nil)
		if err == nil && (c.Auth.SigningKey == "" || c.HoldTimeout <= 0 || len(c.Redis.Addresses) == 0) {
			t.Errorf("accepted %+v", c)
		}
	})
}

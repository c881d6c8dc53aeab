package configs

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// validate notes everything that makes no sense. It goes on after each fault.
func (l *loader) validate() {
	c := l.config
	l.address("listen", c.Listen, anyHost)
	if c.Endpoint != "" {
		l.address("endpoint", c.Endpoint, namedHost)
	}
	if c.Admin.Listen != "" {
		l.address("admin.listen", c.Admin.Listen, anyHost)
	}
	l.tls()
	l.redis()
	l.auth()
	l.oidc()
	l.clusters()
	l.positive("hold_timeout", c.HoldTimeout)
	l.ranges()
	l.limits()
	l.journal()
	l.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	l.oneOf("log.format", c.Log.Format, "json", "console")
}

func (l *loader) tls() {
	t := l.config.TLS
	switch {
	case t.Cert == "" && t.Key == "" && t.RequireTLS:
		l.fault("tls.cert", "no certificate, and tls.require_tls is on: write the PEM files into tls.cert and tls.key, "+
			"or tls.require_tls: false where something in front ends TLS")
	case (t.Cert == "") != (t.Key == ""):
		l.fault("tls", "a certificate needs its key: write both tls.cert and tls.key")
	case t.Cert != "" && l.readable("tls.cert", t.Cert) && l.readable("tls.key", t.Key):
		if _, err := tls.LoadX509KeyPair(t.Cert, t.Key); err != nil {
			l.fault("tls.cert", "%v: write a PEM certificate and the key that belongs to it", err)
		}
	}
	l.clientAuth()
}

func (l *loader) clientAuth() {
	t := l.config.TLS
	l.oneOf("tls.client_auth", t.ClientAuth, "none", "request", "require")
	switch asks := t.ClientAuth != "none"; {
	case asks && t.Cert == "":
		l.fault("tls.client_auth", "clients show certificates over TLS alone: write tls.cert and tls.key, or client_auth: none")
	case asks != (t.ClientCA != ""):
		l.fault("tls.client_ca", "goes with tls.client_auth: request or require: write both or neither")
	case asks && l.readable("tls.client_ca", t.ClientCA):
		pem, err := os.ReadFile(t.ClientCA)
		if err != nil || !x509.NewCertPool().AppendCertsFromPEM(pem) {
			l.fault("tls.client_ca", "no certificate in %s: write the path of a PEM file", t.ClientCA)
		}
	}
	if t.ClientAuth == "require" && t.Cert != "" && !t.RequireTLS {
		l.fault("tls.client_auth", "require, and tls.require_tls is off: plaintext gets round it, so write tls.require_tls: true, or client_auth: request")
	}
}

func (l *loader) redis() {
	r := l.config.Redis
	l.oneOf("redis.mode", r.Mode, "single", "sentinel", "cluster")
	if len(r.Addresses) == 0 {
		l.fault("redis.addresses", "empty: write at least one host:port")
	}
	for i, a := range r.Addresses {
		path := fmt.Sprintf("redis.addresses[%d]", i)
		if _, written := l.origin[path]; !written {
			path = "redis.addresses"
		}
		l.address(path, a, namedHost)
	}
	if r.Mode == "single" && len(r.Addresses) > 1 {
		l.fault("redis.addresses", "%d addresses for one server: write one, or redis.mode: cluster or sentinel", len(r.Addresses))
	}
	if (r.Mode == "sentinel") != (r.Master != "") {
		l.fault("redis.master", "goes with redis.mode: sentinel: write both or neither")
	}
	if r.Mode == "cluster" && r.Database != 0 {
		l.fault("redis.database", "a cluster has only database 0: write 0")
	}
	l.optional("redis.password_file", r.PasswordFile)
	l.optional("redis.tls.ca", r.TLS.CA)
	if (r.TLS.Cert == "") != (r.TLS.Key == "") {
		l.fault("redis.tls", "a client certificate needs its key: write both cert and key")
	}
	l.optional("redis.tls.cert", r.TLS.Cert)
	l.optional("redis.tls.key", r.TLS.Key)
	l.positive("redis.dial_timeout", r.DialTimeout)
	l.positive("redis.timeout", r.Timeout)
}

// mostTokenLifetime is a day less than the registry keeps closed sessions.
const mostTokenLifetime = 29 * 24 * time.Hour

func (l *loader) auth() {
	a := l.config.Auth
	if a.Issuer == "" {
		l.fault("auth.issuer", "empty: write the name that stands in every token's `iss`")
	}
	if a.SigningKey == "" {
		l.fault("auth.signing_key", "missing: make one with `sconce key generate --out FILE` and write its path")
	} else {
		l.readable("auth.signing_key", a.SigningKey)
	}
	for i, f := range a.KeyFiles {
		l.readable(fmt.Sprintf("auth.key_files[%d]", i), f)
	}
	for i, o := range a.Operators {
		if o.Organisation == "" {
			l.fault(l.written(fmt.Sprintf("auth.operators[%d]", i), "organisation"), "missing: write the organisation whose administrators, or whose subject, may drain clusters")
		}
	}
	l.positive("auth.token_lifetime", a.TokenLifetime)
	if a.MaxTokenLifetime < a.TokenLifetime && !l.faulty("auth.max_token_lifetime") {
		l.fault("auth.max_token_lifetime", "%s is shorter than auth.token_lifetime (%s): write at least that", a.MaxTokenLifetime, a.TokenLifetime)
	}
	if a.MaxTokenLifetime > mostTokenLifetime {
		l.fault("auth.max_token_lifetime", "%s is longer than a closed session is remembered: write at most %s", a.MaxTokenLifetime, mostTokenLifetime)
	}
}

var clusterName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func (l *loader) clusters() {
	seen := map[string]int{}
	for i, c := range l.config.Clusters {
		at := fmt.Sprintf("clusters[%d]", i)
		if !clusterName.MatchString(c.Name) {
			l.fault(l.written(at, "name"), "%q: write 1 to 63 lower-case letters, digits and dashes", c.Name)
		} else if first, twice := seen[c.Name]; twice {
			l.fault(l.written(at, "name"), "%q is already clusters[%d]: write another name", c.Name, first)
		} else {
			seen[c.Name] = i
		}
		if c.Address != "" || !c.Launch.Given() {
			l.address(l.written(at, "address"), c.Address, namedHost)
		}
		l.launch(at, c)
		if c.Token != "" && c.TokenFile != "" {
			l.fault(l.written(at, "token"), "both token and token_file: write one of them")
		}
		l.optional(at+".token_file", c.TokenFile)
		l.clusterTLS(at+".tls", c.TLS)
		l.sessionPolicy(at, c)
	}
}

func (l *loader) clusterTLS(at string, t ClusterTLS) {
	l.optional(at+".ca", t.CA)
	l.optional(at+".cert", t.Cert)
	l.optional(at+".key", t.Key)
	if (t.Cert == "") != (t.Key == "") {
		l.fault(at, "a client certificate needs its key: write both cert and key")
	}
	if t != (ClusterTLS{}) && !t.Enabled {
		l.fault(at, "ca, server_name, cert and key mean nothing without TLS: write enabled: true")
	}
}

var (
	confPattern = regexp.MustCompile(`^[A-Za-z0-9._*-]{1,256}$`)
	catalogName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`)
)

// minIdle is the shortest idle timeout: the registry hears of use four times in it.
const minIdle = 2 * time.Second

// sessionPolicy checks what the sessions of a cluster may choose.
func (l *loader) sessionPolicy(at string, c Cluster) {
	for key, d := range map[string]time.Duration{
		"idle_timeout": c.IdleTimeout, "min_idle_timeout": c.MinIdleTimeout, "max_idle_timeout": c.MaxIdleTimeout, "max_age": c.MaxAge, "close_unused_after": c.CloseUnusedAfter,
		"max_token_lifetime": c.MaxTokenLifetime,
	} {
		if d < 0 {
			l.fault(l.written(at, key), "below zero: write 0 or more")
		}
	}
	if c.MinIdleTimeout >= 0 && c.MinIdleTimeout < minIdle {
		l.fault(l.written(at, "min_idle_timeout"), "%s: write at least %s, since use is noted only so often", c.MinIdleTimeout, minIdle)
	}
	switch idle := l.written(at, "idle_timeout"); {
	case c.MaxIdleTimeout != 0 && c.MaxIdleTimeout < c.MinIdleTimeout:
		l.fault(l.written(at, "max_idle_timeout"), "%s is shorter than min_idle_timeout (%s): write at least that, or 0 for no bound", c.MaxIdleTimeout, c.MinIdleTimeout)
	case c.IdleTimeout == 0 && !c.AllowNeverIdle:
		l.fault(idle, "zero, and allow_never_idle is off: write a duration, or allow_never_idle: true")
	case c.IdleTimeout > 0 && (c.IdleTimeout < c.MinIdleTimeout || c.MaxIdleTimeout != 0 && c.IdleTimeout > c.MaxIdleTimeout):
		l.fault(idle, "%s is outside min_idle_timeout (%s) and max_idle_timeout (%s): write a duration between them", c.IdleTimeout, c.MinIdleTimeout, c.MaxIdleTimeout)
	}
	for key, list := range map[string][]string{"conf_allow": c.ConfAllow, "conf_deny": c.ConfDeny} {
		l.each(at, key, list, confPattern, `write keys of Spark configuration, with * for any letters, such as spark.sql.*`)
	}
	l.uiURL(at, c)
	l.each(at, "catalogs", c.Catalogs, catalogName, "write the names of catalogs: letters, digits, dashes and underscores")
}

// uiPlaces are what ui_url may have between braces.
var uiPlaces = strings.NewReplacer("{session}", "s", "{engine}", "e", "{port}", "1")

func (l *loader) uiURL(at string, c Cluster) {
	if c.UIURL == "" {
		return
	}
	filled := uiPlaces.Replace(c.UIURL)
	u, err := url.Parse(filled)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || strings.ContainsAny(filled, "{}"):
		l.fault(l.written(at, "ui_url"), "%q: write an http or https URL, with {session}, {engine} and {port} where they belong", c.UIURL)
	case c.Address != "" && uiEngine.MatchString(c.UIURL):
		l.fault(l.written(at, "ui_url"), "a cluster that is an address has no {engine} and no {port}: leave them out")
	}
}

var uiEngine = regexp.MustCompile(`\{(engine|port)\}`)

// each checks the entries of a list of strings.
func (l *loader) each(at, key string, list []string, form *regexp.Regexp, problem string) {
	for i, text := range list {
		if !form.MatchString(text) {
			l.fault(l.written(at, fmt.Sprintf("%s[%d]", key, i)), "%q: %s", text, problem)
		}
	}
}

// written gives an entry's missing key the place of the entry.
func (l *loader) written(entry, field string) string {
	path := entry + "." + field
	if _, ok := l.origin[path]; !ok {
		l.origin[path] = l.origin[entry]
	}
	return path
}

// ranges refuses numbers below zero everywhere.
func (l *loader) ranges() {
	for _, k := range l.keysOf("") {
		if k.value.CanInt() && k.value.Int() < 0 {
			l.fault(k.path, "below zero: write 0 or more")
		}
	}
}

const (
	anyHost   = iota // ":8085" will do
	namedHost        // a host is needed
)

func (l *loader) address(path, text string, need int) {
	if l.faulty(path) {
		return
	}
	example := map[int]string{anyHost: ":8085 or 10.0.0.7:8085", namedHost: "spark.example.com:15002"}[need]
	host, port, err := net.SplitHostPort(text)
	switch n, perr := strconv.ParseUint(port, 10, 16); {
	case text == "":
		l.fault(path, "missing: write host:port, such as %s", example)
	case strings.Contains(text, "://"):
		l.fault(path, "%q: write host:port without a scheme, such as %s", text, example)
	case err != nil:
		l.fault(path, "%q: write host:port, such as %s", text, example)
	case perr != nil || (n == 0 && need == namedHost):
		l.fault(path, "%q: the port must be a number from 1 to 65535", text)
	case host == "" && need == namedHost:
		l.fault(path, "%q has no host: write host:port, such as %s", text, example)
	}
}

func (l *loader) positive(path string, d time.Duration) {
	if d == 0 && !l.faulty(path) {
		l.fault(path, "zero: write a duration above it, such as 30s")
	}
}

func (l *loader) oneOf(path, got string, allowed ...string) {
	for _, a := range allowed {
		if got == a {
			return
		}
	}
	l.fault(path, "%q: write one of %s", got, strings.Join(allowed, ", "))
}

// optional checks that the file can be opened, if one is named.
func (l *loader) optional(path, file string) {
	if file != "" {
		l.readable(path, file)
	}
}

func (l *loader) readable(path, file string) bool {
	f, err := os.Open(file)
	if err != nil {
		l.fault(path, "%v: write the path of a file that this process may read", err)
		return false
	}
	f.Close()
	return true
}

// journal checks that there is room for something.
func (l *loader) journal() {
	j := l.config.Journal
	for key, size := range map[string]Size{"journal.bytes": j.Bytes, "journal.session_bytes": j.SessionBytes, "journal.artifacts": j.Artifacts} {
		if size < 1<<10 {
			l.fault(key, "%s: write at least 1KiB", size)
		}
	}
}

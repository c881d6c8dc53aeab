package sessions

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Options is what the owner of a new session may choose. The zero value leaves
// everything to the cluster.
type Options struct {
	// Catalog and Database are what its Spark sessions begin in: letters, digits,
	// "-" and "_", a database with dots between several such parts. "" = the
	// engine's own.
	Catalog, Database string
	// Conf is Spark configuration that they begin with.
	Conf map[string]string
	// IdleTimeout is how long the session may be unused before it goes idle;
	// 0 = never, nil = as the cluster has it.
	IdleTimeout *time.Duration
	// MaxAge is how long after its creation it is closed; 0 = as the cluster has it.
	MaxAge time.Duration
	// Labels are the owner's own marks.
	Labels map[string]string
}

const (
	maxNamespace  = 255
	maxConfKeys   = 64
	maxConfKey    = 256
	maxConfValue  = 4096
	maxLabels     = 16
	maxLabel      = 63
	minAge        = time.Second
	namespaceRule = "must be up to 255 letters, digits, '-' and '_'"
)

// validate checks o against what its cluster allows.
func (o Options) validate(c *Cluster) error {
	if err := o.validNamespace(c); err != nil {
		return err
	}
	if err := validConf(o.Conf, &c.Policy); err != nil {
		return err
	}
	if err := o.validTimes(&c.Policy); err != nil {
		return err
	}
	return ValidLabels(o.Labels)
}

func (o Options) validNamespace(c *Cluster) error {
	if len(o.Catalog) > maxNamespace || !madeOf(o.Catalog, "-_") {
		return &InvalidError{"catalog", namespaceRule}
	}
	if known := c.Policy.Catalogs; o.Catalog != "" && len(known) > 0 && !slices.Contains(known, o.Catalog) {
		return &InvalidError{"catalog", fmt.Sprintf("%q is not one of cluster %s, which has %s", o.Catalog, c.Name, strings.Join(known, ", "))}
	}
	if o.Database == "" {
		return nil
	}
	for part := range strings.SplitSeq(o.Database, ".") {
		if part == "" || len(o.Database) > maxNamespace || !madeOf(part, "-_") {
			return &InvalidError{"database", namespaceRule + ", with a dot between its parts where it has several"}
		}
	}
	return nil
}

func validConf(conf map[string]string, p *ClusterPolicy) error {
	if len(conf) > maxConfKeys {
		return &InvalidError{"conf", fmt.Sprintf("has %d keys, and %d is the most", len(conf), maxConfKeys)}
	}
	for _, key := range slices.Sorted(maps.Keys(conf)) {
		value := conf[key]
		switch {
		case key == "" || len(key) > maxConfKey || !madeOf(key, ".-_"):
			return &InvalidError{"conf", fmt.Sprintf("key %.64q must be 1 to 256 letters, digits, '.', '-' and '_'", key)}
		case len(value) > maxConfValue || !utf8.ValidString(value):
			return &InvalidError{"conf", fmt.Sprintf("key %q: its value must be UTF-8 of at most %d bytes", key, maxConfValue)}
		}
		if err := p.mayConf(key); err != nil {
			return err
		}
	}
	return nil
}

func (o Options) validTimes(p *ClusterPolicy) error {
	if t := o.IdleTimeout; t != nil {
		switch {
		case *t == 0 && !p.AllowNeverIdle:
			return &InvalidError{"idle_timeout", "may not be 0 (never) on this cluster: choose a time"}
		case *t != 0 && (*t < p.MinIdleTimeout || p.MaxIdleTimeout > 0 && *t > p.MaxIdleTimeout):
			return &InvalidError{"idle_timeout", "must be " + between(p.MinIdleTimeout, p.MaxIdleTimeout) + " on this cluster"}
		}
	}
	if o.MaxAge != 0 && (o.MaxAge < minAge || p.MaxAge > 0 && o.MaxAge > p.MaxAge) {
		return &InvalidError{"max_age", "must be " + between(minAge, p.MaxAge) + " on this cluster"}
	}
	return nil
}

// between words bounds; high 0 = there is none.
func between(low, high time.Duration) string {
	if high == 0 {
		return fmt.Sprintf("at least %s", low)
	}
	return fmt.Sprintf("from %s to %s", low, high)
}

// ValidLabels checks labels, of a session or of a query. *InvalidError.
func ValidLabels(labels map[string]string) error {
	if len(labels) > maxLabels {
		return &InvalidError{"labels", fmt.Sprintf("has %d keys, and %d is the most", len(labels), maxLabels)}
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		value := labels[key]
		if key == "" || len(key) > maxLabel || !madeOf(key, ".-_/") {
			return &InvalidError{"labels", fmt.Sprintf("key %.64q must be 1 to 63 letters, digits, '.', '-', '_' and '/'", key)}
		}
		if len(value) > maxLabel || !madeOf(value, ".-_/") {
			return &InvalidError{"labels", fmt.Sprintf("key %q: its value must be up to 63 letters, digits, '.', '-', '_' and '/'", key)}
		}
	}
	return nil
}

// into writes the options, and what the cluster has for those that were not
// chosen, into a new session.
func (o Options) into(s *Session, p *ClusterPolicy) {
	s.Catalog, s.Database, s.Conf, s.Labels = o.Catalog, o.Database, NewPairs(o.Conf), NewPairs(o.Labels)
	s.IdleTimeout, s.MaxAge = p.IdleTimeout, p.MaxAge
	if o.IdleTimeout != nil {
		s.IdleTimeout = *o.IdleTimeout
	}
	if o.MaxAge != 0 {
		s.MaxAge = o.MaxAge
	}
}

// made says whether s may have been made with these options. Times that were not chosen
// are not compared: they are the cluster's, which may have others by now. The registry
// keeps milliseconds.
func (o Options) made(s Session) bool {
	same := func(a, b time.Duration) bool { return a.Milliseconds() == b.Milliseconds() }
	return s.Catalog == o.Catalog && s.Database == o.Database && s.Conf == NewPairs(o.Conf) && s.Labels == NewPairs(o.Labels) &&
		(o.IdleTimeout == nil || same(s.IdleTimeout, *o.IdleTimeout)) && (o.MaxAge == 0 || same(s.MaxAge, o.MaxAge))
}

// secretKey is a key of Spark configuration whose value nobody may be shown: what Spark
// itself redacts (spark.redaction.regex), and what Hadoop's file systems call theirs, such as
// fs.azure.account.key.<account>, fs.azure.sas.<container>.<account> and
// fs.s3a.encryption.key.
var secretKey = regexp.MustCompile(`(?i)secret|passw|passphrase|token|credential|jaas|\.sas\.|(access|account|private|encryption|shared|api|auth)[._-]?key`)

// SecretName says whether a setting of that name may be a secret.
func SecretName(name string) bool { return secretKey.MatchString(name) }

// Redacted stands for a value that is not shown.
const Redacted = "(redacted)"

// ShownConf is Conf as it may be shown: the values of secrets are Redacted.
func (s Session) ShownConf() map[string]string {
	conf := s.Conf.Map()
	for key := range conf {
		if SecretName(key) {
			conf[key] = Redacted
		}
	}
	return conf
}

// HasSetup says whether its Spark sessions begin with anything of their own.
func (s Session) HasSetup() bool { return s.Catalog != "" || s.Database != "" || s.Conf != "" }

// ExpiresAt is when the session is closed for its age; zero = never.
func (s Session) ExpiresAt() time.Time {
	if s.MaxAge == 0 {
		return time.Time{}
	}
	return s.CreatedAt.Add(s.MaxAge)
}

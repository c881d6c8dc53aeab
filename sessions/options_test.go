package sessions_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/sessions"
)

func many(n int) map[string]string {
	m := map[string]string{}
	for i := range n {
		m[fmt.Sprint("k", i)] = "v"
	}
	return m
}

func span(d time.Duration) *time.Duration { return &d }

// withPolicy is a manager whose only cluster has that policy.
func withPolicy(t *testing.T, p sessions.ClusterPolicy) *managerTest {
	t.Helper()
	m := newManager(t)
	only, err := sessions.NewClusters([]sessions.Cluster{{Name: "c", Address: "c:1", Policy: p}})
	if err != nil {
		t.Fatal(err)
	}
	m.Clusters = only
	return m
}

func TestOptionsAreRefused(t *testing.T) {
	m := withPolicy(t, sessions.ClusterPolicy{
		IdleTimeout: time.Hour, MinIdleTimeout: time.Minute, MaxIdleTimeout: 2 * time.Hour, MaxAge: 24 * time.Hour,
		ConfAllow: []string{"spark.*", "app.*"}, ConfDeny: []string{"spark.sql.ui.*"}, Catalogs: []string{"lake", "pond"},
	})
	conf := func(key, value string) sessions.Options {
		return sessions.Options{Conf: map[string]string{key: value}}
	}
	label := func(key, value string) sessions.Options {
		return sessions.Options{Labels: map[string]string{key: value}}
	}
	for name, c := range map[string]struct {
		o       sessions.Options
		field   string
		problem string
	}{
		"a catalog with a dot":          {sessions.Options{Catalog: "a.b"}, "catalog", "letters"},
		"a catalog too long":            {sessions.Options{Catalog: strings.Repeat("a", 256)}, "catalog", "255"},
		"a catalog not known":           {sessions.Options{Catalog: "sea"}, "catalog", `"sea" is not one of cluster c, which has lake, pond`},
		"a database with an empty part": {sessions.Options{Database: "a..b"}, "database", "dot"},
		"a database with a quote":       {sessions.Options{Database: "a`b"}, "database", "letters"},
		"too many keys":                 {sessions.Options{Conf: many(65)}, "conf", "65 keys"},
		"a key with a space":            {conf("spark.a b", "x"), "conf", "letters"},
		"no key":                        {conf("", "x"), "conf", "letters"},
		"a value too long":              {conf("spark.a", strings.Repeat("x", 4097)), "conf", `"spark.a"`},
		"a value that is no text":       {conf("spark.a", "\xff"), "conf", "UTF-8"},
		"a key of nobody's":             {conf("spark.connect.grpc.binding.port", "1"), "conf", "may not be set by a session"},
		"in other letters":              {conf("SPARK.Connect.x", "1"), "conf", "may not be set by a session"},
		"the engine's secret":           {conf("spark.authenticate.secret", "1"), "conf", "by a session"},
		"the master":                    {conf("spark.master", "local"), "conf", "by a session"},
		"submit":                        {conf("spark.submit.deployMode", "x"), "conf", "by a session"},
		"the default catalog":           {conf("spark.sql.defaultCatalog", "x"), "conf", "by the field catalog"},
		"a key denied":                  {conf("spark.sql.ui.x", "1"), "conf", "on this cluster"},
		"a key not allowed":             {conf("hive.x", "1"), "conf", "on this cluster"},
		"never idle":                    {sessions.Options{IdleTimeout: span(0)}, "idle_timeout", "may not be 0"},
		"idle too soon":                 {sessions.Options{IdleTimeout: span(time.Second)}, "idle_timeout", "from 1m0s to 2h0m0s"},
		"idle too late":                 {sessions.Options{IdleTimeout: span(3 * time.Hour)}, "idle_timeout", "from 1m0s to 2h0m0s"},
		"too old":                       {sessions.Options{MaxAge: 25 * time.Hour}, "max_age", "from 1s to 24h0m0s"},
		"too young":                     {sessions.Options{MaxAge: time.Millisecond}, "max_age", "from 1s"},
		"too many labels":               {sessions.Options{Labels: many(17)}, "labels", "17 keys"},
		"a label with a space":          {label("a b", "x"), "labels", "letters"},
		"a label's value with a space":  {label("a", "x y"), "labels", "letters"},
		"a label too long":              {label(strings.Repeat("a", 64), ""), "labels", "63"},
	} {
		_, err := m.Create(t.Context(), ann, sessions.CreateRequest{Name: "a", Options: c.o})
		var invalid *sessions.InvalidError
		if !errors.As(err, &invalid) || invalid.Field != c.field || !strings.Contains(invalid.Problem, c.problem) {
			t.Errorf("%s: %v, want %s: ... %s", name, err, c.field, c.problem)
		}
	}
	if page, err := m.List(t.Context(), ann, sessions.ListRequest{Closed: true}); err != nil || len(page.Sessions) != 0 {
		t.Errorf("left behind: %v, %v", page.Sessions, err)
	}
}

func TestOptionsAreTaken(t *testing.T) {
	m := withPolicy(t, sessions.ClusterPolicy{IdleTimeout: time.Hour, AllowNeverIdle: true, MinIdleTimeout: time.Minute, MaxAge: 24 * time.Hour})
	plain := m.create(t, ann, "plain")
	if plain.IdleTimeout != time.Hour || plain.MaxAge != 24*time.Hour || plain.HasSetup() || !plain.ExpiresAt().Equal(plain.CreatedAt.Add(24*time.Hour)) {
		t.Errorf("what the cluster has: %+v", plain)
	}
	conf := map[string]string{
		"spark.sql.shuffle.partitions": "3", "spark.sql.catalog.lake.key-value.separator": "=", "spark.hadoop.fs.s3a.access.key": "AKIA", "x.PassWord": "p",
		"spark.hadoop.fs.azure.account.key.a.dfs.core.windows.net": "k", "spark.hadoop.fs.azure.sas.c.a.blob.core.windows.net": "s",
		"spark.hadoop.fs.gs.auth.service.account.private.key": "k", "spark.hadoop.fs.s3a.server-side-encryption.key": "k", "spark.kafka.sasl.jaas.config": "j",
	}
	made, err := m.Create(t.Context(), ann, sessions.CreateRequest{Name: "a", Options: sessions.Options{
		Catalog: "lake", Database: "a.b", Conf: conf, IdleTimeout: span(0), MaxAge: time.Hour, Labels: map[string]string{"team": "physics"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if made.Catalog != "lake" || made.Database != "a.b" || !maps.Equal(made.Conf.Map(), conf) || made.IdleTimeout != 0 || made.MaxAge != time.Hour || !made.HasSetup() {
		t.Errorf("made %+v", made)
	}
	want := maps.Clone(conf)
	for key, value := range want {
		if value != "3" && value != "=" {
			want[key] = sessions.Redacted
		}
	}
	if !maps.Equal(made.ShownConf(), want) {
		t.Errorf("shown %v", made.ShownConf())
	}
	page, err := m.List(t.Context(), ann, sessions.ListRequest{Labels: map[string]string{"team": "physics"}})
	if err != nil || len(page.Sessions) != 1 || page.Sessions[0].ID != made.ID {
		t.Errorf("listed %v, %v", page, err)
	}
	if _, err := m.List(t.Context(), ann, sessions.ListRequest{Labels: many(17)}); err == nil {
		t.Error("17 labels were taken for a question")
	}
	for _, entry := range m.log.All() {
		if strings.Contains(fmt.Sprint(entry.ContextMap()), "AKIA") {
			t.Errorf("the log has a secret: %v", entry.ContextMap())
		}
	}
}

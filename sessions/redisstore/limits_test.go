package redisstore_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/redisstore"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// A close that was cut short after the record leaves a name and a place behind,
// and so does a create before the record. Where a limit is reached, they are found.
func TestLimitsForgetLeftovers(t *testing.T) {
	server := miniredis.RunT(t)
	now := time.Now()
	s := open(t, redisstore.Config{Addresses: []string{server.Addr()}, Now: func() time.Time { return now }})
	create := func(owner string) (sessions.ID, error) {
		id, err := sessions.NewID(now, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Create(t.Context(), sessions.Session{ID: id, Owner: owner, Org: "acme", Cluster: "c", State: sessions.Pending, CreatedAt: now}, "")
		return id, err
	}
	for _, c := range []struct {
		name  string
		limit string
		most  int
		owner func(i int) string
	}{
		{"an owner", sessions.LimitPerOwner, storetest.MaxOwned, func(int) string { return "ann" }},
		{"an organisation", sessions.LimitPerOrg, storetest.MaxInOrg, func(i int) string { return fmt.Sprint(i) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			server.FlushAll()
			var ids []sessions.ID
			for i := range c.most {
				id, err := create(c.owner(i))
				if err != nil {
					t.Fatal(err)
				}
				ids = append(ids, id)
			}
			refused := func(why string) {
				t.Helper()
				var reached *sessions.LimitError
				if _, err := create(c.owner(c.most)); !errors.As(err, &reached) || reached.Limit != c.limit {
					t.Errorf("%s: %v", why, err)
				}
			}
			taken := func(why string) {
				t.Helper()
				if _, err := create(c.owner(c.most)); err != nil {
					t.Errorf("%s: %v", why, err)
				}
			}
			refused("full")
			server.HSet("sconce:s:{"+string(ids[0])+"}", "state", "closed")
			taken("a close that was cut short")
			refused("full again")
			server.Del("sconce:s:{" + string(ids[1]) + "}")
			refused("a create that may be under way")
			now = now.Add(2 * time.Minute)
			taken("a create that was given up")
			refused("full at last")
		})
	}
}

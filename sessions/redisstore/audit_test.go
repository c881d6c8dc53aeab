package redisstore_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/redisstore"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// The stream has the entries in their order, without what is empty, and is cut.
func TestAudit(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t)
	s := open(t, redisstore.Config{Addresses: []string{server.Addr}, MaxAudit: 100})
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer rdb.Close()
	at := time.UnixMilli(1_700_000_000_123)
	whole := sessions.AuditEntry{
		At: at, Actor: "ann", Org: "acme", Admin: true, Via: "key:k-1", Action: sessions.ActionClose, Session: "s-1", TokenIDs: "a b", KeyID: "k-2",
		Source: "192.0.2.7:5000", Outcome: "failed", Reason: "why", RequestID: "r",
	}
	if err := s.AppendAudit(t.Context(), []sessions.AuditEntry{whole, {At: at, Actor: "bob", Outcome: "done"}}); err != nil {
		t.Fatal(err)
	}
	got, err := rdb.XRange(t.Context(), "sconce:audit", "-", "+").Result()
	if err != nil || len(got) != 2 {
		t.Fatalf("%v, %v", got, err)
	}
	want := "action=session.close actor=ann admin=true key=k-2 org=acme outcome=failed reason=why request=r session=s-1 source=192.0.2.7:5000 time=1700000000123 tokens=a b via=key:k-1"
	if text := sorted(got[0].Values); text != want {
		t.Errorf("first: %s\nwant   %s", text, want)
	}
	if text := sorted(got[1].Values); text != "actor=bob outcome=done time=1700000000123" {
		t.Errorf("second: %s", text)
	}
	for range 20 {
		if err := s.AppendAudit(t.Context(), slices.Repeat([]sessions.AuditEntry{whole}, 50)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := rdb.XLen(t.Context(), "sconce:audit").Result(); err != nil || n < 100 || n > 300 {
		t.Errorf("the stream holds %d entries, %v, want about 100", n, err)
	}
}

func sorted(fields map[string]any) string {
	var list []string
	for k, v := range fields {
		list = append(list, fmt.Sprint(k, "=", v))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func TestAuditWithoutRedis(t *testing.T) {
	server := miniredis.RunT(t)
	s := open(t, redisstore.Config{Addresses: []string{server.Addr()}})
	server.Close()
	if err := s.AppendAudit(t.Context(), []sessions.AuditEntry{{}}); !errors.Is(err, sessions.ErrUnavailable) {
		t.Errorf("error %v", err)
	}
}

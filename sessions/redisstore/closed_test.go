package redisstore_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sconce-dev/sconce/sessions"
	"github.com/sconce-dev/sconce/sessions/redisstore"
	"github.com/sconce-dev/sconce/sessions/storetest"
)

// What stays of a closed session for a month is little, however much it chose: somebody
// may create and close all day.
func TestClosedSessionsAreSmall(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t)
	raw := redis.NewClient(&redis.Options{Addr: server.Addr})
	t.Cleanup(func() { raw.Close() })
	s := open(t, redisstore.Config{Addresses: []string{server.Addr}, Timeout: patience})
	conf, labels := map[string]string{}, map[string]string{}
	for n := range 64 {
		conf[fmt.Sprintf("%0256d", n)] = strings.Repeat("v", 4096)
	}
	for n := range 16 {
		labels[fmt.Sprintf("%063d", n)] = strings.Repeat("v", 63)
	}
	asked := newSession(t, time.Now(), strings.Repeat("n", 64))
	asked.Conf, asked.Labels = sessions.NewPairs(conf), sessions.NewPairs(labels)
	asked.Catalog, asked.Database = strings.Repeat("c", 255), strings.Repeat("d", 255)
	made, err := s.Create(t.Context(), asked, "")
	if err != nil {
		t.Fatal(err)
	}
	size := func() (sum int64) {
		t.Helper()
		keys := raw.Keys(t.Context(), "*"+string(made.ID)+"*").Val()
		for _, key := range keys {
			n, err := raw.MemoryUsage(t.Context(), key, 0).Result()
			if err != nil {
				t.Fatal(err)
			}
			sum += n
		}
		return sum
	}
	if n := size(); n < 250<<10 {
		t.Errorf("an open session takes %d bytes: the test chooses too little", n)
	}
	closed, err := s.Transition(t.Context(), made.ID, sessions.CloseAt(time.Now(), "closed by ann"))
	if err != nil {
		t.Fatal(err)
	}
	if n := size(); n == 0 || n > 2<<10 {
		t.Errorf("a closed session takes %d bytes", n)
	}
	if closed.Catalog != asked.Catalog || closed.Reason != "closed by ann" || closed.Conf != "" {
		t.Errorf("closed %+v", closed)
	}
}

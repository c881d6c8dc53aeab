package redisstore_test

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// overhear begins to hear what is said on the channel; said are the commands that say
// it once more.
func (w *teller) overhear(raw *redis.Client) (said func() []string) {
	w.t.Helper()
	sub := raw.Subscribe(w.ctx, layoutChannel)
	w.t.Cleanup(func() { sub.Close() })
	_, err := sub.Receive(w.ctx)
	w.ok(err)
	return func() (list []string) {
		w.t.Helper()
		w.ok(raw.Publish(w.ctx, layoutChannel, "that is all").Err())
		for {
			m, err := sub.ReceiveMessage(w.ctx)
			w.ok(err)
			if m.Payload == "that is all" {
				return list
			}
			list = append(list, quoted("PUBLISH", m.Channel, m.Payload))
		}
	}
}

// kindOfFile is "layout" of testdata/layout-4.txt.
func kindOfFile(name string) string {
	kind, _, _ := strings.Cut(filepath.Base(name), "-")
	return kind
}

// recorded are all files of the newest one's kind.
func recorded(t *testing.T, newest string) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/" + kindOfFile(newest) + "-*.txt")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(files, newest) {
		t.Fatalf("no %s among %v", newest, files)
	}
	return files
}

func lines(t *testing.T, file string) (all []string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		all = append(all, in.Text())
	}
	return all
}

// words are the command of a line.
func words(line string) (list []any) {
	for rest := line; rest != ""; {
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			panic(err) // a file of ours
		}
		text, _ := strconv.Unquote(quoted)
		list = append(list, text)
		rest = strings.TrimPrefix(rest[len(quoted):], " ")
	}
	return list
}

func load(t *testing.T, raw *redis.Client, file string) {
	t.Helper()
	for _, line := range lines(t, file) {
		if err := raw.Do(t.Context(), words(line)...).Err(); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
}

// shape is what a dump says without its values: "HSET key field", "SADD key".
func shape(dump []string) (list []string) {
	for _, line := range dump {
		w := words(line)
		list = append(list, fmt.Sprintf("%s %s", w[0], w[1]))
		switch w[0] {
		case "HSET":
			list = append(list, fmt.Sprintf("%s %s %s", w[0], w[1], w[2]))
		case "XADD":
			for i := 3; i < len(w); i += 2 {
				list = append(list, fmt.Sprintf("%s %s %s", w[0], w[1], w[i]))
			}
		case "PUBLISH":
			list = append(list, fmt.Sprintf("%s %s, %d words", w[0], w[1], len(strings.Fields(fmt.Sprint(w[2])))))
		}
	}
	sort.Strings(list)
	return slices.Compact(list)
}

// quoted is a line of a dump.
func quoted(words ...string) string {
	for i := range words {
		words[i] = strconv.QuoteToASCII(words[i])
	}
	return strings.Join(words, " ")
}

// dump lists commands that make all that is there, an hour being any time to live.
func dump(t *testing.T, raw *redis.Client) (list []string) {
	t.Helper()
	ctx := t.Context()
	say := func(words ...string) { list = append(list, quoted(words...)) }
	keys, err := raw.Keys(ctx, "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(keys)
	for _, key := range keys {
		switch kind := raw.Type(ctx, key).Val(); kind {
		case "hash":
			fields := raw.HGetAll(ctx, key).Val()
			for _, f := range fieldsOf(fields) {
				say("HSET", key, f, fields[f])
			}
		case "string":
			say("SET", key, raw.Get(ctx, key).Val())
		case "set":
			members := raw.SMembers(ctx, key).Val()
			sort.Strings(members)
			for _, m := range members {
				say("SADD", key, m)
			}
		case "zset":
			for _, z := range raw.ZRangeWithScores(ctx, key, 0, -1).Val() {
				say("ZADD", key, strconv.FormatFloat(z.Score, 'f', -1, 64), fmt.Sprint(z.Member))
			}
		case "stream":
			for _, x := range raw.XRange(ctx, key, "-", "+").Val() {
				entry := []string{"XADD", key, x.ID}
				for _, f := range fieldsOf(x.Values) {
					entry = append(entry, f, fmt.Sprint(x.Values[f]))
				}
				say(entry...)
			}
		default:
			t.Fatalf("%s is a %s: dump does not know that", key, kind)
		}
		if raw.PTTL(ctx, key).Val() > 0 {
			say("PEXPIRE", key, "3600000")
		}
	}
	return list
}

func fieldsOf[V any](fields map[string]V) []string { return slices.Sorted(maps.Keys(fields)) }

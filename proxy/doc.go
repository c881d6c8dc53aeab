// Package proxy is everything that answers on the port: it finds out what a
// connection speaks, who is calling, for which session, and on which engine that
// session lives; package relay moves the bytes.
//
// # The way of a request
//
//	port.go     a connection is accepted          sniff.go, certs.go: TLS, HTTP/2, HTTP/1.1
//	relay/      frames become streams; for each:
//	route.go    Router.Route
//	admit.go      the header block: which method, well formed, whose session, which
//	              token                           -> refused, or
//	              a token valid now, for that session (package auth)
//	route.go      the session's route (package sessions) and the engine it leads to
//	hold.go       ... or the stream waits for its route
//	live.go       the stream is noted, so that the end of its session ends it
//	outgoing.go   the header that the engine sees
//	stamp.go    each message: session_id checked and bound, user_context stamped
//	relay/      frames to the engine and back
//	call.go     the engine failed: what the client reads; the stream ended: log, metrics
//
// Whatever is refused is worded in status.go, from which docs/errors.md is made;
// reply.go puts it on the wire, refuse.go finds the row for an error of another
// package. Sconce's own services (own.go) are to the router just one more
// backend.
//
// # What is checked once, and what each time
//
// Clients send the same header block again and again, and the relay shows it as
// the same relay.Header. What the block alone decides is worked out once
// (request, in Header.Memo), and what it led to is kept beside it (admission).
// Each stream still asks three questions: is the token valid now (auth's cache:
// no signature, but its times and its key); which route has the session now; is
// that the route of the admission. If so it costs one allocation, the call.
//
// # Holding
//
// A stream whose session is starting waits, its body bounded by its window. With
// the registry away only those requests wait that a client cannot repeat by
// itself (ExecutePlan, AddArtifacts); the others are answered UNAVAILABLE, which
// standard clients repeat for ten minutes. An ExecutePlan that waited in vain is
// answered UNAVAILABLE too, once its operation_id was read; the ReattachExecute
// that follows is told that there is no such operation, and the client sends
// the plan again (unstarted.go).
//
// # Who may be called by whom
//
// Route runs on the reader goroutine of a client's connection and never blocks.
// Held streams and bindings have a goroutine each, bounded by
// RouterConfig.MaxHeld, and Router.Run waits for them. A stamp's and a call's
// methods are called by the relay under the stream's lock: they take no lock but
// those of Live, of Unstarted and of the resolver's cache, under which nothing
// is called.
//
// # What it does not do
//
// It reads no plan and no row, stores nothing, starts no cluster, and repeats no
// request. It does not make a shared engine safe for tenants that run code on it.
package proxy

// Package payload makes and checks the gRPC messages of the benchmark. They are
// real Spark Connect messages as far as a gateway looks at them: session_id and
// user_context stand where Spark's clients put them, and what fills a big message
// is one bytes field.
//
//	t, err := payload.Rows(session, 64<<10) // ExecutePlanResponse, 64 KiB on the wire
//	t.At(off, n)                            // its bytes, shared memory, nothing is copied
//
//	check := payload.NewCheck(t)
//	err = check.Feed(received)              // every byte compared
//
// A size is always the length on the wire: the 5 bytes of the gRPC prefix and the
// message. The filling is one pseudo-random block of Period bytes, repeated. Period
// is prime, so frames that were lost, doubled or swapped show.
//
// It does not build Spark plans: the plan is bytes that no proxy reads.
package payload

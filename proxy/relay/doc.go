// Package relay relays HTTP/2 frames between the connections of clients and
// those of backends. It asks one question for each stream, Router.Route, and
// then moves frames; it knows nothing of sessions, tokens or Spark.
//
//	client            Server                              Backend        backend
//	  ---- HEADERS --> parse -> decode -> Route ?            |
//	  ---- DATA -----> parse -> window -> Call.Edit -> open/deliver -> write --->
//	  <--- DATA ------ write <- deliver <- follow <- window <- parse <----------
//
// # The way of a frame
//
// A connection's reader waits holding no buffer (wire.go), takes a chunk when bytes
// come (conn.go, chunk.go) and parses the frames in it (parse.go, flow.go). A DATA
// frame is charged to both windows; the connection's is given back at once, the
// stream's only when its bytes were written to the other side, so that what one
// stream parks is bounded by its window and a stalled stream stalls only itself.
// The request body passes Call.Edit (stream.go), the answer is followed for its
// message boundaries (response.go). A frame that the receiver's windows allow is
// committed to the other connection (outbox.go): its head is rewritten in place,
// in the chunk that it was read into, and the same bytes are handed to writev.
// Frames that stand side by side in a chunk leave as one run of bytes (flush.go).
//
// After each read the reader settles its turn (turn.go): it writes, without ever
// waiting, to every connection it gave something to. Only when a socket is full
// a writer goroutine takes over and waits.
//
// # Who owns what
//
//   - The reader goroutine of a connection owns its read buffer, its header
//     decoder and its budgets against abuse.
//   - conn.mu guards what is sent on a connection: windows, queues, the header
//     encoder, and the streams on it. It orders frames.
//   - Stream.mu guards the way of a request. It may be held when a backend's mu
//     or a connection's is taken, never the other way round.
//   - Whoever sets conn.writing owns the batch that is being written.
//   - A chunk belongs to all who hold a reference; the reader writes behind what is
//     filled, and the head of a frame is rewritten by the one connection that
//     the frame is committed to.
//
// # Bytes that a stream may hold
//
// Limits.StreamWindow (256 KiB) in each direction, and up to twice that of memory where
// parked frames keep read buffers alive that are partly filled; a
// receiver that has kept up for 8 MiB is given up to Limits.MaxStreamWindow (1 MiB),
// within Limits.GrownWindows for all streams together, and loses it when it
// stalls. A stream that holds no body costs about 1 KiB, a quiet connection about
// 11 kB with its goroutine and its share of the collector's slack. No message is ever held whole, and no declared
// length allocates anything.
//
// # What it does not do
//
// It does not push, does not prioritise, does not pass interim (1xx) answers or the
// trailers of requests on, does not compress or decompress, and never
// sends a request to a backend that the router did not name. A request is sent twice
// only where the backend said that it did not look at it (again.go).
package relay

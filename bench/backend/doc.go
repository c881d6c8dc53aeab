// Package backend is the cheap HTTP/2 server that stands behind every proxy of
// the benchmark. It speaks plaintext HTTP/2 with prior knowledge, three methods
// of Spark Connect, and grpc.health.v1, by which a gateway probes it:
//
//	Config        100 B -> 200 B, at once
//	ExecutePlan   as many messages of the size that the x-bench-* metadata asks for
//	AddArtifacts  swallows and checks the upload, then answers once
//
// One goroutine reads a connection and answers small things itself; one writes
// what is long. What is sent is shared memory put together with writev: nothing
// is copied or made for each frame. Flow control is kept strictly.
//
//	reader: frames -> conn.streams, conn.control -> small answers written at once
//	writer: streams that have credit, 16 frames in turn -> writev
//
// It is no server for anything else: it trusts its peer and ends the connection
// on the first thing that it does not understand.
package backend

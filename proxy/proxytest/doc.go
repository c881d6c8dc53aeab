// Package proxytest is the kit that Sconce is tested with: peers that speak the
// true protocol, or break it on purpose, on loopback or in memory.
//
//	Peer      one end of an HTTP/2 connection played by hand, client or backend:
//	          sends any frame, collects what comes, and checks what comes
//	          against RFC 9113 all the time
//	Spark     a Spark Connect server on grpc-go: counts calls, records metadata and
//	          the exact bytes of each message, answers by script
//	Foe       a client that floods as fast as it goes, and keeps no rule
//	Pace      how much somebody gets done, in medians: what a flood may not change
//	Keys      makes session and control tokens, good and bad
//	Listener  an in-memory net.Listener; Pipe a buffered in-memory connection
//
// A raw client against something that listens:
//
//	c := proxytest.Client(t, conn, proxytest.PeerConfig{})
//	id := c.Open(proxytest.Call("/spark.connect.SparkConnectService/Config"), false)
//	c.Send(id, proxytest.Message(body), true)
//	answer := c.Response(id)
//
// A fake server and what it saw:
//
//	spark := proxytest.StartSpark(t, proxytest.SparkConfig{})
//	spark.Script("ExecutePlan", proxytest.Batches(10, 1<<20))
//	... spark.Dial or spark.Addr() ...
//	spark.Calls("ExecutePlan")
//
// Nothing here sleeps: a wait ends when what it waits for has come, and fails
// the test after Patience. Everything is closed, and its goroutines waited for, in the
// test's cleanup.
//
// Package proxytest imports neither proxy nor proxy/relay, so that the tests
// of both can use it; gateway, below it, wires a whole proxy. It is no load
// generator, and what it measures is only good for comparing.
package proxytest

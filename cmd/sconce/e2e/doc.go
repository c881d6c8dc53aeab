// Package e2e proves Sconce with real parts: the built binary, a real Redis, a
// Sail server, an Apache Spark Connect server, and the unmodified clients that
// people have.
//
//	PySpark 3.4 3.5 4.0 4.3 ─┐  TLS, or                    ┌─ Sail
//	JVM client 4.1 ──────────┼─ plaintext ─> sconce ─[link]┤
//	gRPC by hand ────────────┘                 │           └─ Apache Spark
//	                                         Redis
//
// Every case runs twice: directly against the engine, and through the port. The
// direct result is the reference, and the one through Sconce must equal it, also
// where the engine cannot do what was asked. A case whose true answer is known
// says itself whether it was right, so that two equal wrong answers fail.
//
// TestUpgrade and TestSoak stand apart: many clients go on while replicas, engines and
// Redis end and come back. `make soak` is the long form of the second.
//
// The package holds only tests. setup.sh, which `make test` calls, prepares what
// they need in .cache/e2e; without it they fail at once and say so. `go test
// -short` leaves them out. One client, engine or case by itself:
//
//	go test ./cmd/sconce/e2e -v -run 'TestClients/Sail/PySpark_4.0/TLS'
//
// It does not measure: bench does.
package e2e

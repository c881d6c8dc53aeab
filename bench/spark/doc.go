// Package spark measures what Sconce adds to a real query: PySpark's toArrow of
// many rows from a Sail server, directly and through Sconce, in turn.
//
//	PySpark ----------------> Sail
//	PySpark ----> Sconce ---> Sail
//
// Each measurement is a Python process of its own, which connects, runs a small
// query first, and then tells how long toArrow took. Needs a virtual environment
// with pysail and a PySpark client, as `make setup-sail` makes it.
//
// It compares no engines and no other proxies.
package spark

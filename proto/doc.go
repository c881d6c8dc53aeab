// Package proto holds the messages that Sconce speaks, each .proto with its
// generated Go beside it:
//
//	sconce/v1/      our control API
//	spark/connect/  the part of Spark Connect that Sconce and its tests read
//
// Run proto/generate.sh after a change. The package itself has no code; its
// test keeps the generated Go fresh.
package proto

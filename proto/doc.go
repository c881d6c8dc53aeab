// Package proto holds the messages that Sconce speaks, each .proto with its
// generated Go beside it:
//
//	sconce/v1/      our control API; rest/ is its JSON face
//	spark/connect/  the part of Spark Connect that Sconce and its tests read
//
// Run proto/generate.sh after a change. The package itself has no code; its
// tests keep what is generated fresh.
package proto

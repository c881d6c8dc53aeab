// Package connect is the generated Go of the part of Spark Connect that Sconce
// and its tests read:
//
//	SparkConnectService   all twelve methods
//	requests, responses   the fields of identity, operation and engine session
//	Plan                  as much as one SQL query or range needs
//
// It is no client for programs: plans are mostly left out, and what is left out
// is kept as unknown fields.
package connect

// Sconce is a Spark Connect gateway. This is its one binary:
//
//	sconce serve     the gateway, with a configuration and a Redis
//	sconce dev       the gateway with everything it needs, on this machine
//	sconce session   create, list, describe, close        (talk to a gateway)
//	sconce token     issue                                (talks to a gateway)
//	sconce token     control                              (signs by itself)
//	sconce key       generate
//	sconce version
//
// A command reads its flags, makes a call, prints what came of it. Everything
// that serve runs is built and wired in gateway.go, and dev runs the same.
//
// Exit codes: 0 done; 1 failed; 2 used wrongly, or a configuration with faults;
// 3 a gateway that was told twice to stop, and cut what was running.
package main

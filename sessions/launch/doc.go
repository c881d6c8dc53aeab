// Package launch brings engines up and down: each type here is a
// sessions.Launcher for one cluster.
//
//	Process  programs on this machine: a preset (sail, spark) or a command
//	Pool     some engines of a Process that stand by, so that a start costs nothing
//
// A cluster that is an address has none: nothing is started for it, and
// sessions.Waker asks its server whether it answers.
//
// An engine of Process belongs to no Sconce process. It runs under a keeper: the
// same binary, started once more, in a session of its own, which does three things:
//
//	Sconce ... Sconce     any number, come and go       (Process)
//	   |  touch <dir>/<cluster>/heartbeat
//	   |  <dir>/<cluster>/<id>/{engine.json, lock, stop, pid, exit.json, log, work/}
//	keeper                one for each engine           (Keep)
//	   |  parent-death signal, own process group
//	engine                sail, java, ...
//
// it ends the engine when it is asked to, when nobody has touched the heartbeat
// for a while, and when the launch that it is part of is given up. The kernel ends
// the engine if the keeper is killed. All that is known of an engine is in its
// folder, so that any Sconce on the machine can find it, claim it and stop it.
//
// The package knows nothing of sessions' records, of Redis and of who asks; it
// never stops an engine by itself, but for those that nobody keeps. An engine runs
// as the user that Sconce runs as: it is apart from Sconce by its environment and
// its folders, not by permissions.
package launch

// Package redisstore keeps the session registry in Redis (6.2 or later, tested with 7.0; a single
// server, Sentinel or Cluster). It implements sessions.Store, sessions.Directory,
// sessions.TokenStore, sessions.KeyStore, sessions.JournalStore and sessions.CarriedStore.
//
// Every key, with the default prefix "sconce". <owner> and <org> stand for
// hashes of the names, so that no name can break a key:
//
//	sconce:s:{<session>}         hash    the record, fields in record.go.       Expires 30 days after the close,
//	                                                                              an hour where its create was refused;
//	                                                                              what is large of it goes with the close.
//	sconce:s:{<session>}:bound   set     Spark session ids bound to it.         Expires with the record.
//	sconce:s:{<session>}:tokens  hash    token id -> its times and name, tokens.go.     Expires with the record; a field goes
//	                                                                              some minutes after its token expired.
//	sconce:s:{<session>}:ops     zset    operations that are not over, by when they      When the engine changes or the session closes.
//	                                     were last seen, ms.
//	sconce:s:{<session>}:released zset   operations that their clients released, by     30 s after the last was told.
//	                                     when that was told, ms.
//	sconce:s:{<session>}:streams hash    replica -> when it told, ms, and its open      15 s after it was told.
//	                                     streams.
//	sconce:s:{<session>}:lease   string  who wakes it.                          Some seconds after its holder died.
//	sconce:s:{<session>}:uses    hash    token id -> when it was last used, ms.  As the tokens.
//	sconce:s:{<session>}:turn:<spark id>  string  who prepares that Spark session.      After a minute.
//	sconce:s:{<session>}:journal hash    what the state of its Spark sessions consists of: journal.go.  Goes with the close.
//	sconce:s:{<session>}:parts   hash    the bodies of that, encrypted, in pieces of 256 KiB.           Goes with the close.
//	sconce:s:{<session>}:carried hash    what of it the engine of this generation has: carried.go.      Goes with the close.
//	sconce:b:{<spark id>}        string  the session that a Spark id is bound   Expires 31 days after the close of
//	                                     to; refused to every other.            its session: later than the record.
//	sconce:o:{<owner>}:names     hash    name -> session, the open ones.        Never; a field goes with the close.
//	sconce:o:{<owner>}:ids       zset    the owner's sessions, by id.           Never; see below.
//	sconce:o:{<owner>}:r:<id>    string  request id -> session.                 24 hours after the create.
//	sconce:o:{<owner>}:engines   set     places of the owner's engines that are up or   Never; a member goes with the engine, or
//	                                     being launched; places.go.                      when one is wanted and none is left.
//	sconce:g:{<org>}:engines     set     the same of the organisation.           Likewise. Both: only where there is a limit.
//	sconce:g:{<org>}:ids         zset    the organisation's sessions, by id.    Never; see below.
//	sconce:o:{<owner>}:tokens    zset    the owner's tokens that are good, by when they  Ten minutes after its last token; a member
//	                                     expire, ms; token_limits.go.            goes with its token or the session.
//	sconce:g:{<org>}:tokens      zset    the same of the organisation.           Likewise. Each: only where there is a limit.
//	sconce:e:{<engine>}          hash    the engine of a session or of a shared Never; deleted when it goes down.
//	                                     cluster that is up: cluster, instance, place.
//	sconce:e:{<engine>}:members  hash    session -> generation: who runs on it. Never; likewise.
//	sconce:e:{<engine>}:lease    string  who launches it.                       Some seconds after its holder died.
//	sconce:engines               set     engines that may be up; <engine> is    Never; a member goes when it is found down.
//	                                     "session:<session>" or "cluster:<name>".
//	sconce:looks                 zset    sessions by when they are to be looked Never; a member goes when it needs no look.
//	                                     at next, ms.
//	sconce:g:{<org>}:open        set     the organisation's open sessions.      Never; a member goes with the close.
//	sconce:drains                hash    cluster -> since when, ms, and why it takes    Never; a field goes with the resume.
//	                                     nothing new, in JSON; drains.go.
//	sconce:due                   zset    sessions by the end of their age, ms.  Never; a member goes with the close.
//	sconce:unused                zset    sessions by when it is looked at whether   Likewise. Replicas of before there was
//	                                     nobody uses them any more, ms.             this close what is due without a look.
//	sconce:audit                 stream  every decision, audit.go.               Cut to some 100,000 entries.
//	sconce:k:{<key id>}          hash    an API key: whom it speaks for, its     Expires 30 days after the key does.
//	                                     times, the SHA-256 of it; apikeys.go.
//	sconce:g:{<org>}:keys        zset    the organisation's API keys, by time.  Never; a member goes when a list meets
//	                                                                              that its record has expired.
//	sconce:changes               channel "<session> <state> <generation> <revision>" for each transition
//	                                     and each revocation of tokens.
//
// The scores of an ids zset are all 0, so that it is ordered by id, which is by
// time. A member whose record has expired is taken out when a list meets it.
//
// The keys of one session share a hash tag, as do those of one owner, and no
// script touches two tags, so Redis Cluster works. What spans tags is done in an
// order that leaves nothing wrong behind a crash:
//
//	create: owner's name and index, a place in the organisation, its index, the
//	        deadline, record
//	        (a name whose session has no record after a minute may be taken over; so
//	        may its place in the organisation)
//	close:  record, owner's name, place in the organisation, deadline, its tokens
//	        out of the owner's and the organisation's, expiry of the bindings
//	        (closing once more finishes what was cut short)
//	engine: the set of engines, engine
//	        (a key in the set whose engine is down is taken out)
//	place:  owner's engines, organisation's engines, engine
//	        (a place whose lease nobody holds and whose engine is not up is free)
//	token:  owner's tokens, organisation's tokens, the session's
//	        (one that is in the first two, and after a minute not in the third, is
//	        taken out where a limit is reached; so is one that was revoked, or whose
//	        session is closed)
//	active: the time of its next look, record
//	        (a look at a session that is not active is its last)
//	key:    organisation's index, record
//	bind:   spark id -> session, then the session's set
//	        (so the set never names an id that another session may have; where the
//	        session chose a catalog, a database or configuration, the engine is told
//	        of it in between, by whoever has the turn)
//
// Redis must not evict ("maxmemory-policy noeviction"); Check says so. The
// package caches nothing and decides nothing about who may do what.
package redisstore

// Package redisstore keeps the session registry in Redis (6.2 or later, tested with 7.0; a single
// server, Sentinel or Cluster). It implements sessions.Store,
// sessions.Directory, sessions.TokenStore and sessions.KeyStore.
//
// Every key, with the default prefix "sconce". <owner> and <org> stand for
// hashes of the names, so that no name can break a key:
//
//	sconce:s:{<session>}         hash    the record, fields in record.go.       Expires 30 days after the close.
//	sconce:s:{<session>}:bound   set     Spark session ids bound to it.         Expires with the record.
//	sconce:s:{<session>}:tokens  hash    token id -> its times and name, tokens.go.     Expires with the record; a field goes
//	                                                                              some minutes after its token expired.
//	sconce:b:{<spark id>}        string  the session that a Spark id is bound   Expires 31 days after the close of
//	                                     to; refused to every other.            its session: later than the record.
//	sconce:o:{<owner>}:names     hash    name -> session, the open ones.        Never; a field goes with the close.
//	sconce:o:{<owner>}:ids       zset    the owner's sessions, by id.           Never; see below.
//	sconce:o:{<owner>}:r:<id>    string  request id -> session.                 24 hours after the create.
//	sconce:g:{<org>}:ids         zset    the organisation's sessions, by id.    Never; see below.
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
//	create: owner's name and index, organisation's index, record
//	        (a name whose session has no record after a minute may be taken over)
//	close:  record, owner's name, expiry of the bindings
//	        (closing once more finishes what was cut short)
//	key:    organisation's index, record
//	bind:   spark id -> session, then the session's set
//	        (so the set never names an id that another session may have)
//
// Redis must not evict ("maxmemory-policy noeviction"); Check says so. The
// package caches nothing and decides nothing about who may do what.
package redisstore

// Package sessions is what a session is and how it lives: its record and state
// table, the registry it is kept in (Store, Directory), who may do what with it
// (policy), the operations on it (Manager) and the way from a session id to a
// cluster on the request path (Resolver).
//
//	control API ──> Manager ──> Store ─────────┐
//	                  │                        ├── redisstore
//	data path ────> Resolver ──> Directory ────┘
//	                  └ cache, kept true by push and by a re-check each second
//
// A session is the owner's handle on a cluster: "pending" until the cluster
// answered, then "active", in the end "closed", which is final. Spark's own
// session ids (one for every SparkSession object of a client) are bound to one
// session at first use and refused to every other, since some engines look a
// Spark session up by that id alone.
//
// A close is recorded first, from then on no replica lets a request through. Then
// the open streams are cut, here at once and elsewhere within two seconds, and
// only then the engine is told to forget the Spark sessions (Manager.Run): a
// running query ends with Sconce's word for it and not with the engine's.
//
// The package knows no HTTP/2, no token format and no Redis command, and it
// starts and stops no cluster.
package sessions

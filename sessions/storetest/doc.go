// Package storetest is the conformance suite of the session registry: what every
// implementation of sessions.Store and sessions.Directory must do, and a real
// Redis to do it on; also free ports and Stalls, for tests with servers of all kinds.
//
//	storetest.Run(t, func(t *testing.T) storetest.Registry { return myStore(t) })
//
// It looks through the interfaces only: keys, scripts and expiry are tested
// where they are.
package storetest

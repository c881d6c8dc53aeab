// Package control serves sconce.v1.SessionService, KeyService and ClusterService, the
// API by which people and programs make sessions, get tokens and API keys, and see the
// clusters:
//
//	call ──> credentials ──> auth.Principals (control tokens, trusted issuers)
//	                    └──> sessions.Manager (API keys)
//	     ──> convert ──> sessions.Manager ──> convert ──> answer
//	                          └ error ──> proxy.RefuseControl ──> status
//
// JSON is the same by plain HTTP. The package decides nothing about sessions and
// writes no text of its own for callers: who may do what is the Manager's, the
// words are package proxy's. It owns no listener and no health service; package
// proxy's Own has both.
package control

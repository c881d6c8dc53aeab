// Package sconcev1 is the generated Go of Sconce's control API. Clients dial the
// port and call it:
//
//	api := sconcev1.NewSessionServiceClient(conn)
//	made, err := api.CreateSession(ctx, &sconcev1.CreateSessionRequest{Name: "notebook"})
//
// It decides nothing; package control serves it.
package sconcev1

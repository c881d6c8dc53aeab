// Package rest is the generated JSON face of sconce.v1, apart from the messages so
// that clients of the gRPC API take in nothing of it:
//
//	rest.yaml       which call has which path    openapi.yaml  title, credentials
//	*.pb.gw.go      JSON to calls and back       openapi.json  the same for people and tools
//
// Package control serves it. It checks no credential and words no refusal.
package rest

import _ "embed" // for openapi.json

// OpenAPI describes the paths, in OpenAPI 2.0.
//
//go:embed openapi.json
var OpenAPI []byte

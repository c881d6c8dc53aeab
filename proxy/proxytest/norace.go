//go:build !race

package proxytest

// Raced says that the tests run under the race detector.
const Raced = false

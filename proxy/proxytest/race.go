//go:build race

package proxytest

// Raced says that the tests run under the race detector, where neither how much memory is
// taken nor how much is done in a while says anything.
const Raced = true

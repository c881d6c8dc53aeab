//go:build race

package main

// raced says that the tests run under the race detector, where neither how much memory is
// taken nor how much is done in a while says anything.
const raced = true

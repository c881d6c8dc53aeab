//go:build race

package proxy_test

// raced says that the tests run under the race detector, where nothing is judged by how
// much of it is done in a while.
const raced = true

// Package wake times how long the first row takes: of a new session, and of one
// that is idle. The engines are real ones, which Sconce starts.
package wake

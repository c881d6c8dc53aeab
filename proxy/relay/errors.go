package relay

import (
	"errors"
	"fmt"

	"golang.org/x/net/http2"
)

// Side says which peer an error concerns.
type Side uint8

const (
	// ClientSide is a connection that a client opened.
	ClientSide Side = iota
	// BackendSide is a connection to a backend.
	BackendSide
)

func (s Side) String() string {
	if s == BackendSide {
		return "backend"
	}
	return "client"
}

// ConnectionError ends a whole connection (RFC 9113 section 5.4.1).
type ConnectionError struct {
	Side   Side
	Code   http2.ErrCode
	Reason string
}

func (e *ConnectionError) Error() string {
	return fmt.Sprintf("relay: %s connection: %s: %s", e.Side, e.Code, e.Reason)
}

// StreamError ends one stream (RFC 9113 section 5.4.2).
type StreamError struct {
	Side   Side
	ID     uint32
	Code   http2.ErrCode
	Reason string
}

func (e *StreamError) Error() string {
	return fmt.Sprintf("relay: %s stream %d: %s: %s", e.Side, e.ID, e.Code, e.Reason)
}

var (
	// ErrClosed: the server or backend was closed.
	ErrClosed = errors.New("relay: closed")
	// ErrLost: the connection to the other side is gone.
	ErrLost = errors.New("relay: connection lost")
	// ErrSilent: the peer did not answer a ping.
	ErrSilent = errors.New("relay: no answer to a ping")
	// ErrNoPreface: the connection's first bytes came too late or were not HTTP/2.
	ErrNoPreface = errors.New("relay: no HTTP/2 preface")
	// ErrGoAway: the backend refused the stream while it went away.
	ErrGoAway = errors.New("relay: the backend refused the stream unprocessed")
	// ErrMessageTooLong: a message is longer than Limits.MaxMessage.
	ErrMessageTooLong = errors.New("relay: message too long")
)

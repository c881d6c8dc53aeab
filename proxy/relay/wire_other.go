//go:build !linux

package relay

import (
	"net"
	"syscall"
)

// newSocketWire: elsewhere than on Linux a TCP connection is carried like any
// other net.Conn.
func newSocketWire(*net.TCPConn) wire { return nil }

func waitWritable(raw syscall.RawConn) error {
	tried := false
	return raw.Write(func(uintptr) bool {
		was := tried
		tried = true
		return was
	})
}

//go:build unix

package proxy

import (
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// sniffTCP looks at the bytes in the socket's receive buffer and leaves them
// there. When they decide nothing it waits for more.
func sniffTCP(conn *net.TCPConn) (tongue, net.Conn, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return undecided, conn, err
	}
	var t tongue
	var peekErr error
	err = raw.Read(func(fd uintptr) bool {
		t, peekErr = peek(int(fd))
		return t != undecided || peekErr != nil
	})
	if err == nil {
		err = peekErr
	}
	return t, conn, err
}

func peek(fd int) (tongue, error) {
	var first [8]byte
	for {
		n, _, err := unix.Recvfrom(fd, first[:], unix.MSG_PEEK)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return undecided, nil
		case err != nil:
			return undecided, err
		case n == 0:
			return undecided, io.EOF
		}
		return classify(first[:n]), nil
	}
}

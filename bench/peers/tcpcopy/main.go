// Command tcpcopy is the floor of the benchmark: a Go program that copies bytes
// between two TCP connections with 256 KiB buffers and looks at nothing. No Go
// relay in user space can do with less. With a certificate it ends TLS first.
//
//	tcpcopy -listen 127.0.0.1:9001 -to 127.0.0.1:9000
//	tcpcopy -listen 127.0.0.1:9001 -to 127.0.0.1:9000 -cert c.pem -key k.pem
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
)

const bufferSize = 256 << 10

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on")
	to := flag.String("to", "", "address to copy to")
	cert := flag.String("cert", "", "certificate file; with it, clients speak TLS")
	key := flag.String("key", "", "key file of the certificate")
	flag.Parse()
	fmt.Fprintln(os.Stderr, "tcpcopy:", serve(*listen, *to, *cert, *key))
	os.Exit(1)
}

// serve accepts until that fails, and returns why.
func serve(listen, to, cert, key string) error {
	ln, err := net.Listen("tcp", listen) //nolint:noctx // it runs until it is killed
	if err != nil {
		return err
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return fmt.Errorf("certificate: %w", err)
		}
		ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}})
	}
	for {
		client, err := ln.Accept()
		if err != nil {
			return err
		}
		go relay(client, to)
	}
}

// relay copies both ways until either way ends.
func relay(client net.Conn, to string) {
	defer client.Close()
	server, err := net.Dial("tcp", to) //nolint:noctx // it runs until it is killed
	if err != nil {
		fmt.Fprintln(os.Stderr, "tcpcopy:", err)
		return
	}
	defer server.Close()
	done := make(chan struct{}, 2)
	go copyTo(server, client, done)
	go copyTo(client, server, done)
	<-done
}

// copyTo hides the connections' own copying methods, which would splice within
// the kernel: no relay that looks at its bytes can do that.
func copyTo(dst, src net.Conn, done chan<- struct{}) {
	// A lost connection is how every copy ends.
	_, _ = io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, bufferSize))
	done <- struct{}{}
}

// Command grpcraw is a pass-through proxy as one writes it with grpc-go: an
// unknown-service handler on each side of a codec that hands buffers on as they
// are. It holds each message whole. It checks nothing and looks at nothing.
//
//	grpcraw -listen 127.0.0.1:9001 -to 127.0.0.1:9000
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
)

const (
	streamWindow = 1 << 20
	connWindow   = 16 << 20
	maxHeaders   = 1 << 20
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on")
	to := flag.String("to", "", "address to pass calls to")
	cert := flag.String("cert", "", "certificate file; with it, clients speak TLS")
	key := flag.String("key", "", "key file of the certificate")
	flag.Parse()
	if err := serve(*listen, *to, *cert, *key); err != nil {
		fmt.Fprintln(os.Stderr, "grpcraw:", err)
		os.Exit(1)
	}
}

func serve(listen, to, cert, key string) error {
	ln, err := net.Listen("tcp", listen) //nolint:noctx // it runs until it is killed
	if err != nil {
		return err
	}
	front := insecure.NewCredentials()
	if cert != "" {
		if front, err = credentials.NewServerTLSFromFile(cert, key); err != nil {
			return fmt.Errorf("certificate: %w", err)
		}
	}
	back, err := dial(to)
	if err != nil {
		return err
	}
	defer back.Close()
	return grpc.NewServer(
		grpc.Creds(front),
		grpc.ForceServerCodecV2(raw{}),
		grpc.UnknownServiceHandler(proxy{back}.handle),
		grpc.InitialWindowSize(streamWindow),
		grpc.InitialConnWindowSize(connWindow),
		grpc.MaxRecvMsgSize(math.MaxInt32),
		grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.MaxHeaderListSize(maxHeaders),
	).Serve(ln)
}

func dial(to string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+to,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialWindowSize(streamWindow),
		grpc.WithInitialConnWindowSize(connWindow),
		grpc.WithDisableRetry(),
		grpc.WithMaxHeaderListSize(maxHeaders),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodecV2(raw{}),
			grpc.MaxCallRecvMsgSize(math.MaxInt32),
			grpc.MaxCallSendMsgSize(math.MaxInt32)))
}

// raw is a codec that neither makes nor reads messages.
type raw struct{}

var _ encoding.CodecV2 = raw{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	b := *v.(*mem.BufferSlice)
	b.Ref()
	return b, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	data.Ref()
	*v.(*mem.BufferSlice) = data
	return nil
}

// proxy passes each call to one backend.
type proxy struct{ back *grpc.ClientConn }

func (p proxy) handle(_ any, in grpc.ServerStream) error {
	ctx, cancel := context.WithCancel(in.Context())
	defer cancel()
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		ctx = metadata.NewOutgoingContext(ctx, md.Copy())
	}
	method, _ := grpc.MethodFromServerStream(in)
	desc := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	out, err := p.back.NewStream(ctx, desc, method)
	if err != nil {
		return err
	}
	go func() {
		if err := up(in, out); err != nil {
			cancel()
		}
	}()
	return down(in, out)
}

// up passes the client's messages to the backend.
func up(in grpc.ServerStream, out grpc.ClientStream) error {
	for {
		var m mem.BufferSlice
		err := in.RecvMsg(&m)
		if errors.Is(err, io.EOF) {
			return out.CloseSend()
		}
		if err != nil {
			return err
		}
		err = out.SendMsg(&m)
		m.Free()
		if errors.Is(err, io.EOF) {
			return nil // the backend answered already; down has its status
		}
		if err != nil {
			return err
		}
	}
}

// down passes the backend's answer to the client.
func down(in grpc.ServerStream, out grpc.ClientStream) error {
	head, err := out.Header()
	if err == nil {
		err = in.SendHeader(head)
	}
	for err == nil {
		var m mem.BufferSlice
		if err = out.RecvMsg(&m); err != nil {
			break
		}
		err = in.SendMsg(&m)
		m.Free()
	}
	in.SetTrailer(out.Trailer())
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

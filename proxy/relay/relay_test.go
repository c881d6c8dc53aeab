package relay_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/proxy/relay"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
)

// rawCodec passes messages as bytes.
type rawCodec struct{}

func (rawCodec) Name() string { return "raw" }
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}
func (rawCodec) Unmarshal(d mem.BufferSlice, v any) error {
	*v.(*[]byte) = d.Materialize()
	return nil
}

// echoServer answers each message with itself.
func echoServer(t *testing.T) string {
	t.Helper()
	ln := listen(t)
	srv := grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{}), grpc.MaxRecvMsgSize(1<<30),
		grpc.UnknownServiceHandler(func(_ any, st grpc.ServerStream) error {
			for {
				var m []byte
				if err := st.RecvMsg(&m); err != nil {
					if err == io.EOF {
						return nil
					}
					return err
				}
				if err := st.SendMsg(&m); err != nil {
					return err
				}
			}
		}))
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(srv.Stop)
	return ln.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// forwardAll routes every stream to one backend.
type forwardAll struct{ backend *relay.Backend }

func (f forwardAll) Route(s *relay.Stream) { s.Forward(f.backend, s.Header(), nil) }

// startRelay puts a relay in front of addr.
func startRelay(t *testing.T, addr string) string {
	t.Helper()
	return serveRelay(t, addr, func(srv *relay.Server, nc net.Conn) { srv.ServeConn(nc, relay.Peer{Addr: nc.RemoteAddr()}) })
}

// serveRelay is startRelay with the beginning of each connection left to serve.
func serveRelay(t *testing.T, addr string, serve func(*relay.Server, net.Conn)) string {
	t.Helper()
	b, err := relay.NewBackend(relay.BackendConfig{Name: addr, Dial: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := relay.NewServer(relay.ServerConfig{Router: forwardAll{b}})
	if err != nil {
		t.Fatal(err)
	}
	ln := listen(t)
	var served sync.WaitGroup
	served.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			served.Go(func() { serve(srv, nc) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = srv.Shutdown(ctx)
		served.Wait()
		b.Close()
	})
	return ln.Addr().String()
}

func dial(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(1<<30)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

func TestMessagesComeBackWhole(t *testing.T) {
	cc := dial(t, startRelay(t, echoServer(t)))
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			rnd := rand.NewChaCha8([32]byte{byte(i)})
			st, err := cc.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/a.B/C")
			if err != nil {
				t.Error(err)
				return
			}
			for _, size := range []int{0, 1, 100, 5000, 16384, 70000, 1 << 20, 3 << 20} {
				m := make([]byte, size)
				_, _ = rnd.Read(m)
				var got []byte
				if err := st.SendMsg(&m); err != nil {
					t.Error(err)
					return
				}
				if err := st.RecvMsg(&got); err != nil || !bytes.Equal(m, got) {
					t.Errorf("message of %d bytes: came back with %d, %v", size, len(got), err)
					return
				}
			}
			_ = st.CloseSend()
			var end []byte
			if err := st.RecvMsg(&end); err != io.EOF {
				t.Errorf("the end: %v", err)
			}
		})
	}
	wg.Wait()
}

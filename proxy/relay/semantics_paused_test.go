package relay_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/relay"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// The same test for hours: go test ./proxy/relay -run TestPausedReaders -paused 1h -timeout 0
var pausedFor = flag.Duration("paused", time.Second, "how long TestPausedReaders goes on")

// Downloads whose readers pause, at the socket and between messages, beside
// others that don't and some that leave in the middle, over full sockets: every
// message comes as it was sent, byte for byte, and so does every request.
func TestPausedReaders(t *testing.T) {
	certs := proxytest.NewCerts(t)
	for _, tc := range []struct {
		name  string
		certs *proxytest.Certs
	}{{"plaintext", nil}, {"TLS", certs}} {
		t.Run(tc.name, func(t *testing.T) {
			seed := uint64(time.Now().UnixNano()) //nolint:gosec // any number will do
			t.Logf("seed %d", seed)
			addr := startTLSRelay(t, pausedSource(t), tc.certs)
			end := time.Now().Add(*pausedFor)
			var busy sync.WaitGroup
			for i := range uint64(4) {
				cc := pausedClient(t, addr, tc.certs, random(seed, i))
				for j := range uint64(8) {
					busy.Go(func() {
						for r := random(seed+i+1, j); time.Now().Before(end) && !t.Failed(); {
							pausedCall(t, cc, r)
						}
					})
				}
			}
			busy.Wait()
		})
	}
}

func random(a, b uint64) *rand.Rand { return rand.New(rand.NewPCG(a, b)) } //nolint:gosec // it shall repeat

// startTLSRelay is startRelay, for clients with TLS where there are certs.
func startTLSRelay(t *testing.T, addr string, certs *proxytest.Certs) string {
	t.Helper()
	if certs == nil {
		return startRelay(t, addr)
	}
	return serveRelay(t, addr, func(srv *relay.Server, nc net.Conn) {
		over := tls.Server(relay.NewRecords(nc.(*net.TCPConn)), certs.Server)
		if over.Handshake() == nil {
			srv.ServeConn(over, relay.Peer{Addr: nc.RemoteAddr(), TLS: true})
		}
	})
}

// pausedConn stops reading now and then, as a client does that is busy.
type pausedConn struct {
	net.Conn
	r *rand.Rand
}

func (c *pausedConn) Read(p []byte) (int, error) {
	switch k := c.r.IntN(40); {
	case k == 0:
		time.Sleep(time.Duration(c.r.IntN(30)) * time.Millisecond)
	case k < 5:
		p = p[:1+c.r.IntN(len(p))]
	}
	return c.Conn.Read(p)
}

func pausedClient(t *testing.T, addr string, certs *proxytest.Certs, r *rand.Rand) *grpc.ClientConn {
	t.Helper()
	dial := func(ctx context.Context, addr string) (net.Conn, error) {
		nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		return &pausedConn{Conn: nc, r: random(r.Uint64(), 0)}, nil
	}
	creds := insecure.NewCredentials()
	if certs != nil {
		creds = credentials.NewTLS(certs.Client)
	}
	cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(creds), grpc.WithContextDialer(dial),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(1<<30)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

// pausedBody is what a message of a seed holds.
func pausedBody(seed uint64, size int) []byte {
	b, r := make([]byte, 0, size+8), rand.NewPCG(seed, 7)
	for len(b) < size {
		b = binary.LittleEndian.AppendUint64(b, r.Uint64())
	}
	return b[:size]
}

// pausedSource answers the request {seed, count, filling} with count messages.
func pausedSource(t *testing.T) string {
	t.Helper()
	ln := listen(t)
	srv := grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{}), grpc.MaxRecvMsgSize(1<<30),
		grpc.UnknownServiceHandler(func(_ any, st grpc.ServerStream) error {
			var m []byte
			if err := st.RecvMsg(&m); err != nil {
				return err
			}
			seed, count := binary.LittleEndian.Uint64(m), binary.LittleEndian.Uint64(m[8:])
			if !bytes.Equal(m[16:], pausedBody(seed, len(m)-16)) {
				return status.Error(codes.DataLoss, "the request came with other bytes than were sent")
			}
			r := random(seed, 1)
			for i := range count {
				out := pausedBody(seed+i, r.IntN([]int{100, 5000, 70_000, 2 << 20}[r.IntN(4)]))
				if err := st.SendMsg(&out); err != nil {
					return err
				}
			}
			return nil
		}))
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(srv.Stop)
	return ln.Addr().String()
}

// pausedCall makes one call and checks what comes, as far as it reads.
func pausedCall(t *testing.T, cc *grpc.ClientConn, r *rand.Rand) {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	seed, count, stays := r.Uint64(), uint64(r.IntN(20)), r.IntN(6) > 0 //nolint:gosec // small
	if err := pausedRead(ctx, cc, r, seed, count, stays); err != nil {
		t.Errorf("seed %d of %d messages: %v", seed, count, err)
	}
}

func pausedRead(ctx context.Context, cc *grpc.ClientConn, r *rand.Rand, seed, count uint64, stays bool) error {
	st, err := cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/a.B/C")
	if err != nil {
		return err
	}
	m := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, seed), count)
	m = append(m, pausedBody(seed, r.IntN(200_000))...)
	if err := st.SendMsg(&m); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	_ = st.CloseSend()
	slow := r.IntN(4) == 0
	for i := range count {
		if slow && r.IntN(4) == 0 {
			time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
		}
		if !stays && r.IntN(4) == 0 {
			return nil
		}
		var got []byte
		if err := st.RecvMsg(&got); err != nil {
			return fmt.Errorf("message %d: %w", i, err)
		}
		if !bytes.Equal(got, pausedBody(seed+i, len(got))) {
			return fmt.Errorf("message %d of %d bytes came with other bytes than were sent", i, len(got))
		}
	}
	var end []byte
	if err := st.RecvMsg(&end); err != io.EOF {
		return fmt.Errorf("the end: %w", err)
	}
	return nil
}

package proxytest

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// Caller is a grpc-go client that sends and receives messages as bytes.
type Caller struct {
	Conn *grpc.ClientConn
}

// NewCaller makes a plaintext client whose connections come from dial. It is
// closed with the test. Options are added to its own and may replace them.
func NewCaller(t testing.TB, dial func(context.Context) (net.Conn, error), options ...grpc.DialOption) *Caller {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///sconce.test:8085", append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) }),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(1<<30), grpc.MaxCallSendMsgSize(1<<30)),
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(),
	}, options...)...)
	if err != nil {
		t.Fatalf("grpc client: %v", err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return &Caller{Conn: cc}
}

// With returns ctx with request metadata of key, value pairs.
func With(ctx context.Context, pairs ...string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, pairs...)
}

// Unary makes a call of one message each way.
func (c *Caller) Unary(ctx context.Context, path string, req []byte, options ...grpc.CallOption) ([]byte, error) {
	var resp []byte
	err := c.Conn.Invoke(ctx, path, &req, &resp, options...)
	return resp, err
}

// Stream is a call of many messages each way.
func (c *Caller) Stream(ctx context.Context, path string, options ...grpc.CallOption) (*CallerStream, error) {
	desc := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	s, err := c.Conn.NewStream(ctx, desc, path, options...)
	if err != nil {
		return nil, err
	}
	return &CallerStream{s}, nil
}

// Collect sends messages, ends its side and returns all that comes back. With
// an error it returns what came before it.
func (c *Caller) Collect(ctx context.Context, path string, msgs ...[]byte) ([][]byte, error) {
	s, err := c.Stream(ctx, path)
	if err != nil {
		return nil, err
	}
	for _, m := range msgs {
		if err := s.Send(m); err != nil && !errors.Is(err, io.EOF) { // EOF: Recv has the status
			return nil, err
		}
	}
	if err := s.CloseSend(); err != nil {
		return nil, err
	}
	return s.Rest()
}

// CallerStream is one call of a Caller.
type CallerStream struct {
	grpc.ClientStream
}

// Send sends one message.
func (s *CallerStream) Send(b []byte) error { return s.SendMsg(&b) }

// Recv receives one message.
func (s *CallerStream) Recv() ([]byte, error) {
	var b []byte
	err := s.RecvMsg(&b)
	return b, err
}

// Rest receives until the end, which is a nil error.
func (s *CallerStream) Rest() ([][]byte, error) {
	var all [][]byte
	for {
		b, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, b)
	}
}

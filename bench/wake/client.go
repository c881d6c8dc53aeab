package wake

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"
)

// client speaks as much Spark Connect as a query takes.
type client struct {
	*grpc.ClientConn
	token, session, spark string
}

func dial(addr, token, session string) (*client, error) {
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	b := make([]byte, 16)
	_, _ = rand.Read(b) // it never fails
	b[6], b[8] = b[6]&0xf|0x40, b[8]&0x3f|0x80
	spark := fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
	return &client{conn, token, session, spark}, err
}

// raw hands messages through.
type raw struct{}

func (raw) Name() string                    { return "proto" }
func (raw) Marshal(v any) ([]byte, error)   { return *v.(*[]byte), nil }
func (raw) Unmarshal(b []byte, v any) error { *v.(*[]byte) = append([]byte(nil), b...); return nil }

func field(b []byte, n protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
}

// query is an ExecutePlanRequest of one row: session_id, user_context, and
// plan.root.sql.query.
func (c *client) query() []byte {
	sql := field(nil, 1, []byte("SELECT 42 AS answer"))
	plan := field(nil, 1, field(nil, 10, sql))
	return field(field(field(nil, 1, []byte(c.spark)), 2, field(nil, 1, []byte("bench"))), 3, plan)
}

// firstRow runs the query and returns when its answer is there.
func (c *client) firstRow(ctx context.Context) error {
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.token, "x-session-id", c.session)
	stream, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/spark.connect.SparkConnectService/ExecutePlan", grpc.ForceCodec(raw{}))
	if err != nil {
		return err
	}
	q := c.query()
	if err := errors.Join(stream.SendMsg(&q), stream.CloseSend()); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for answers := 0; ; answers++ {
		var m []byte
		err := stream.RecvMsg(&m)
		if errors.Is(err, io.EOF) && answers > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

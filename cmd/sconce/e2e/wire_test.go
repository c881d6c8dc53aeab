package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"
)

// bytes of a protobuf message, built by hand: the attacks need bytes that no
// generated code would write. Field numbers: session_id = 1, user_context = 2 in
// every Spark Connect request.
type wire []byte

func (w wire) varint(field protowire.Number, value uint64) wire {
	w = protowire.AppendTag(w, field, protowire.VarintType)
	return protowire.AppendVarint(w, value)
}

func (w wire) text(field protowire.Number, value string) wire {
	w = protowire.AppendTag(w, field, protowire.BytesType)
	return protowire.AppendString(w, value)
}

func (w wire) message(field protowire.Number, value wire) wire {
	w = protowire.AppendTag(w, field, protowire.BytesType)
	return protowire.AppendBytes(w, value)
}

// long writes a bytes field whose tag takes one byte more than it needs.
func (w wire) long(field protowire.Number, value wire) wire {
	tag := protowire.AppendTag(nil, field, protowire.BytesType)
	w = append(w, tag[0]|0x80, 0)
	return protowire.AppendBytes(w, value)
}

func user(name string) wire { return wire(nil).text(1, name) }

// request begins any Spark Connect request.
func request(session, name string) wire {
	return wire(nil).text(1, session).message(2, user(name))
}

// query is the plan field of an ExecutePlanRequest: SQL as a relation.
func (w wire) query(sql string) wire {
	relation := wire(nil).message(10, wire(nil).text(1, sql)) // Relation.sql.query
	return w.message(3, wire(nil).message(1, relation))       // plan.root
}

// command is the plan field with SQL as a command, which runs at once.
func (w wire) command(sql string) wire {
	relation := wire(nil).message(10, wire(nil).text(1, sql))
	command := wire(nil).message(5, wire(nil).message(6, relation)) // Command.sql_command.input
	return w.message(3, wire(nil).message(2, command))              // plan.command
}

// operation names the operation and asks for a stream that can be taken up again.
func (w wire) operation(id string) wire {
	options := wire(nil).message(1, wire(nil).varint(1, 1)) // reattach_options.reattachable
	return w.text(6, id).message(5, options)
}

func newUUID() string { return uuid.NewString() }

// rawCodec hands the bytes through.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }

func (rawCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}

// caller speaks Spark Connect with messages made by hand.
type caller struct {
	conn *grpc.ClientConn
	// secret goes out as the bearer; "" = none.
	secret string
	// session goes out as x-session-id; "" = none.
	session string
}

var everyShape = &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}

// open starts a call and sends its messages; the client's side is then closed.
func (c *caller) open(ctx context.Context, method string, messages ...wire) (grpc.ClientStream, error) {
	if c.secret != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.secret)
	}
	if c.session != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "x-session-id", c.session)
	}
	stream, err := c.conn.NewStream(ctx, everyShape, "/spark.connect.SparkConnectService/"+method,
		grpc.ForceCodec(rawCodec{}), grpc.MaxCallRecvMsgSize(256<<20), grpc.MaxCallSendMsgSize(256<<20))
	if err != nil {
		return nil, err
	}
	for _, message := range messages {
		raw := []byte(message)
		// io.EOF means that the call ended; its status comes from RecvMsg.
		if err := stream.SendMsg(&raw); err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("send %s: %w", method, err)
		}
	}
	return stream, stream.CloseSend()
}

// call runs one call to its end and returns all the response messages in one.
func (c *caller) call(ctx context.Context, method string, messages ...wire) ([]byte, error) {
	stream, err := c.open(ctx, method, messages...)
	if err != nil {
		return nil, err
	}
	var all []byte
	for {
		var raw []byte
		switch err := stream.RecvMsg(&raw); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return all, err
		}
		all = append(all, raw...)
	}
}

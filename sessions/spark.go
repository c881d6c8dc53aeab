package sessions

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/sconce-dev/sconce/proto/spark/connect"
)

// sparkCaller speaks to an engine in one Spark session, as its owner.
type sparkCaller struct {
	conn  *grpc.ClientConn
	user  string
	spark SparkID
}

const sparkPath = "/spark.connect.SparkConnectService/"

// artifactChunk is how Spark's own clients cut artifacts, in bytes.
const artifactChunk = 32 << 10

// maxAnswer bounds one message of an engine's answer to a replay, in bytes.
const maxAnswer = 64 << 20

// hello makes the Spark session and returns what the engine calls it.
func (c sparkCaller) hello(ctx context.Context) (string, error) {
	answer, err := connect.NewSparkConnectServiceClient(c.conn).Config(ctx, &connect.ConfigRequest{
		SessionId: string(c.spark), UserContext: &connect.UserContext{UserId: c.user},
		Operation: &connect.ConfigRequest_Operation{OpType: &connect.ConfigRequest_Operation_GetOption{
			GetOption: &connect.ConfigRequest_GetOption{},
		}},
	})
	return answer.GetServerSideSessionId(), err
}

// clone makes a clone of the Spark session under another id.
func (c sparkCaller) clone(ctx context.Context, to SparkID) error {
	id := string(to)
	_, err := connect.NewSparkConnectServiceClient(c.conn).CloneSession(ctx, &connect.CloneSessionRequest{
		SessionId: string(c.spark), UserContext: &connect.UserContext{UserId: c.user}, NewSessionId: &id,
	})
	return err
}

// release ends the Spark session. One that is not released ends by the engine's timeout.
func (c sparkCaller) release(ctx context.Context) {
	_, _ = connect.NewSparkConnectServiceClient(c.conn).ReleaseSession(ctx, &connect.ReleaseSessionRequest{
		SessionId: string(c.spark), UserContext: &connect.UserContext{UserId: c.user},
	})
}

// dropView drops a temporary view, and nothing else of that name.
func (c sparkCaller) dropView(ctx context.Context, name string) error {
	if view, ok := strings.CutPrefix(name, globalViews); ok {
		return c.relation(ctx, &connect.Catalog{CatType: &connect.Catalog_DropGlobalTempView{
			DropGlobalTempView: &connect.DropGlobalTempView{ViewName: view},
		}})
	}
	return c.relation(ctx, &connect.Catalog{CatType: &connect.Catalog_DropTempView{
		DropTempView: &connect.DropTempView{ViewName: name},
	}})
}

// globalViews begins the name of a global temporary view, in Entry.Makes and Drops.
const globalViews = "global_temp."

// relation executes an operation of the catalog.
func (c sparkCaller) relation(ctx context.Context, cat *connect.Catalog) error {
	message, err := proto.Marshal(&connect.ExecutePlanRequest{
		SessionId: string(c.spark),
		Plan: &connect.Plan{OpType: &connect.Plan_Root{Root: &connect.Relation{
			RelType: &connect.Relation_Catalog{Catalog: cat},
		}}},
	})
	if err != nil {
		return fmt.Errorf("encode plan: %w", err)
	}
	return c.execute(ctx, message)
}

// Fields of ExecutePlanRequest and ConfigRequest that belong to the call that a
// client once made, and not to what it asked for.
const (
	fieldSession        = 1
	fieldUserContext    = 2
	fieldRequestOptions = 5
	fieldOperationID    = 6
	fieldObserved       = 8
)

// execute sends an ExecutePlanRequest once more, by its bytes, as an operation of
// its own that nobody reattaches to.
func (c sparkCaller) execute(ctx context.Context, message []byte) error {
	message, err := withoutFields(message, fieldSession, fieldRequestOptions, fieldOperationID, fieldObserved)
	if err != nil {
		return err
	}
	message = protowire.AppendTag(message, fieldOperationID, protowire.BytesType)
	message = protowire.AppendString(message, uuid.NewString())
	stream, err := c.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, sparkPath+"ExecutePlan", grpc.ForceCodec(rawCodec{}),
		grpc.MaxCallRecvMsgSize(maxAnswer))
	if err != nil {
		return err
	}
	if err := stream.SendMsg(c.stamped(message)); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for {
		var answer []byte
		if err := stream.RecvMsg(&answer); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// config sends a ConfigRequest once more.
func (c sparkCaller) config(ctx context.Context, message []byte) error {
	message, err := withoutFields(message, fieldSession, fieldObserved)
	if err != nil {
		return err
	}
	var answer []byte
	return c.conn.Invoke(ctx, sparkPath+"Config", c.stamped(message), &answer, grpc.ForceCodec(rawCodec{}))
}

// stamped names the Spark session, which for a clone's acts was the one that it is a
// clone of, and the owner, as the data path does: the last one wins.
func (c sparkCaller) stamped(message []byte) []byte {
	message = protowire.AppendString(protowire.AppendTag(message, fieldSession, protowire.BytesType), string(c.spark))
	inner := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), c.user)
	return protowire.AppendBytes(protowire.AppendTag(message, fieldUserContext, protowire.BytesType), inner)
}

// withoutFields copies a message less some of its fields.
func withoutFields(message []byte, fields ...protowire.Number) ([]byte, error) {
	out := make([]byte, 0, len(message)+128)
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return nil, errEntry
		}
		size := protowire.ConsumeFieldValue(number, kind, message[n:])
		if size < 0 {
			return nil, errEntry
		}
		if !slices.Contains(fields, number) {
			out = append(out, message[:n+size]...)
		}
		message = message[n+size:]
	}
	return out, nil
}

// addArtifacts uploads artifacts once more.
func (c sparkCaller) addArtifacts(ctx context.Context, list []Artifact, data func(Artifact) ([]byte, error)) error {
	stream, err := connect.NewSparkConnectServiceClient(c.conn).AddArtifacts(ctx)
	if err != nil {
		return err
	}
	for _, a := range list {
		content, err := data(a)
		if err != nil {
			return err
		}
		if err := c.sendArtifact(stream, a.Name, content); err != nil {
			return err
		}
	}
	answer, err := stream.CloseAndRecv()
	if err != nil {
		return err
	}
	for _, a := range answer.GetArtifacts() {
		if !a.GetIsCrcSuccessful() {
			return fmt.Errorf("the engine found artifact %q damaged", a.GetName())
		}
	}
	return nil
}

func (c sparkCaller) sendArtifact(stream connect.SparkConnectService_AddArtifactsClient, name string, content []byte) error {
	request := func() *connect.AddArtifactsRequest {
		return &connect.AddArtifactsRequest{SessionId: string(c.spark), UserContext: &connect.UserContext{UserId: c.user}}
	}
	chunk := func(i int) *connect.AddArtifactsRequest_ArtifactChunk {
		part := content[min(len(content), i*artifactChunk):min(len(content), (i+1)*artifactChunk)]
		return &connect.AddArtifactsRequest_ArtifactChunk{Data: part, Crc: int64(crc32.ChecksumIEEE(part))}
	}
	if len(content) <= artifactChunk {
		r := request()
		r.Payload = &connect.AddArtifactsRequest_Batch_{Batch: &connect.AddArtifactsRequest_Batch{
			Artifacts: []*connect.AddArtifactsRequest_SingleChunkArtifact{{Name: name, Data: chunk(0)}},
		}}
		return sent(stream.Send(r))
	}
	chunks := (len(content) + artifactChunk - 1) / artifactChunk
	for i := range chunks {
		r := request()
		r.Payload = &connect.AddArtifactsRequest_Chunk{Chunk: chunk(i)}
		if i == 0 {
			r.Payload = &connect.AddArtifactsRequest_BeginChunk{BeginChunk: &connect.AddArtifactsRequest_BeginChunkedArtifact{
				Name: name, TotalBytes: int64(len(content)), NumChunks: int64(chunks), InitialChunk: chunk(0),
			}}
		}
		if err := sent(stream.Send(r)); err != nil {
			return err
		}
	}
	return nil
}

// sent leaves it to the end of the stream to say why the engine hears no more.
func sent(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// rawCodec passes messages that are bytes already.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("raw codec: %T is no bytes", v)
	}
	return b, nil
}

func (rawCodec) Unmarshal(data []byte, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("raw codec: %T is no bytes", v)
	}
	*b = append([]byte(nil), data...)
	return nil
}

func (rawCodec) Name() string { return "proto" }

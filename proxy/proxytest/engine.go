package proxytest

import (
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// serverSide is the server_side_session_id of the fake server.
const serverSide = "5e44e44e-0000-4000-8000-000000000001"

// operation is a reattachable execution: its responses are kept until released.
type operation struct {
	responses [][]byte
	ids       []string
}

// answer is what a fake server does without a script.
func (s *Spark) answer(x *Exchange) error {
	req, err := x.Recv()
	if err != nil {
		return status.Error(codes.Internal, "no request message")
	}
	session := Field(req, fieldSessionID)
	if session == "" {
		return status.Error(codes.InvalidArgument, "no session_id")
	}
	switch x.Method {
	case "ExecutePlan":
		return s.execute(x, req, session)
	case "ReattachExecute":
		return s.replay(x, Field(req, 3), Field(req, 5))
	case "ReleaseExecute":
		s.release(Field(req, 3))
		return x.Send(Join(Text(1, session), Text(2, Field(req, 3)), Text(3, serverSide)))
	case "AnalyzePlan":
		return x.Send(Join(Text(1, session), Bytes(8, Text(1, "4.3.0")), Text(15, serverSide)))
	case "Config":
		return x.Send(Join(Text(1, session), Bytes(2, Join(Text(1, "k"), Text(2, "v"))), Text(4, serverSide)))
	case "AddArtifacts", "ArtifactStatus":
		x.Drain()
		return x.Send(Join(Text(2, session), Text(3, serverSide)))
	case "Interrupt":
		return x.Send(Join(Text(1, session), Text(3, serverSide)))
	case "FetchErrorDetails":
		return x.Send(Join(Text(3, serverSide), Text(4, session)))
	case "CloneSession":
		return x.Send(Join(Text(1, session), Text(2, serverSide), Text(3, Field(req, 4)), Text(4, serverSide)))
	case "ReleaseSession", "GetStatus":
		return x.Send(Join(Text(1, session), Text(2, serverSide)))
	}
	return status.Errorf(codes.Unimplemented, "unknown method %s", x.Path)
}

// execute answers a plan with Rows batches, and keeps them for ReattachExecute.
func (s *Spark) execute(x *Exchange, req []byte, session string) error {
	id := Field(req, 6)
	if id == "" {
		id = fmt.Sprintf("00000000-0000-4000-8000-%012d", len(s.Recorded("")))
	}
	op := &operation{}
	for i := range s.cfg.Rows + 1 {
		rid := fmt.Sprintf("%s/%d", id, i)
		body := Bytes(14, nil)
		if i < s.cfg.Rows {
			body = Bytes(2, Join(Varint(1, 1), Bytes(2, Pattern(i, s.cfg.BatchBytes)), Varint(3, uint64(i)))) //nolint:gosec // small
		}
		op.ids = append(op.ids, rid)
		op.responses = append(op.responses, Join(Text(1, session), body, Text(12, id), Text(13, rid), Text(15, serverSide)))
	}
	s.mu.Lock()
	s.operations[id] = op
	s.mu.Unlock()
	return send(x, op.responses)
}

// replay sends what came after the response that the client saw last.
func (s *Spark) replay(x *Exchange, id, last string) error {
	s.mu.Lock()
	op := s.operations[id]
	s.mu.Unlock()
	if op == nil {
		return NotFound(id).Err()
	}
	for i, rid := range op.ids {
		if rid == last {
			return send(x, op.responses[i+1:])
		}
	}
	return send(x, op.responses)
}

func (s *Spark) release(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.operations, id)
}

func send(x *Exchange, msgs [][]byte) error {
	for _, m := range msgs {
		if err := x.Send(m); err != nil {
			return err
		}
	}
	return nil
}

// NotFound is Spark's answer for an operation that it does not know.
func NotFound(operation string) *status.Status {
	st := status.New(codes.Internal, "[INVALID_HANDLE.OPERATION_NOT_FOUND] The handle "+operation+" is invalid. Operation not found.")
	with, err := st.WithDetails(&errdetails.ErrorInfo{
		Reason: "org.apache.spark.SparkSQLException", Domain: "org.apache.spark",
		Metadata: map[string]string{"classes": `["org.apache.spark.SparkSQLException"]`, "errorClass": "INVALID_HANDLE.OPERATION_NOT_FOUND"},
	})
	if err != nil {
		return st
	}
	return with
}

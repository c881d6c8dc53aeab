package control

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/sconce-dev/sconce/proxy"
)

// codec is the JSON of protobuf: lowerCamelCase going out, and fields that have
// their zero value too; coming in, either spelling, and nothing that is not known.
type codec struct{}

var errNoMessage = errors.New("control: JSON of what is no message")

// Marshal implements runtime.Marshaler. The line end is for terminals.
func (codec) Marshal(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, errNoMessage
	}
	b, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	return append(b, '\n'), err
}

// Unmarshal implements runtime.Marshaler.
func (codec) Unmarshal(data []byte, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return errNoMessage
	}
	return protojson.UnmarshalOptions{RecursionLimit: maxDepth}.Unmarshal(data, m)
}

// maxDepth is how deep a message may be nested.
const maxDepth = 32

// NewDecoder implements runtime.Marshaler. A body is one message and nothing else.
func (c codec) NewDecoder(r io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(v any) error {
		data, err := io.ReadAll(r)
		if err != nil || len(data) == 0 {
			return err // without a body, the message is empty
		}
		return c.Unmarshal(data, v)
	})
}

// NewEncoder implements runtime.Marshaler.
func (c codec) NewEncoder(w io.Writer) runtime.Encoder {
	return runtime.EncoderFunc(func(v any) error {
		data, err := c.Marshal(v)
		if err == nil {
			_, err = w.Write(data)
		}
		return err
	})
}

// ContentType implements runtime.Marshaler.
func (codec) ContentType(any) string { return "application/json" }

// answerError is how grpc-gateway says that a call failed: by an error of the
// Service, or because JSON and message do not fit.
func (j *JSON) answerError(ctx context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	st := status.Convert(err)
	if reasonOf(st) == "" {
		st = unfit(st, r).Status()
	}
	if md, ok := runtime.ServerMetadataFromContext(ctx); ok {
		for _, id := range md.HeaderMD.Get(requestIDHeader) {
			w.Header().Set(requestIDHeader, id)
		}
	}
	j.answer(w, st)
}

// unfit words what grpc-gateway found wrong.
func unfit(st *status.Status, r *http.Request) proxy.Refusal {
	part := "the body"
	if r.Method == http.MethodGet {
		part = "the query"
	}
	if st.Code() != codes.InvalidArgument {
		return proxy.RefuseJSON(part, "it cannot be read")
	}
	// The library writes its name with a space that differs from build to build.
	problem := strings.TrimLeft(strings.TrimPrefix(st.Message(), "proto:"), " \u00a0")
	return proxy.RefuseJSON(part, problem)
}

// answerNoRoute is for paths that routes and grpc-gateway see differently.
func (j *JSON) answerNoRoute(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, _ int) {
	j.refuse(w, proxy.RefusePath(r.URL.Path))
}

func (j *JSON) refuse(w http.ResponseWriter, row proxy.Refusal) { j.answer(w, row.Status()) }

// answer writes a status as JSON.
func (j *JSON) answer(w http.ResponseWriter, st *status.Status) {
	h := w.Header()
	code, known := j.statuses[reasonOf(st)]
	if !known {
		code = runtime.HTTPStatusFromCode(st.Code())
	}
	if code == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="sconce"`)
	}
	if wait := retryAfter(st); wait > 0 {
		h.Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
	}
	body, err := codec{}.Marshal(st.Proto())
	if err != nil { // only a detail that is not known here
		code, body = http.StatusInternalServerError, []byte("{}\n")
	}
	writeJSON(w, code, body)
}

// reasonOf is the reason of a refusal of ours; "" = it is none.
func reasonOf(st *status.Status) string {
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

func retryAfter(st *status.Status) time.Duration {
	for _, d := range st.Details() {
		if retry, ok := d.(*errdetails.RetryInfo); ok {
			return retry.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

package control

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/metadata"

	"github.com/sconce-dev/sconce/proto/sconce/v1/rest"
	"github.com/sconce-dev/sconce/proxy"
)

const (
	// maxBody bounds the body of a JSON call, in bytes; no call needs a tenth of it.
	maxBody = 64 << 10
	// bodyTime is how long a body may take to come, answerTime how long an answer
	// may take to be read.
	bodyTime   = 10 * time.Second
	answerTime = 30 * time.Second
)

// JSON is the API over plain HTTP, with its description at /openapi.json. It calls
// the Service in the same process, so that credentials, policy and audit are the
// same.
//
//	request ──> routes: path, verb, query ──> body ──> package rest: JSON to message
//	        ──> Service ──> message to JSON ──> answer
//	              └ error ──> google.rpc.Status in JSON, HTTP status of its row
type JSON struct {
	routes routes
	calls  *runtime.ServeMux
	// statuses is the HTTP status of each refusal, by reason.
	statuses map[string]int
}

// NewJSON makes the handler of a service. It fails where the generated parts do
// not fit each other.
func NewJSON(s *Service) (*JSON, error) {
	known, err := readRoutes(rest.OpenAPI)
	if err != nil {
		return nil, err
	}
	j := &JSON{routes: known, statuses: map[string]int{}}
	for _, r := range proxy.Refusals() {
		j.statuses[r.Reason] = r.HTTP
	}
	j.calls = runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, codec{}),
		// A slash that is written %2F is no part of the path.
		runtime.WithUnescapingMode(runtime.UnescapingModeAllExceptSlash),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithWriteContentLength(),
		runtime.WithIncomingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithMetadata(callMetadata),
		runtime.WithOutgoingHeaderMatcher(func(name string) (string, bool) { return name, name == requestIDHeader }),
		runtime.WithOutgoingTrailerMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithErrorHandler(j.answerError),
		runtime.WithRoutingErrorHandler(j.answerNoRoute),
	)
	return j, j.register(s)
}

// register has the calls of those services that are served.
func (j *JSON) register(s *Service) error {
	ctx := context.Background()
	err := rest.RegisterSessionServiceHandlerServer(ctx, j.calls, s)
	if err == nil && s.Keys != nil {
		err = rest.RegisterKeyServiceHandlerServer(ctx, j.calls, s)
	}
	if err == nil && s.Clusters != nil {
		err = rest.RegisterClusterServiceHandlerServer(ctx, j.calls, s)
	}
	return err
}

// callMetadata is what the Service is told of a request: what gRPC callers send in
// the same fields, and nothing else.
func callMetadata(_ context.Context, r *http.Request) metadata.MD {
	md := metadata.MD{}
	for _, name := range []string{"authorization", proxy.PeerHeader} {
		md.Append(name, r.Header.Values(name)...)
	}
	return md
}

// ServeHTTP implements http.Handler.
func (j *JSON) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store") // answers hold tokens
	h.Set("X-Content-Type-Options", "nosniff")
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTime))
	answer := &answerWriter{ResponseWriter: w, control: control}
	defer answer.end()

	if refusal := j.prepare(w, r); refusal != nil {
		j.refuse(answer, *refusal)
		return
	}
	_ = control.SetReadDeadline(time.Time{})
	if r.URL.Path == openAPIPath {
		writeJSON(answer, http.StatusOK, rest.OpenAPI)
		return
	}
	j.calls.ServeHTTP(answer, r)
}

// prepare checks all of a request that does not depend on who sends it, and that it
// has a credential, and reads its body.
func (j *JSON) prepare(w http.ResponseWriter, r *http.Request) *proxy.Refusal {
	route, refusal := j.routes.find(r)
	if refusal != nil {
		if refusal.HTTP == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", strings.Join(j.routes.verbs(r), ", "))
		}
		return refusal
	}
	if refusal := route.checkQuery(r.URL.RawQuery); refusal != nil {
		return refusal
	}
	if refusal := proxy.RefuseCredential(r.Header.Values("authorization"), nil); refusal != nil && r.URL.Path != openAPIPath {
		w.Header().Set(requestIDHeader, uuid.NewString())
		return refusal // before anything is held of the body
	}
	body, refusal := readBody(w, r)
	if refusal != nil {
		return refusal
	}
	if problem := route.checkBody(body); problem != "" {
		row := proxy.RefuseJSON("the body", problem)
		return &row
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	// Of no use here, and grpc-gateway has ideas of its own about them.
	r.Header.Del("Te")
	r.Header.Del("Grpc-Timeout")
	return nil
}

// readBody reads a body whole; "" where there is none.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, *proxy.Refusal) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	var row proxy.Refusal
	switch problem := notJSON(r.Header); {
	case errors.As(err, &large):
		row = proxy.RefuseBodySize(maxBody)
	case errors.Is(err, os.ErrDeadlineExceeded):
		row = proxy.RefuseBodySlow(bodyTime)
	case err != nil:
		row = proxy.RefuseJSON("the body", "it broke off")
	case len(body) > 0 && problem != "":
		row = proxy.RefuseNotJSON(problem)
	default:
		return body, nil
	}
	return nil, &row
}

// notJSON says what else a body claims to be; "" = JSON.
func notJSON(h http.Header) string {
	if coding := h.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return "its content-encoding is " + coding
	}
	types := h.Values("Content-Type")
	if len(types) != 1 {
		return "its content-type is not given once"
	}
	kind, parameters, err := mime.ParseMediaType(types[0])
	charset, has := parameters["charset"]
	if err != nil || kind != "application/json" || has && !strings.EqualFold(charset, "utf-8") {
		return "its content-type is " + types[0]
	}
	return ""
}

// writeJSON writes an answer whole.
func writeJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) //nolint:gosec // it is JSON, and nobody may take it for a page: nosniff
}

// answerWriter bounds how long an answer may take, from its first byte on.
type answerWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	begun   bool
}

func (a *answerWriter) begin() {
	if !a.begun {
		a.begun = true
		_ = a.control.SetWriteDeadline(time.Now().Add(answerTime))
	}
}

func (a *answerWriter) WriteHeader(status int) { a.begin(); a.ResponseWriter.WriteHeader(status) }

func (a *answerWriter) Write(p []byte) (int, error) { a.begin(); return a.ResponseWriter.Write(p) }

// end takes the bound back, since the connection may go on.
func (a *answerWriter) end() {
	if a.begun {
		_ = a.control.Flush()
		_ = a.control.SetWriteDeadline(time.Time{})
	}
}

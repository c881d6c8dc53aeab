package proxy

import (
	"encoding/base64"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sconce-dev/sconce/proxy/relay"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	// maxReplyBytes bounds a refusal as HPACK counts it: names, values and 32
	// bytes a field. The JVM client takes 8 KiB of response headers and answers
	// more with an error that hides ours.
	maxReplyBytes = 4 << 10
	// maxPart bounds one part of a sentence that comes from outside.
	maxPart = 100
	// maxLong bounds a list that withLong puts in; it may be percent-encoded, and
	// stands in the details once more.
	maxLong = 600
	// errorDomain is google.rpc.ErrorInfo.domain.
	errorDomain = "sconce"
	// errorClasses names the exception that JVM clients and PySpark raise. Both
	// take the first entry of this list, and the JVM client fails without one,
	// losing the message.
	errorClasses = `["org.apache.spark.SparkException"]`
)

// row completes a row of the table: replies that carry nothing variable are
// built here, once.
func row(r Refusal) Refusal {
	if !strings.Contains(r.Message, "{") {
		r.grpc, r.plain = r.buildGRPC(), r.buildPlain()
	}
	return r
}

// With returns r with each {name} of its message replaced: With("session", id,
// "age", "3m"). Values may come from outside; they are made printable and cut.
func (r Refusal) With(pairs ...string) Refusal {
	clean := make([]string, len(pairs))
	for i := 0; i+1 < len(pairs); i += 2 {
		clean[i], clean[i+1] = "{"+pairs[i]+"}", printable(pairs[i+1])
	}
	r.Message = strings.NewReplacer(clean...).Replace(r.Message)
	r.grpc, r.plain = nil, nil
	return r
}

// maxLog bounds the part of an engine's log that a refusal shows.
const maxLog = 800

// WithLog returns r with {log} replaced by the last lines that an engine wrote.
func (r Refusal) WithLog(log string) Refusal {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	text := ""
	for i := len(lines) - 1; i >= 0; i-- {
		line := "\n  " + printable(lines[i])
		if len(line)+len(text) > maxLog {
			break
		}
		text = line + text
	}
	if strings.TrimSpace(log) != "" {
		text = "; its engine said:" + text
	} else {
		text = ""
	}
	r.Message = strings.ReplaceAll(r.Message, "{log}", text)
	r.grpc, r.plain = nil, nil
	return r
}

// withLong is With for one list that may take up to maxLong bytes.
func (r Refusal) withLong(name, value string) Refusal {
	r.Message = strings.Replace(r.Message, "{"+name+"}", printableTo(strings.ReplaceAll(value, "`", "'"), maxLong), 1)
	r.grpc, r.plain = nil, nil
	return r
}

// over returns r for a request that is past the limit of that name.
func (r Refusal) over(limit string, wait time.Duration) Refusal {
	r = r.With("limit", limit)
	r.Limit, r.RetryAfter = limit, wait
	return r
}

// Reply is the refusal as gRPC: one header block that ends the stream.
func (r Refusal) Reply() *relay.Reply {
	if r.grpc != nil {
		return r.grpc
	}
	return r.buildGRPC()
}

// PlainReply is the refusal for a request that is not gRPC. It names the gRPC
// status too, for a gRPC client behind something that lost its content-type.
func (r Refusal) PlainReply() *relay.Reply {
	if r.plain != nil {
		return r.plain
	}
	return r.buildPlain()
}

// Status is the refusal for a handler on grpc-go.
func (r Refusal) Status() *status.Status {
	st, err := status.New(r.Code, r.Message).WithDetails(r.details()...)
	if err != nil { // only a detail that is not a message
		return status.New(r.Code, r.Message)
	}
	return st
}

func (r Refusal) buildGRPC() *relay.Reply {
	wire := r.Wire
	if wire == 0 {
		wire = 200
	}
	reply := &relay.Reply{
		Status: strconv.Itoa(wire),
		Header: []hpack.HeaderField{{Name: "content-type", Value: "application/grpc"}},
		Trailer: []hpack.HeaderField{
			{Name: "grpc-status", Value: strconv.Itoa(int(r.Code))},
			{Name: "grpc-message", Value: percentEncode(r.Message)},
		},
	}
	if r.Accept != "" {
		reply.Header = append(reply.Header, hpack.HeaderField{Name: "grpc-accept-encoding", Value: r.Accept})
	}
	if bin, err := proto.Marshal(r.Status().Proto()); err == nil {
		reply.Trailer = append(reply.Trailer, hpack.HeaderField{
			Name: "grpc-status-details-bin", Value: base64.RawStdEncoding.EncodeToString(bin),
		})
	}
	return reply
}

func (r Refusal) buildPlain() *relay.Reply {
	body := r.Message + "\n"
	reply := &relay.Reply{
		Status: strconv.Itoa(r.HTTP),
		Header: []hpack.HeaderField{
			{Name: "content-type", Value: "text/plain; charset=utf-8"},
			{Name: "content-length", Value: strconv.Itoa(len(body))},
			{Name: "grpc-status", Value: strconv.Itoa(int(r.Code))},
		},
		Body: []byte(body),
	}
	if r.HTTP == 401 {
		reply.Header = append(reply.Header, hpack.HeaderField{Name: "www-authenticate", Value: `Bearer realm="sconce"`})
	}
	if r.RetryAfter > 0 {
		seconds := strconv.Itoa(int((r.RetryAfter + time.Second - 1) / time.Second))
		reply.Header = append(reply.Header, hpack.HeaderField{Name: "retry-after", Value: seconds})
	}
	return reply
}

func (r Refusal) details() []protoadapt.MessageV1 {
	metadata := map[string]string{"classes": errorClasses}
	if r.Limit != "" {
		metadata["limit"] = r.Limit
	}
	ds := []protoadapt.MessageV1{protoadapt.MessageV1Of(&errdetails.ErrorInfo{
		Reason: r.Reason, Domain: errorDomain, Metadata: metadata,
	})}
	if r.RetryAfter > 0 {
		ds = append(ds, protoadapt.MessageV1Of(&errdetails.RetryInfo{RetryDelay: durationpb.New(r.RetryAfter)}))
	}
	return ds
}

// percentEncode writes a grpc-message (gRPC over HTTP/2, "Responses").
func percentEncode(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c <= '~' && c != '%' {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'%', hex[c>>4], hex[c&15]})
	}
	return b.String()
}

// printable makes text from outside fit for a sentence: one line, no control or
// direction characters, no `{` and no backtick, at most maxPart bytes.
func printable(s string) string { return printableTo(s, maxPart) }

func printableTo(s string, most int) string {
	var b strings.Builder
	for _, c := range s {
		if c == utf8.RuneError || !unicode.IsPrint(c) || c == '{' || c == '`' {
			c = '?'
		}
		if b.Len()+utf8.RuneLen(c) > most {
			b.WriteString("...")
			break
		}
		b.WriteRune(c)
	}
	return b.String()
}

// replyBytes is the size of a reply's header block as HPACK counts it.
func replyBytes(r *relay.Reply) int {
	n := len(":status") + len(r.Status) + 32
	for _, fs := range [][]hpack.HeaderField{r.Header, r.Trailer} {
		for _, f := range fs {
			n += int(f.Size())
		}
	}
	return n
}

// codeName is the name of a gRPC code as the specification writes it.
func codeName(c codes.Code) string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return strconv.Itoa(int(c))
}

var codeNames = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
	"UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

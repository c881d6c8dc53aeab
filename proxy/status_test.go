package proxy

import (
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sconce-dev/sconce/proxy/relay"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

var update = flag.Bool("update", false, "write the generated files anew")

// names finds the {name} parts of a sentence.
var names = regexp.MustCompile(`\{[a-z]+\}`)

// filled is r with every {name} set to value.
func filled(r Refusal, value string) Refusal {
	var pairs []string
	for _, n := range names.FindAllString(r.Message, -1) {
		pairs = append(pairs, strings.Trim(n, "{}"), value)
	}
	return r.With(pairs...)
}

func headerValue(fs []hpack.HeaderField, name string) string {
	for _, f := range fs {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// statusOf decodes what a gRPC client reads.
func statusOf(t *testing.T, reply *relay.Reply) *spb.Status {
	t.Helper()
	bin, err := base64.RawStdEncoding.DecodeString(headerValue(reply.Trailer, "grpc-status-details-bin"))
	if err != nil {
		t.Fatalf("grpc-status-details-bin: %v", err)
	}
	st := &spb.Status{}
	if err := proto.Unmarshal(bin, st); err != nil {
		t.Fatalf("grpc-status-details-bin: %v", err)
	}
	if got := headerValue(reply.Trailer, "grpc-status"); got != strconv.Itoa(int(st.Code)) {
		t.Errorf("grpc-status is %s, the details say %d", got, st.Code)
	}
	if text, err := url.PathUnescape(headerValue(reply.Trailer, "grpc-message")); err != nil || text != st.Message {
		t.Errorf("grpc-message is %q (%v), the details say %q", text, err, st.Message)
	}
	return st
}

// detailsOf returns the ErrorInfo and the RetryInfo of a status; either may be nil.
func detailsOf(t *testing.T, st *spb.Status) (info *errdetails.ErrorInfo, retry *errdetails.RetryInfo) {
	t.Helper()
	for _, d := range st.Details {
		m, err := d.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		switch m := m.(type) {
		case *errdetails.ErrorInfo:
			info = m
		case *errdetails.RetryInfo:
			retry = m
		}
	}
	return info, retry
}

// reasonOf is the stable reason that a gRPC client reads.
func reasonOf(t *testing.T, reply *relay.Reply) string {
	t.Helper()
	info, _ := detailsOf(t, statusOf(t, reply))
	return info.GetReason()
}

func TestEveryRefusalHasCodeReasonAndHint(t *testing.T) {
	seen := map[string]Refusal{}
	for _, r := range Refusals() {
		t.Run(r.Reason, func(t *testing.T) {
			if r.Code == codes.OK || r.Code > codes.Unauthenticated {
				t.Errorf("code %d", r.Code)
			}
			// Of one reason there may be several sentences, and programs see no difference.
			other, twice := seen[r.Reason]
			if !regexp.MustCompile(`^[A-Z][A-Z_]+[A-Z]$`).MatchString(r.Reason) || twice && (other.Code != r.Code || other.HTTP != r.HTTP || other.RetryAfter != r.RetryAfter) {
				t.Errorf("reason %q is malformed, or used for two things", r.Reason)
			}
			seen[r.Reason] = r
			_, hint, ok := strings.Cut(r.Message, ": ")
			if !ok || len(hint) < 10 || strings.HasSuffix(hint, ".") {
				t.Errorf("%q does not end with what to do", r.Message)
			}
			if r.HTTP < 400 || r.HTTP > 599 || r.Wire != 0 && r.Wire != r.HTTP {
				t.Errorf("HTTP %d, Wire %d", r.HTTP, r.Wire)
			}
		})
	}
}

// What clients do with a RetryInfo: they try again, even
// after UNAUTHENTICATED, for minutes.
func TestRetryInfoOnlyWhereWaitingHelps(t *testing.T) {
	for _, r := range Refusals() {
		waits := r.Code == codes.Unavailable ||
			slices.Contains([]string{refuseStreams.Reason, refuseInFlight.Reason, refuseRate.Reason}, r.Reason)
		if (r.RetryAfter > 0) != waits && r.Reason != refuseEngineBreak.Reason {
			t.Errorf("%s: %s with RetryAfter %v", r.Reason, r.Code, r.RetryAfter)
		}
		_, retry := detailsOf(t, statusOf(t, filled(r, "x").Reply()))
		if got := retry.GetRetryDelay().AsDuration(); got != r.RetryAfter || (retry != nil) != (r.RetryAfter > 0) {
			t.Errorf("%s: the reply says retry after %v, the table %v", r.Reason, got, r.RetryAfter)
		}
	}
}

// The JVM client takes the first of `classes` without looking whether there is
// one.
func TestEveryReplyNamesAnExceptionClass(t *testing.T) {
	for _, r := range Refusals() {
		info, _ := detailsOf(t, statusOf(t, filled(r, "x").Reply()))
		var classes []string
		if err := json.Unmarshal([]byte(info.GetMetadata()["classes"]), &classes); err != nil || len(classes) == 0 {
			t.Errorf("%s: classes is %q", r.Reason, info.GetMetadata()["classes"])
		}
		if info.GetDomain() != "sconce" || info.GetReason() != r.Reason {
			t.Errorf("%s: ErrorInfo says %q in %q", r.Reason, info.GetReason(), info.GetDomain())
		}
	}
}

func TestEveryReplyIsUnder4KB(t *testing.T) {
	for name, value := range map[string]string{
		"long":       strings.Repeat("x", 1<<20),
		"long emoji": strings.Repeat("\U0001F525", 1<<18),
		"NULs":       strings.Repeat("\x00", 1<<16),
		"percents":   strings.Repeat("%", 1<<16),
		"not UTF-8":  strings.Repeat("\xff", 1<<16),
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range Refusals() {
				r = filled(r, value)
				if n := replyBytes(r.Reply()); n >= maxReplyBytes {
					t.Errorf("%s: %d bytes as gRPC", r.Reason, n)
				}
				plain := r.PlainReply()
				if n := replyBytes(plain) + len(plain.Body); n >= maxReplyBytes {
					t.Errorf("%s: %d bytes as HTTP", r.Reason, n)
				}
			}
		})
	}
}

func TestRepliesWithNothingVariableAreBuiltOnce(t *testing.T) {
	for _, r := range Refusals() {
		variable := names.MatchString(r.Message)
		first, again := r.Reply(), r.Reply()
		plain, plainAgain := r.PlainReply(), r.PlainReply()
		if (first == again) == variable || (plain == plainAgain) == variable {
			t.Errorf("%s: variable is %v, and its replies are not like that", r.Reason, variable)
		}
	}
}

func TestWithLeavesNothingOpen(t *testing.T) {
	r := refuseTokenExpired.With("age", "3 minutes", "session", "s-1")
	if want := "token expired 3 minutes ago: run `sconce token issue s-1`"; r.Message != want {
		t.Errorf("got %q, want %q", r.Message, want)
	}
	if again := r.With("session", "other"); again.Message != r.Message {
		t.Errorf("filled twice: %q", again.Message)
	}
}

func TestPrintable(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"plain", "s-0abc", "s-0abc"},
		{"line break", "a\r\nb", "a??b"},
		{"terminal escape", "\x1b[31m", "?[31m"},
		{"right to left", "a\u202eb", "a?b"},
		{"not UTF-8", "a\xffb", "a?b"},
		{"back quote ends a command", "`rm`", "?rm?"},
		{"placeholder", "{id}", "?id}"},
		{"other scripts stay", "héλ", "héλ"},
		{"cut", strings.Repeat("a", 200), strings.Repeat("a", 100) + "..."},
		{"cut between runes", strings.Repeat("é", 51), strings.Repeat("é", 50) + "..."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := printable(tc.in); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestPlainReply(t *testing.T) {
	r := refuseRegistry.PlainReply()
	if r.Status != "503" || headerValue(r.Header, "retry-after") != "2" || headerValue(r.Header, "grpc-status") != "14" {
		t.Errorf("got %+v", r)
	}
	if string(r.Body) != refuseRegistry.Message+"\n" || headerValue(r.Header, "content-length") != strconv.Itoa(len(r.Body)) {
		t.Errorf("body %q, content-length %s", r.Body, headerValue(r.Header, "content-length"))
	}
	if got := refuseTokenMissing.PlainReply(); headerValue(got.Header, "www-authenticate") == "" {
		t.Error("401 without www-authenticate")
	}
}

func TestCompressedIsToldWhatIsAccepted(t *testing.T) {
	if got := headerValue(refuseCompressed.Reply().Header, "grpc-accept-encoding"); got != "identity" {
		t.Errorf("grpc-accept-encoding: %q", got)
	}
}

// Clients send the plan again where the message holds this text, so it must
// stand in one row alone.
func TestOnlyOneRefusalMakesClientsSendAgain(t *testing.T) {
	for _, r := range Refusals() {
		if strings.Contains(r.Message, "INVALID_HANDLE") != (r.Reason == refuseOperation.Reason) {
			t.Errorf("%s: %q", r.Reason, r.Message)
		}
	}
	if refuseOperation.Code != codes.Internal || !strings.Contains(refuseOperation.Message, "INVALID_HANDLE.OPERATION_NOT_FOUND") {
		t.Errorf("got %s %q", refuseOperation.Code, refuseOperation.Message)
	}
}

func TestTableIsComplete(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "status.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok {
			if call, ok := firstValue(v).(*ast.CallExpr); ok && fmt.Sprint(call.Fun) == "row" {
				rows = append(rows, v.Names[0].Name)
			}
		}
		return true
	})
	var listed []string
	ast.Inspect(file, func(n ast.Node) bool {
		if l, ok := n.(*ast.CompositeLit); ok {
			if _, ok := l.Type.(*ast.ArrayType); ok {
				for _, e := range l.Elts {
					listed = append(listed, fmt.Sprint(e))
				}
			}
		}
		return true
	})
	if len(rows) == 0 || !slices.Equal(rows, listed) {
		t.Errorf("declared and listed rows differ:\n%v\n%v", rows, listed)
	}
}

func firstValue(v *ast.ValueSpec) ast.Expr {
	if len(v.Values) == 0 {
		return nil
	}
	return v.Values[0]
}

const errorsPage = "../docs/errors.md"

// TestErrorsPage holds docs/errors.md to the table; `go test ./proxy -run
// TestErrorsPage -update` writes it.
func TestErrorsPage(t *testing.T) {
	want := errorsText()
	if *update {
		if err := os.WriteFile(errorsPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(errorsPage)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/errors.md is not what status.go says: run go test ./proxy -run TestErrorsPage -update")
	}
}

func errorsText() string {
	var b strings.Builder
	b.WriteString(`# What Sconce says when it says no

<!-- Generated from proxy/status.go: go test ./proxy -run TestErrorsPage -update -->

Every refusal is a gRPC status: the code and the sentence that Spark's client shows, and in
` + "`grpc-status-details-bin`" + ` a ` + "`google.rpc.ErrorInfo`" + ` with the domain ` + "`sconce`" + ` and the reason of the first column,
which does not change between versions. *Retry* is the ` + "`google.rpc.RetryInfo`" + `: clients wait that long and try
again by themselves; that of ` + "`RATE_LIMITED`" + ` is the time until one more request would pass, not always 1 s, and ` + "`ARTIFACTS_EXHAUSTED`" + ` has one
where that time is a minute at most. Where a limit was
reached the ErrorInfo has its name as ` + "`limit`" + ` too. A request that is not gRPC gets the HTTP status and the sentence as text; a call
of the JSON API gets the HTTP status and the gRPC status as JSON ([json.md](json.md)).

Parts in braces are filled in. What is not in this table comes from the cluster, untouched.

| Reason | gRPC | HTTP | Retry | The user reads |
|---|---|---|---|---|
`)
	for _, r := range Refusals() {
		retry := ""
		if r.RetryAfter > 0 {
			retry = r.RetryAfter.String()
		}
		fmt.Fprintf(&b, "| `%s` | %s | %d | %s | %s |\n", r.Reason, codeName(r.Code), r.HTTP, retry, escapeProse(r.Message))
	}
	return b.String()
}

// escapeProse writes < and > for Markdown, but not in code.
func escapeProse(s string) string {
	escape := strings.NewReplacer("<", "&lt;", ">", "&gt;", "|", "\\|")
	parts := strings.Split(s, "`")
	for i := 0; i < len(parts); i += 2 {
		parts[i] = escape.Replace(parts[i])
	}
	return strings.Join(parts, "`")
}

package proxy

import (
	"slices"
	"testing"

	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
)

// resultOf is one ExecutePlanResponse: what the engine calls the session, and whether
// the result ends with it.
func resultOf(server string, complete bool) []byte {
	m := appendText(appendText(nil, 1, sparkUUID), 13, "a-response-id")
	m = appendMessage(m, 2, make([]byte, 3000))
	if server != "" {
		m = appendText(m, 15, server)
	}
	if complete {
		m = appendMessage(m, 14, nil)
	}
	return grpcFrame(m)
}

// Only what is sure to be taken up is handed over: of each condition, what happens
// without it.
func TestHandOverWhereItIsSafe(t *testing.T) {
	const engineID = "99999999-8888-7777-6666-555555555555"
	rows := resultOf(engineID, false)
	compressed := slices.Clone(rows)
	compressed[0] = 1
	twice := grpcFrame(appendText(appendText(appendText(nil, 1, sparkUUID), 15, engineID), 15, engineID))
	for _, tc := range []struct {
		name    string
		method  string
		agent   string
		request []byte
		half    bool
		journal bool
		answer  []byte
		want    int // bytes that the client reads; 0 = to the end
	}{
		{name: "PySpark", agent: "grpc-python/1.76.0 grpc-c/51.0.0 (linux; chttp2)", answer: rows, want: len(rows)},
		{name: "JVM", agent: "grpc-java-netty/1.76.0", answer: rows, want: len(rows)},
		{name: "ReattachExecute", method: "ReattachExecute", request: reattachFrame(operationID), answer: rows, want: len(rows)},
		{name: "behind the first of two messages", answer: slices.Concat(rows, rows), want: len(rows)},
		{name: "an empty session id", answer: resultOf("", false)},
		{name: "Sail", answer: resultOf(sparkUUID, false)},
		{name: "Sail, then something else", answer: slices.Concat(resultOf(sparkUUID, false), rows)},
		{name: "the result is complete", answer: resultOf(engineID, true)},
		{name: "half a message", answer: rows[:len(rows)-1]},
		{name: "compressed", answer: compressed},
		{name: "malformed", answer: twice},
		{name: "Go", agent: "grpc-go/1.74.2", answer: rows},
		{name: "Rust", agent: "tonic/0.11.0", answer: rows},
		{name: "Rust by PySpark's name", agent: "_SPARK_CONNECT_PYTHON spark/4.2.0 os/linux", answer: rows},
		{name: "as from PySpark 3.4", request: planFrame(10, ""), answer: rows},
		{name: "not reattachable", request: planFrame(10, operationID), answer: rows},
		{name: "unary", method: "AnalyzePlan", request: analyzeFrame(), answer: rows},
		{name: "the engine does not have it whole", half: true, answer: rows},
		{name: "the journal waits for its end", journal: true, answer: rows},
	} {
		t.Run(tc.name, func(t *testing.T) {
			setZero(&tc.method, "ExecutePlan")
			setZero(&tc.agent, "grpc-python/1.76.0")
			if tc.request == nil {
				tc.request = reattachablePlan()
			}
			tr := newTestRouter(t, nil)
			s := tr.send(sparkHead(tc.method, "user-agent: "+tc.agent))
			s.edit(tc.request, !tc.half)
			c := s.call.(*call)
			if tc.journal {
				c.ticket.Store(&sessions.Ticket{})
			}
			for _, piece := range []int{1 << 20, 1} {
				got, end := readTo(c.HandOver(), tc.answer, piece)
				if got != tc.want || (end != nil) != (tc.want > 0) {
					t.Errorf("in pieces of %d: ended behind %d bytes, want %d: %+v", piece, got, tc.want, end)
				}
				if end != nil && (end.Reset != 0 || len(end.Trailer) != 1 || end.Trailer[0].Value != "0") {
					t.Errorf("the end is %+v, want OK", end)
				}
			}
			if got := tr.tally.handed.Load(); (got > 0) != (tc.want > 0) || c.handed.Load() != (tc.want > 0) {
				t.Errorf("%d handed over by the metrics", got)
			}
			c.ticket.Store(nil)
			s.finish(relay.Stats{Status: "0"})
		})
	}
}

// readTo gives next the answer in pieces and says behind which byte it ended.
func readTo(next func([]byte) (int, *relay.Reply), answer []byte, piece int) (int, *relay.Reply) {
	if next == nil {
		return 0, nil
	}
	at := 0
	for p := range slices.Chunk(answer, piece) {
		n, end := next(p)
		if end != nil {
			return at + n, end
		}
		at += len(p)
	}
	return 0, nil
}

// The number that is read of an answer is that of the method table, which is held
// against PySpark's own descriptors.
func TestAnswerFields(t *testing.T) {
	methods := sparkMethodsFor(t)
	for _, name := range []string{"ExecutePlan", "ReattachExecute"} {
		if got := methods[sparkService+name].ServerID; got != fieldServer {
			t.Errorf("%s: server_side_session_id is field %d, not %d", name, got, fieldServer)
		}
	}
}

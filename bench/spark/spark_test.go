package spark

import "testing"

func TestSummaryIsTheMedian(t *testing.T) {
	v, err := summary([]byte(`{"wall_s": 3, "rows": 5, "bytes": 40}
{"wall_s": 1, "rows": 5, "bytes": 40}
{"wall_s": 2, "rows": 5, "bytes": 40}
`))
	if err != nil {
		t.Fatal(err)
	}
	if v["wall_s"] != 2 || v["rows"] != 5 || v["bytes"] != 40 {
		t.Errorf("got %v", v)
	}
	if _, err := summary([]byte("Traceback\n")); err == nil {
		t.Error("a traceback was taken for figures")
	}
}

func TestConnection(t *testing.T) {
	const want = "sc://localhost:8085/;token=t;x-session-id=s"
	if got := connection("127.0.0.1:8085", ";token=t;x-session-id=s"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

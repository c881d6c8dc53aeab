package proxytest_test

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	sparkID = "11111111-2222-4333-8444-555555555555"
	opID    = "99999999-2222-4333-8444-555555555555"
	execute = proxytest.SparkService + "ExecutePlan"
)

func TestSparkAnswersAllMethods(t *testing.T) {
	spark := proxytest.StartSpark(t, proxytest.SparkConfig{Rows: 4})
	c := proxytest.NewCaller(t, spark.Dial)
	for _, m := range []string{
		"ExecutePlan", "AnalyzePlan", "Config", "AddArtifacts", "ArtifactStatus", "Interrupt", "ReattachExecute",
		"ReleaseExecute", "ReleaseSession", "FetchErrorDetails", "CloneSession", "GetStatus",
	} {
		req := proxytest.ExecutePlan(sparkID, "alice", opID, true, []byte("plan"))
		if m == "ReattachExecute" || m == "ReleaseExecute" {
			req = proxytest.Reattach(sparkID, "alice", opID, "")
		}
		got, err := c.Collect(t.Context(), proxytest.SparkService+m, req)
		if err != nil || len(got) == 0 {
			t.Errorf("%s: %d messages, %v", m, len(got), err)
		}
		rs := spark.Recorded(m)
		if len(rs) != 1 || len(rs[0].Messages()) != 1 || !bytes.Equal(rs[0].Messages()[0], req) {
			t.Errorf("%s: recorded %d calls, or another message", m, len(rs))
		}
	}
	if _, err := c.Unary(t.Context(), proxytest.SparkService+"Nothing", proxytest.Request(sparkID, "a")); status.Code(err) != codes.Unimplemented {
		t.Errorf("unknown method: %v", err)
	}
}

func TestSparkReplaysAnOperation(t *testing.T) {
	spark := proxytest.StartSpark(t, proxytest.SparkConfig{Rows: 3})
	c := proxytest.NewCaller(t, spark.DialTCP)
	all, err := c.Collect(t.Context(), execute, proxytest.ExecutePlan(sparkID, "alice", opID, true, nil))
	if err != nil || len(all) != 4 {
		t.Fatalf("%d messages, %v", len(all), err)
	}
	rest, err := c.Collect(t.Context(), proxytest.SparkService+"ReattachExecute", proxytest.Reattach(sparkID, "alice", opID, opID+"/1"))
	if err != nil || len(rest) != 2 || !bytes.Equal(rest[0], all[2]) {
		t.Fatalf("%d messages after reattach, %v", len(rest), err)
	}
	release := proxytest.SparkService + "ReleaseExecute"
	if _, err := c.Unary(t.Context(), release, proxytest.Reattach(sparkID, "alice", opID, "")); err != nil {
		t.Fatal(err)
	}
	_, err = c.Collect(t.Context(), proxytest.SparkService+"ReattachExecute", proxytest.Reattach(sparkID, "alice", opID, ""))
	if status.Code(err) != codes.Internal || len(status.Convert(err).Details()) != 1 {
		t.Fatalf("reattach after release: %v", err)
	}
}

func TestSparkScripts(t *testing.T) {
	tests := []struct {
		name   string
		script proxytest.Script
		want   int
		code   codes.Code
	}{
		{"reply", proxytest.Reply([]byte("a"), []byte("b")), 2, codes.OK},
		{"batches", proxytest.Batches(10, 10000), 10, codes.OK},
		{"echo", proxytest.Echo(), 1, codes.OK},
		{"fail", proxytest.Fail(proxytest.NotFound("x")), 0, codes.Internal},
		{"fail after", proxytest.FailAfter(2, 10, status.New(codes.Aborted, "no")), 2, codes.Aborted},
		{"gzip", proxytest.Gzip(proxytest.Batches(2, 10000)), 2, codes.OK},
	}
	spark := proxytest.StartSpark(t, proxytest.SparkConfig{})
	c := proxytest.NewCaller(t, spark.Dial)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			spark.Script("ExecutePlan", tt.script)
			got, err := c.Collect(t.Context(), execute, []byte("plan"))
			if len(got) != tt.want || status.Code(err) != tt.code {
				t.Errorf("%d messages, %v", len(got), err)
			}
		})
	}
	var header metadata.MD
	spark.Script("", proxytest.Gzip(proxytest.Batches(1, 1000)))
	_, err := c.Unary(t.Context(), execute+"x", nil, grpc.UseCompressor(gzip.Name), grpc.Header(&header))
	if err != nil {
		t.Fatal(err)
	}
}

func TestSparkDripHangDie(t *testing.T) {
	spark := proxytest.StartSpark(t, proxytest.SparkConfig{})
	c := proxytest.NewCaller(t, spark.Dial)
	gate := make(chan struct{})
	spark.Script("ExecutePlan", proxytest.Drip(10, gate))
	s, err := c.Stream(t.Context(), execute)
	if err != nil {
		t.Fatal(err)
	}
	gate <- struct{}{}
	if m, err := s.Recv(); err != nil || !bytes.Equal(m, proxytest.Pattern(0, 10)) {
		t.Fatalf("drip: %q, %v", m, err)
	}
	close(gate)
	if rest, err := s.Rest(); len(rest) != 0 || err != nil {
		t.Fatalf("after the drip: %d, %v", len(rest), err)
	}

	spark.Script("ExecutePlan", proxytest.Hang())
	ctx, cancel := context.WithCancel(t.Context())
	s, err = c.Stream(ctx, execute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Header(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := spark.Recorded("ExecutePlan")[1].Wait(t); status.Code(err) != codes.Canceled {
		t.Errorf("hung call ended with %v", err)
	}

	spark.Script("ExecutePlan", proxytest.Die(0, 0))
	if _, err := c.Collect(t.Context(), execute); status.Code(err) != codes.Unavailable {
		t.Errorf("dead server: %v", err)
	}
}

func TestSparkWantsItsToken(t *testing.T) {
	spark := proxytest.StartSpark(t, proxytest.SparkConfig{Token: "secret"})
	c := proxytest.NewCaller(t, spark.Dial)
	for _, tt := range []struct {
		name string
		md   []string
		code codes.Code
	}{
		{"none", nil, codes.Unauthenticated},
		{"right", []string{"authorization", "Bearer secret"}, codes.OK},
		{"the last one counts", []string{"authorization", "Bearer secret", "authorization", "Bearer x"}, codes.Unauthenticated},
		{"exact scheme", []string{"authorization", "bearer secret"}, codes.Unauthenticated},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := c.Unary(proxytest.With(t.Context(), tt.md...), proxytest.SparkService+"Config", proxytest.Request(sparkID, "a"))
			if status.Code(err) != tt.code {
				t.Errorf("%v", err)
			}
		})
	}
}

// Everything in memory runs on fake time.
func TestSparkInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spark := proxytest.NewSpark(t, proxytest.SparkConfig{})
		spark.ServeMemory(t)
		c := proxytest.NewCaller(t, spark.Dial)
		spark.Script("", proxytest.Hang())
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		start := time.Now()
		_, err := c.Collect(ctx, execute)
		if status.Code(err) != codes.DeadlineExceeded || time.Since(start) != time.Hour {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if r := spark.Recorded("")[0]; r.Deadline.IsZero() {
			t.Error("no deadline was recorded")
		}
	})
}

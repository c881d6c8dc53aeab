package main

import (
	"strings"
	"testing"
	"time"
)

func TestConnectionStrings(t *testing.T) {
	now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	c := connection{endpoint: "localhost:8085", token: "a.b_c.d-e", session: "s-1", ca: "/tmp/with space/ca.pem", expires: now.Add(time.Hour)}
	if got, want := c.remote(), "sc://localhost:8085/;token=a.b_c.d-e;x-session-id=s-1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	var b strings.Builder
	c.print(&b, now)
	for _, want := range []string{
		"good for 60m", "export SPARK_REMOTE='" + c.remote() + "'\n",
		"PySpark 4 ", "PySpark 3.5 ", "Scala ", "Go ", "Rust ",
		"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH='/tmp/with space/ca.pem'", "SSL_CERT_FILE='/tmp/with space/ca.pem'",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestShellQuote(t *testing.T) {
	for in, want := range map[string]string{
		"/tmp/ca.pem": "/tmp/ca.pem", "/tmp/my ca.pem": "'/tmp/my ca.pem'", "it's": `'it'\''s'`, "$(rm)": "'$(rm)'",
	} {
		if got := shellQuote(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

// Package scripttest has the commands that scripts of rogpeppe/go-internal/testscript
// have beside their own, wherever a sconce is tried by them.
package scripttest

import (
	"context"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sconce-dev/sconce/sessions/storetest"
)

// patience is how long a script waits for what should take milliseconds.
const patience = 30 * time.Second

// Ports sets variables to addresses on loopback that are free: ports A B.
func Ports(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		port, err := storetest.FindPort()
		ts.Check(err)
		ts.Setenv(name, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	}
}

// Keep sets a variable to what a regular expression finds in the last standard
// output: its first group. keep VAR EXPR.
func Keep(ts *testscript.TestScript, _ bool, args []string) {
	found := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if found == nil {
		ts.Fatalf("nothing like %s", args[1])
	}
	ts.Setenv(args[0], found[1])
}

// Ready waits until a gateway is ready, or, negated, until it answers
// that it is not: ready $ADDR.
func Ready(ts *testscript.TestScript, neg bool, args []string) {
	want := map[bool]int{false: http.StatusOK, true: http.StatusServiceUnavailable}[neg]
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		code, body, err := Fetch(ctx, "http://"+args[0]+"/readyz")
		if err == nil && code == want && !strings.Contains(body, "starting") {
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("%s: %d %s %v", args[0], code, body, err)
		case <-tick.C:
		}
	}
}

// Get prints what a URL answers, which must be the status: get 200 URL.
func Get(ts *testscript.TestScript, _ bool, args []string) {
	code, body, err := Fetch(context.Background(), args[1])
	// A third argument is what the page says in the end.
	for tries := 0; len(args) > 2 && err == nil && !strings.Contains(body, args[2]) && tries < 100; tries++ {
		time.Sleep(100 * time.Millisecond)
		code, body, err = Fetch(context.Background(), args[1])
	}
	ts.Check(err)
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("%s: %d %s", args[1], code, body)
	}
	_, err = io.WriteString(ts.Stdout(), body)
	ts.Check(err)
}

// Fetch is the status and the body of what a URL answers.
func Fetch(ctx context.Context, url string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

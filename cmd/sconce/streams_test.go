package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// describe counts the streams of all replicas, whichever is asked.
func TestDescribeCountsStreamsOfAllReplicas(t *testing.T) {
	s, gate := startServe(t), make(chan struct{})
	other := s.beside(s.redis)
	stream := s.open(gate)
	gate <- struct{}{}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	token, err := os.ReadFile(filepath.Join(s.dir, "control.token"))
	if err != nil {
		t.Fatal(err)
	}
	other.as(string(token))
	for _, replica := range []*served{s, other} {
		await(t, func() bool {
			for row := range strings.Lines(replica.command("session", "describe", "lake")) {
				if words := strings.Fields(row); len(words) == 3 && words[0]+" "+words[1] == "open streams" {
					return words[2] == "1"
				}
			}
			return false
		}, "the stream to be counted")
	}
	close(gate)
}

package main

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestLogQueueWritesInOrderAndToTheEnd(t *testing.T) {
	var out lockedBuffer
	var want strings.Builder
	q := startLogQueue(&out)
	line := make([]byte, 0, 20) // used again and again, as zap does
	for i := range 1000 {
		line = fmt.Appendf(line[:0], "line %d\n", i)
		if _, err := q.Write(line); err != nil {
			t.Fatal(err)
		}
		want.Write(line)
	}
	q.end()
	if out.String() != want.String() || q.dropped.Load() != 0 {
		t.Errorf("%d dropped, wrote %d bytes of %d", q.dropped.Load(), len(out.String()), want.Len())
	}
}

// stuck is a pipe that nobody reads.
type stuck struct{ read chan struct{} }

func (s stuck) Write(p []byte) (int, error) {
	<-s.read
	return len(p), nil
}

func TestLogQueueDoesNotWaitForItsReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := stuck{make(chan struct{})}
		q := startLogQueue(w)
		synctest.Wait() // it has nothing to do
		for range 1 + logLines + 5 {
			_, _ = q.Write([]byte("line\n"))
			synctest.Wait() // the first is being written, and the others wait
		}
		if n := q.dropped.Load(); n != 5 {
			t.Errorf("%d dropped, want 5", n)
		}
		began := time.Now()
		q.end()
		if took := time.Since(began); took != lastWords {
			t.Errorf("the end took %s", took)
		}
		close(w.read)
		<-q.done
	})
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestLogQueueCountsWhatCannotBeWritten(t *testing.T) {
	q := startLogQueue(full{})
	for range 3 {
		if _, err := q.Write([]byte("line\n")); errors.Is(err, syscall.ENOSPC) {
			t.Error("a caller was told of the disk")
		}
	}
	q.end()
	if n := q.dropped.Load(); n != 3 {
		t.Errorf("%d dropped, want 3", n)
	}
}

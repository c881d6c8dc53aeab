package main

import (
	"io"
	"sync/atomic"
	"time"
)

// logLines is how many lines wait for whoever reads the log: some 2 MB. What comes
// while they do is dropped and counted.
const logLines = 8192

// lastWords is how long the end waits for the lines that are left.
const lastWords = time.Second

// logQueue stands between those who log and the file, pipe or terminal that is
// written to, which may be full or read by nobody: nothing that serves traffic waits
// for it. Write never blocks and never fails.
type logQueue struct {
	w       io.Writer
	lines   chan []byte
	dropped atomic.Uint64 // lines for which there was no room, or that could not be written
	stop    chan struct{}
	done    chan struct{}
}

// startLogQueue starts the one goroutine that writes to w. Whoever calls it calls end.
func startLogQueue(w io.Writer) *logQueue {
	q := &logQueue{w: w, lines: make(chan []byte, logLines), stop: make(chan struct{}), done: make(chan struct{})}
	go q.run()
	return q
}

// Write takes one line.
func (q *logQueue) Write(line []byte) (int, error) {
	select {
	case q.lines <- append([]byte(nil), line...):
	default:
		q.dropped.Add(1)
	}
	return len(line), nil
}

func (q *logQueue) run() {
	defer close(q.done)
	for {
		select {
		case line := <-q.lines:
			q.write(line)
		case <-q.stop:
			q.rest()
			return
		}
	}
}

// rest writes what came before the end.
func (q *logQueue) rest() {
	for {
		select {
		case line := <-q.lines:
			q.write(line)
		default:
			return
		}
	}
}

func (q *logQueue) write(line []byte) {
	if _, err := q.w.Write(line); err != nil {
		q.dropped.Add(1)
	}
}

// end writes what is left and ends the goroutine, unless w blocks: then the process
// ends without it. Lines that come later are not written.
func (q *logQueue) end() {
	close(q.stop)
	timer := time.NewTimer(lastWords)
	defer timer.Stop()
	select {
	case <-q.done:
	case <-timer.C:
	}
}

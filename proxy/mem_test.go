package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// memPair returns both ends of a connection over a fresh listener.
func memPair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	m := NewMemory("test")
	accepted := make(chan net.Conn, 1)
	go func() {
		c, _ := m.Accept()
		accepted <- c
	}()
	near, err := m.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	far = <-accepted
	t.Cleanup(func() { near.Close(); far.Close(); m.Close() })
	return near, far
}

func TestMemoryCarriesBytesInOrder(t *testing.T) {
	near, far := memPair(t)
	sent := make([]byte, 3*memBuffer+17)
	for i := range sent {
		sent[i] = byte(i * 7)
	}
	go func() {
		near.Write(sent)
		near.Close()
	}()
	got, err := io.ReadAll(far)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("read %d bytes, %v; want the %d that were written", len(got), err, len(sent))
	}
}

func TestMemoryWriteDoesNotWaitForARead(t *testing.T) {
	near, far := memPair(t)
	if n, err := near.Write(make([]byte, memBuffer)); n != memBuffer || err != nil {
		t.Fatalf("wrote %d, %v", n, err)
	}
	near.SetWriteDeadline(time.Unix(1, 0))
	if n, err := near.Write([]byte{1}); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("over the buffer: wrote %d, %v", n, err)
	}
	if n, err := io.ReadFull(far, make([]byte, memBuffer)); err != nil {
		t.Errorf("read %d, %v", n, err)
	}
}

func TestMemoryDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := memPair(t)
		start := time.Now()
		near.SetReadDeadline(start.Add(3 * time.Second))
		_, err := near.Read(make([]byte, 1))
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() || time.Since(start) != 3*time.Second {
			t.Errorf("read ended after %s with %v", time.Since(start), err)
		}
		near.SetReadDeadline(time.Time{})
		go far.Write([]byte("x"))
		if n, err := near.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("after the deadline was taken back: read %d, %v", n, err)
		}
		near.Write(make([]byte, memBuffer))
		near.SetDeadline(time.Now().Add(time.Second))
		if _, err := near.Write([]byte{1}); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write ended with %v", err)
		}
	})
}

func TestMemoryClose(t *testing.T) {
	near, far := memPair(t)
	near.Write([]byte("last words"))
	near.Close()
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("own read: %v, want net.ErrClosed", err)
	}
	if got, err := io.ReadAll(far); string(got) != "last words" || err != nil {
		t.Errorf("other end read %q, %v", got, err)
	}
	if _, err := far.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("other end's write: %v, want io.ErrClosedPipe", err)
	}
}

func TestMemoryCloseWakesAReader(t *testing.T) {
	near, far := memPair(t)
	ended := make(chan error, 1)
	go func() {
		_, err := far.Read(make([]byte, 1))
		ended <- err
	}()
	near.Close()
	if err := <-ended; err != io.EOF {
		t.Errorf("got %v, want io.EOF", err)
	}
}

func TestMemoryListenerClosed(t *testing.T) {
	m := NewMemory("test")
	m.Close()
	m.Close()
	if _, err := m.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v", err)
	}
	if _, err := m.Dial(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Dial: %v", err)
	}
}

func TestMemoryDialHeedsItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewMemory("test").Dial(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Dial with nobody to accept: %v", err)
	}
}

package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/sconce-dev/sconce/bench/payload"
)

// Server answers every connection of one listener.
type Server struct {
	cfg Config
	wg  sync.WaitGroup

	mu    sync.Mutex
	rows  map[rowsKey]*payload.Template
	conns map[net.Conn]struct{}
}

// Config is what a Server needs.
type Config struct {
	// Window is the window given to each stream of an upload, in bytes; 0 means 1 MiB.
	Window int
	// ReadBuffer is the size of each connection's read buffer in bytes; 0 means 64 KiB.
	ReadBuffer int
	// Streams is how many streams a connection may have open; 0 means 1000.
	Streams int
	// Log is told why a connection ended badly; nil is silence.
	Log func(error)
}

type rowsKey struct {
	session string
	size    int
}

// New returns a Server that has not begun to serve.
func New(cfg Config) *Server {
	if cfg.Window == 0 {
		cfg.Window = 1 << 20
	}
	if cfg.ReadBuffer == 0 {
		cfg.ReadBuffer = 64 << 10
	}
	if cfg.Streams == 0 {
		cfg.Streams = 1000
	}
	if cfg.Log == nil {
		cfg.Log = func(error) {}
	}
	return &Server{cfg: cfg, rows: map[rowsKey]*payload.Template{}, conns: map[net.Conn]struct{}{}}
}

// Serve accepts until ctx ends, then closes what is open and waits for it.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	stop := context.AfterFunc(ctx, func() { closed(ln) })
	defer stop()
	defer s.wg.Wait()
	defer s.closeAll()
	for {
		nc, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept: %w", err)
		}
		s.add(nc)
		s.wg.Go(func() { s.serveConn(nc) })
	}
}

func (s *Server) serveConn(nc net.Conn) {
	defer s.remove(nc)
	err := newConn(s, nc).run()
	if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		s.cfg.Log(fmt.Errorf("connection from %s: %w", nc.RemoteAddr(), err))
	}
}

// closed closes what may be closed already: there is nobody to tell.
func closed(c io.Closer) { _ = c.Close() }

func (s *Server) add(nc net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[nc] = struct{}{}
}

func (s *Server) remove(nc net.Conn) {
	closed(nc)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, nc)
}

func (s *Server) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for nc := range s.conns {
		closed(nc)
	}
}

// template returns the shared message of that size for that session.
func (s *Server) template(session string, size int) (*payload.Template, error) {
	key := rowsKey{session, size}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.rows[key]; t != nil {
		return t, nil
	}
	t, err := payload.Rows(session, size)
	if err != nil {
		return nil, err
	}
	s.rows[key] = t
	return t, nil
}

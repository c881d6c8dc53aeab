package proxytest

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Script is how a fake server treats one call. What it returns is the call's
// status: nil is OK, an error of package status is itself.
type Script func(x *Exchange) error

// Exchange is a call in progress, as a Script sees it. What is received is
// recorded.
type Exchange struct {
	*Record
	Spark  *Spark
	stream grpc.ServerStream
}

// Context ends with the call.
func (x *Exchange) Context() context.Context { return x.stream.Context() }

// Recv returns the next request message, and io.EOF after the last.
func (x *Exchange) Recv() ([]byte, error) {
	var b []byte
	err := x.stream.RecvMsg(&b)
	x.add(b, err)
	return b, err
}

// Drain receives the rest of the request.
func (x *Exchange) Drain() {
	for {
		if _, err := x.Recv(); err != nil {
			return
		}
	}
}

// Send sends a response message.
func (x *Exchange) Send(b []byte) error { return x.stream.SendMsg(&b) }

// Header sends response headers now.
func (x *Exchange) Header(pairs ...string) error {
	return x.stream.SendHeader(metadata.Pairs(pairs...))
}

// Trailer adds trailers to the end.
func (x *Exchange) Trailer(pairs ...string) { x.stream.SetTrailer(metadata.Pairs(pairs...)) }

// Reply takes the whole request and answers with these messages.
func Reply(msgs ...[]byte) Script {
	return func(x *Exchange) error {
		x.Drain()
		for _, m := range msgs {
			if err := x.Send(m); err != nil {
				return err
			}
		}
		return nil
	}
}

// Batches takes the whole request and answers with n messages of size bytes;
// the i-th, from 0, is Pattern(i, size).
func Batches(n, size int) Script {
	return func(x *Exchange) error {
		x.Drain()
		for i := range n {
			if err := x.Send(Pattern(i, size)); err != nil {
				return err
			}
		}
		return nil
	}
}

// Echo answers each message with itself, as it comes.
func Echo() Script {
	return func(x *Exchange) error {
		for {
			m, err := x.Recv()
			if err != nil {
				return nil //nolint:nilerr // the end of the request ends the call
			}
			if err := x.Send(m); err != nil {
				return err
			}
		}
	}
}

// Fail answers with this status and nothing else: "trailers-only", and
// grpc-status-details-bin where st has details.
func Fail(st *status.Status) Script {
	return func(x *Exchange) error {
		x.Drain()
		return st.Err()
	}
}

// FailAfter sends n messages of size bytes as Batches does, and then this status.
func FailAfter(n, size int, st *status.Status) Script {
	return func(x *Exchange) error {
		if err := Batches(n, size)(x); err != nil {
			return err
		}
		return st.Err()
	}
}

// Hang sends response headers and then nothing until the call is cancelled.
func Hang() Script {
	return func(x *Exchange) error {
		if err := x.Header(); err != nil {
			return err
		}
		<-x.Context().Done()
		return status.FromContextError(x.Context().Err()).Err()
	}
}

// Drip sends one message of size bytes for each value that comes from gate,
// and ends when gate is closed.
func Drip(size int, gate <-chan struct{}) Script {
	return func(x *Exchange) error {
		for i := 0; ; i++ {
			select {
			case _, more := <-gate:
				if !more {
					return nil
				}
			case <-x.Context().Done():
				return status.FromContextError(x.Context().Err()).Err()
			}
			if err := x.Send(Pattern(i, size)); err != nil {
				return err
			}
		}
	}
}

// Gzip answers like f with each message compressed, if the client offers that.
func Gzip(f Script) Script {
	return func(x *Exchange) error {
		if err := grpc.SetSendCompressor(x.Context(), "gzip"); err != nil {
			return status.Error(codes.Internal, err.Error())
		}
		return f(x)
	}
}

// Die sends n messages of size bytes and then cuts all connections of the
// server. How many of the last bytes still go out is not defined; use a raw
// Server where it matters.
func Die(n, size int) Script {
	return func(x *Exchange) error {
		if err := Batches(n, size)(x); err != nil {
			return err
		}
		x.Spark.Cut()
		return nil
	}
}

package main

import (
	"context"
	"testing"

	"github.com/sconce-dev/sconce/proxy/proxytest"
)

const (
	slowReaders = 64
	// slowTakes is what each of them reads before it reads no more, in bytes: enough for
	// the relay to have given its stream the largest window.
	slowTakes = 24 << 20
	// slowPeak is what the gateway may take in RAM with all of them, at any time.
	slowPeak = 600_000_000
	// slowRounds is how many slices are taken at least before anything is judged.
	slowRounds = 8

	batchBytes = 64 << 10
	batchCount = 1 << 14 // of a result of 1 GiB
)

// Sixty-four readers of results of 1 GiB take some of it and then nothing more, and the
// gateway, which is told to live in 512 MiB, does. Who reads fast beside them has four
// fifths at least of the speed that a replica without them gives: by the medians of slices
// that are taken in turn.
func TestSlowReadersOfLargeResults(t *testing.T) {
	for name, secure := range map[string]bool{"plaintext": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			s := startServe(t)
			s.spark.Script("ExecutePlan", gibibyte)
			creds := s.credentials()
			beset, alone := s.process("GOMEMLIMIT=512MiB"), s.process("GOMEMLIMIT=512MiB")
			readers := make([]slowReader, slowReaders)
			for i := range readers {
				readers[i] = startSlow(t, beset, secure, creds)
				beset.fits(slowPeak)
			}
			var with, without proxytest.Pace
			beside, apart := beset.caller(secure), alone.caller(secure)
			slowed := func() bool { return !proxytest.Raced && 5*with.Median() < 4*without.Median() }
			for n := 0; n < slowRounds || n < 8*slowRounds && slowed(); n++ {
				download(t, apart, creds, &without)
				download(t, beside, creds, &with)
				beset.fits(slowPeak)
			}
			t.Logf("%d batches beside slow readers, %d without them; %d MiB at most", with.Median(), without.Median(), beset.peak()>>20)
			if slowed() {
				t.Errorf("%v batches beside slow readers, %v without them", with, without)
			}
			for _, r := range readers {
				r.goOn()
			}
		})
	}
}

// gibibyte answers with a result of 1 GiB.
func gibibyte(x *proxytest.Exchange) error {
	x.Drain()
	batch := make([]byte, batchBytes)
	for range batchCount {
		if err := x.Send(batch); err != nil {
			return err
		}
	}
	return nil
}

var slowPlan = proxytest.ExecutePlan(crowdSpark, "ada", "", false, nil)

// slowReader is one client with one result.
type slowReader struct {
	*proxytest.Peer
	result uint32
}

// startSlow returns when the reader has read what it wants for now; its windows are spent.
func startSlow(t *testing.T, p *process, secure bool, creds []string) slowReader {
	t.Helper()
	conn, err := p.dial(t.Context(), secure)
	if err != nil {
		t.Fatal(err)
	}
	c := proxytest.Client(t, conn, proxytest.PeerConfig{ManualWindow: true, Discard: true})
	r := slowReader{c, c.Open(proxytest.Call(proxytest.SparkService+"ExecutePlan", creds...), false)}
	c.Send(r.result, proxytest.Message(slowPlan), true)
	r.read(slowTakes)
	return r
}

// read takes so many bytes more.
func (r slowReader) read(n int) {
	had := r.Stream(r.result).Bytes
	r.Credit(0, uint32(n))
	r.Credit(r.result, uint32(n))
	r.Bytes(r.result, had+n)
}

// goOn reads on, which is not too late.
func (r slowReader) goOn() { r.read(1 << 20) }

// download adds a slice of the batches of one result.
func download(t *testing.T, c *proxytest.Caller, creds []string, pace *proxytest.Pace) {
	t.Helper()
	ctx, cancel := context.WithTimeout(proxytest.With(t.Context(), creds...), proxytest.Patience)
	defer cancel()
	stream, err := c.Stream(ctx, proxytest.SparkService+"ExecutePlan")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(slowPlan); err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	next := func() {
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	next() // it has begun
	pace.Take(next)
}

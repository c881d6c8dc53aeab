package proxy

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/sconce-dev/sconce/sessions"
)

// captureConfig says how much of requests may be kept for the journal.
type captureConfig struct {
	// entry bounds one request, artifacts one upload, in bytes.
	entry, artifacts int
	// inFlight bounds all captures of this process, in bytes.
	inFlight int64

	held atomic.Int64 // of inFlight
}

// take takes room for n more bytes, or says that there is none.
func (c *captureConfig) take(n int) bool {
	if c.held.Add(int64(n)) <= c.inFlight {
		return true
	}
	c.held.Add(-int64(n))
	return false
}

// firstBytes are kept inside the stream's own memory while it is not known
// whether the request matters: for nearly all queries that is all there ever is.
const firstBytes = 256

// capture keeps a copy of a request that may change its Spark session, up to its
// caps, and of any other nothing. The zero value captures nothing.
type capture struct {
	cfg    *captureConfig
	scan   scan
	keeps  bool   // of the message that is open: kept so far
	upload bool   // every message is kept
	over   string // why nothing is kept
	what   string // of an upload over its cap: its first artifact
	first  [firstBytes]byte
	n      uint16 // used of first
	buf    []byte
	ends   []int // of the messages in buf
	taken  int   // of cfg's inFlight
}

// begin is called with each message that begins. root is where scan starts; nil =
// the message is one of an upload.
func (c *capture) begin(root *scanNode, length uint64) {
	if c.cfg == nil {
		return
	}
	c.keeps, c.upload = true, root == nil
	if root != nil {
		c.scan.start(root, length)
	}
}

// add takes the next bytes of the message.
func (c *capture) add(p []byte) {
	if !c.keeps {
		return
	}
	if !c.upload && c.scan.verdict == scanOpen && c.scan.next(p) == scanLetGo {
		c.drop()
		return
	}
	if c.buf == nil && c.over == "" && !c.upload && c.scan.verdict == scanOpen && int(c.n)+len(p) <= firstBytes {
		c.n += uint16(copy(c.first[c.n:], p))
		return
	}
	c.keep(p)
}

// keep copies p, unless that is over a cap.
func (c *capture) keep(p []byte) {
	most := c.cfg.entry
	if c.upload {
		most = c.cfg.artifacts
	}
	switch need := int(c.n) + len(c.buf) + len(p); {
	case c.over != "":
	case need > most:
		c.give("it is larger than " + sizeText(most) + ", the most that is kept of one act")
	case need <= c.taken:
	default:
		grow := max(need, min(2*c.taken, most), 1024) - c.taken
		if !c.cfg.take(grow) {
			c.give("there was no room to keep it: too much was being kept at that moment")
			break
		}
		c.taken += grow
		buf := make([]byte, len(c.buf), c.taken)
		copy(buf, c.buf)
		c.buf = buf
	}
	if c.over != "" {
		return
	}
	c.buf = append(c.buf, c.first[:c.n]...)
	c.n = 0
	c.buf = append(c.buf, p...)
}

// give gives what was kept up.
func (c *capture) give(why string) {
	c.over = why
	if c.upload && len(c.ends) > 0 {
		c.what = firstArtifact(c.buf[:c.ends[0]])
	}
	c.release()
}

// drop forgets the request.
func (c *capture) drop() {
	c.keeps = false
	c.release()
}

// end is called with each message that is complete.
func (c *capture) end() {
	if c.keeps && !c.upload && c.scan.verdict == scanOpen { // a message that no engine can read
		c.drop()
	}
	if c.keeps && c.over == "" {
		if c.n > 0 || c.buf == nil {
			c.keep(nil)
		}
		c.ends = append(c.ends, len(c.buf))
	}
}

// has says that there is an act to be looked at.
func (c *capture) has() bool { return c.keeps }

// messages are the request's.
func (c *capture) messages() (list [][]byte) {
	begin := 0
	for _, end := range c.ends {
		list = append(list, c.buf[begin:end:end])
		begin = end
	}
	return list
}

// release gives the memory back. It may be called more than once.
func (c *capture) release() {
	if c.cfg != nil && c.taken > 0 {
		c.cfg.held.Add(-int64(c.taken))
	}
	c.taken, c.buf, c.ends, c.n = 0, nil, nil, 0
}

// move hands what was kept on to who will release it: the stream may end meanwhile.
func (c *capture) move() *capture {
	own := &capture{cfg: c.cfg, scan: c.scan, upload: c.upload, over: c.over, what: c.what, buf: c.buf, ends: c.ends, taken: c.taken}
	c.taken, c.keeps = 0, false
	c.release()
	return own
}

// entry is what the request does to its Spark session, nil where it changes
// nothing. sessions.ErrUnavailable where ctx ended first.
func (c *capture) entry(ctx context.Context, method string) (*sessions.Entry, error) {
	if c.over != "" {
		return c.lost(method), nil
	}
	messages := c.messages()
	if len(messages) > 0 && dig(messages[0], 3, 3) != nil { // a plan that is compressed
		select {
		case unpacking <- struct{}{}:
			defer func() { <-unpacking }()
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: too many compressed plans: %w", sessions.ErrUnavailable, ctx.Err())
		}
	}
	e := readState(method, messages)
	if e != nil {
		e.What = cutWhat(e.What)
	}
	return e, nil
}

// mostWhat is how long the name of an act may be, in bytes. Owners read it, and clients
// are told it in a header.
const mostWhat = 200

func cutWhat(what string) string {
	if len(what) <= mostWhat {
		return what
	}
	return strings.ToValidUTF8(what[:mostWhat], "") + "..."
}

// lost is the entry of an act that was given up.
func (c *capture) lost(method string) *sessions.Entry {
	if c.upload && forwarded(c.what) { // clients send such a file in a call of its own
		return nil
	}
	what := "an act of " + method
	switch act := c.scan.act; {
	case c.upload:
		what = cutWhat(artifactText(c.what))
	case act.text:
		what = "what a SQL statement changed"
	case method == "Config":
		what = "the configuration"
	case act.number == 3:
		what = "a temporary view that was made of a DataFrame"
	case act.number == 1 || act.number == 10:
		what = "a function"
	case act.number == 12:
		what = "a data source"
	}
	return &sessions.Entry{Method: method, What: what, Lost: c.over, Notable: true}
}

// sizeText words a number of bytes for people.
func sizeText(n int) string {
	if n%(1<<20) == 0 {
		return strconv.Itoa(n>>20) + " MiB"
	}
	return strconv.Itoa(n) + " bytes"
}

package proxy

import (
	"encoding/binary"
	"time"

	"github.com/sconce-dev/sconce/auth"
	"github.com/sconce-dev/sconce/proxy/relay"
	"github.com/sconce-dev/sconce/sessions"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/encoding/protowire"
)

// restWithin is how long the message of a request may take that is answered here.
const restWithin = 10 * time.Second

// rest answers a request that only ends what runs, for a session that is idle, or
// whose engine has ended: nothing runs, so there is nothing to end, and no engine to ask.
// It counts as one that goes to an engine does, and past a limit rest says so.
func (r *Router) rest(s stream, q *request, id *auth.Identity) *Refusal {
	m := r.meters.of(r.live.session(q.session), id)
	if o := m.enter(r.meters.at(r.now()), asksLess); o.limit != "" {
		row := o.row()
		return &row
	}
	c := &resting{router: r, method: q.method, session: q.session, meter: m}
	c.follow.Start(q.method.Schema)
	r.tally.start(q.method.number)
	s.Forward(r.nowhere, q.head, c)
	timer := time.NewTimer(restWithin)
	defer timer.Stop()
	select {
	case <-s.Gone():
	case <-timer.C:
		s.Cut(refuseMessageMissing.Reply())
	}
	return nil
}

// resting is the relay.Call of such a stream.
type resting struct {
	router  *Router
	method  *method
	session sessions.ID
	meter   *meter
	follow  relay.Follower
}

// Edit is part of relay.Call. Nothing of p goes anywhere.
func (c *resting) Edit(p []byte, end bool, e *relay.Edits) relay.Verdict {
	e.Drop(len(p))
	for {
		n, event := c.follow.Next(p)
		p = p[n:]
		switch event {
		case relay.EventEnd:
			e.Reply = c.answer()
			return relay.Cut
		case relay.EventNone:
			if !end {
				return relay.Wait
			}
			e.Reply = c.refuse(&refuseMessageMissing)
			return relay.Cut
		case relay.EventMessage, relay.EventField: // on to its end
		default: // EventFault
			row, ok := refuseBody(faultMalformed(&c.follow))
			if !ok {
				row = refuseMessageMissing
			}
			e.Reply = c.refuse(&row)
			return relay.Cut
		}
	}
}

func (c *resting) refuse(row *Refusal) *relay.Reply {
	c.router.tally.refuse(*row)
	return row.Reply()
}

// answer is the response that an engine without the operation or session would
// give: field 1 of each is the session_id, which clients compare with theirs;
// field 2 of ReleaseExecuteResponse is the operation_id.
func (c *resting) answer() *relay.Reply {
	text, _ := c.follow.Text(slotSession)
	id, ok := sessions.ParseSparkID(string(text))
	if !ok {
		row := refuseSparkSession.With("problem", "and this one is not")
		return c.refuse(&row)
	}
	if c.method.Name == "ReleaseSession" && c.router.journal != nil {
		c.router.journal.Forget(c.session, id) // no engine is to have it again
	}
	message := protowire.AppendTag(make([]byte, relay.PrefixLen, 128), 1, protowire.BytesType)
	message = protowire.AppendString(message, string(id))
	if op, ok := c.follow.Text(slotOperation); ok && c.method.Releases {
		message = protowire.AppendTag(message, 2, protowire.BytesType)
		message = protowire.AppendBytes(message, op)
	}
	binary.BigEndian.PutUint32(message[1:], uint32(len(message)-relay.PrefixLen)) //nolint:gosec // two ids
	return &relay.Reply{
		Status:  "200",
		Header:  []hpack.HeaderField{{Name: "content-type", Value: "application/grpc"}},
		Body:    message,
		Trailer: grpcOKTrailer,
	}
}

// Broken is part of relay.Call. There is no backend, so it is the relay that
// could not wait for the message.
func (c *resting) Broken(relay.Break) *relay.Reply { return c.refuse(&refuseMessageMissing) }

// Done is part of relay.Call.
func (c *resting) Done(st relay.Stats) {
	c.meter.leave()
	c.router.tally.finish(c.method.number, st)
}

var grpcOKTrailer = []hpack.HeaderField{{Name: "grpc-status", Value: "0"}}

package proxy

import (
	"strings"

	"github.com/sconce-dev/sconce/proxy/relay"
	"golang.org/x/net/http2/hpack"
)

// A replica that drains need not wait for the end of every result. Spark Connect has
// a reattachable result end with OK before it is complete: the client then asks for
// the rest of it with ReattachExecute, at once, and says which message it had last.
// Apache Spark does so itself every two minutes. So Sconce may do it too, between two
// messages, once the client knows that it is to open no more streams here: its request
// goes to another replica, and no row is lost or comes twice.
//
// That is only done where it is certain to go well (handsOver, handover.safe); every
// other stream is waited for, up to drain_timeout.

// takesUp are the HTTP/2 libraries of the clients that were seen to take such a result
// up: PySpark and the JVM client. That the request says reattachable tells their
// version, since 3.5 was the first to say so. The clients in Rust say it too, and fail.
var takesUp = [...]string{"grpc-python/", "grpc-java-netty/"}

// handover looks at an answer for the message behind which it may end.
type handover struct {
	call   *call
	follow relay.Follower
	stays  bool // the answer goes on to its own end
}

// Where the Follower of an answer keeps what it says, and the numbers of that in
// ExecutePlanResponse.
const (
	slotServer   = 1 // server_side_session_id
	slotComplete = 2 // result_complete

	fieldServer   = 15
	fieldComplete = 14
)

func handoverSchema() (*relay.Schema, error) {
	return relay.NewSchema(
		relay.Field{Number: fieldServer, Kind: relay.FieldText, Slot: slotServer},
		relay.Field{Number: fieldComplete, Kind: relay.FieldMessage, Slot: slotComplete},
	)
}

// reattaches is the reply that ends an answer for the client to reattach.
var reattaches = relay.Reply{Trailer: []hpack.HeaderField{{Name: "grpc-status", Value: "0"}}}

// HandOver is relay.Handover.
func (c *call) HandOver() func(p []byte) (n int, end *relay.Reply) {
	if !c.handsOver() {
		return nil
	}
	h := &handover{call: c}
	h.follow.Start(c.router.answers)
	return h.next
}

// handsOver: the client comes back for the rest, and what runs is no act that the
// journal waits for the end of.
func (c *call) handsOver() bool {
	if c.method.Shape != ServerStream || !c.reattachable() || c.operation() == nil || !c.whole.Load() || c.ticket.Load() != nil {
		return false
	}
	agent := c.stream.Header().Get("user-agent")
	for _, known := range takesUp {
		if strings.HasPrefix(agent, known) {
			return true
		}
	}
	return false
}

// next follows the answer to the end of a message that it may end behind.
func (h *handover) next(p []byte) (n int, end *relay.Reply) {
	for !h.stays {
		k, ev := h.follow.Next(p[n:])
		n += k
		switch ev {
		case relay.EventNone:
			return n, nil
		case relay.EventFault:
			h.stays = true
		case relay.EventEnd:
			if h.stays = !h.safe(); !h.stays {
				h.call.handed.Store(true)
				h.call.router.tally.handed.Add(1)
				return n, &reattaches
			}
		}
	}
	return n, nil
}

// safe: the engine can repeat what the client did not get, and there is more of it. An
// engine that calls the session by a name of its own is Apache Spark. Sail calls it
// what the client does; it forgets an operation once its last message was sent, and
// sends the schema again, which PySpark's toLocalIterator does not take. What is
// compressed, or does not say, is not certain.
func (h *handover) safe() bool {
	if _, complete := h.follow.Varint(slotComplete); complete || h.follow.Flag() != 0 {
		return false
	}
	id, ok := h.follow.Text(slotServer)
	return ok && len(id) > 0 && string(id) != string(h.call.spark())
}

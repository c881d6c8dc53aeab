package proxy

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sconce-dev/sconce/sessions"
)

// Each answer of an engine says what the engine calls the client's session
// (server_side_session_id), clients say it back (client_observed_server_side_session_id),
// and both sides end the session over another one. After a wake the engine is
// another, and so is its name for the session. So from the second engine on
// each request names the engine's own id at its end, and each answer to it the one
// that the client said: the last occurrence of a field is the one that counts. Which one
// a client holds to be true, it says itself, so nothing has to be remembered while
// the first engine lives.

// claimIDLen is the length of the ids: both engines use UUIDs.
const claimIDLen = len("00000000-0000-0000-0000-000000000000")

// paddingField takes the place of a claim where the engine's id is not known: a
// field of the range that protobuf keeps for itself, which every parser skips.
const paddingField = 19000

// claimLen is how many bytes a claim takes in a request of m.
func claimLen(m *Method) uint64 {
	if m.Observed == 0 {
		return 0
	}
	return uint64(protowire.SizeTag(protowire.Number(m.Observed)) + protowire.SizeBytes(claimIDLen)) //nolint:gosec // some 39
}

// claimed is what is put behind a message: the length of its claim was promised
// before its session was known.
func (s *stamp) claimed() []byte {
	if !s.claims || s.claim != nil {
		return s.claim
	}
	size := int(claimLen(s.method)) //nolint:gosec // some 39
	b := make([]byte, 0, size)
	if id := s.host.serverID(s.spark()); len(id) == claimIDLen {
		b = protowire.AppendTag(b, protowire.Number(s.method.Observed), protowire.BytesType)
		b = protowire.AppendString(b, id)
	} else {
		b = protowire.AppendTag(b, paddingField, protowire.BytesType)
		b = protowire.AppendBytes(b, make([]byte, size-len(b)-1))
	}
	s.claim = b
	return b
}

// observes notes what the client says that the engine calls its session.
func (s *stamp) observes() {
	if !s.claims {
		return
	}
	text, ok := s.follow.Text(slotObserved)
	if !ok {
		return
	}
	id := string(text)
	s.observed.Store(&id)
}

// carried is part of stampHost.
func (c *call) carried() bool { return c.to.route.Carries() }

// serverID is part of stampHost.
func (c *call) serverID(id sessions.SparkID) string { return c.to.route.Spark(id).ServerID() }

// Suffix is relay.Amender: the id that the client knows, for each message of the
// answer, where the engine's is another one.
func (c *call) Suffix() []byte {
	if !c.to.route.Carries() {
		return nil
	}
	spark := c.to.route.Spark(c.spark())
	said := ""
	if p := c.observed.Load(); p != nil {
		said = *p
	}
	known := spark.Observed(said)
	if known == "" || known == spark.ServerID() {
		return nil
	}
	b := protowire.AppendTag(nil, protowire.Number(c.method.ServerID), protowire.BytesType)
	return protowire.AppendString(b, known)
}

package configs

import (
	"slices"
	"strings"
	"time"
)

// Limits bound what one owner and one organisation may have, and what one
// process, and one connection, may cost. Frames are per
// second and connection, after a burst of ten times as many; past them the
// connection ends. Zero is a limit that is not there only where it says so.
type Limits struct {
	// SessionsPerOwner and SessionsPerOrg bound sessions that are not closed; 0 = no limit.
	SessionsPerOwner int `yaml:"sessions_per_owner"`
	SessionsPerOrg   int `yaml:"sessions_per_org"`
	// EnginesPerOwner and EnginesPerOrg bound engines that are up for one session, of
	// clusters that Sconce launches; 0 = no limit.
	EnginesPerOwner int `yaml:"engines_per_owner"`
	EnginesPerOrg   int `yaml:"engines_per_org"`
	// TokensPerSession bounds the tokens of a session that are good, TokensPerOwner and
	// TokensPerOrg those of all sessions; of the latter two 0 = no limit.
	TokensPerSession int `yaml:"tokens_per_session"`
	TokensPerOwner   int `yaml:"tokens_per_owner"`
	TokensPerOrg     int `yaml:"tokens_per_org"`
	// Connections and ConnectionsPerIP bound open client connections; 0 = no limit.
	Connections      int `yaml:"connections"`
	ConnectionsPerIP int `yaml:"connections_per_ip"`
	// HandshakeTimeout bounds each of: saying what is spoken, the TLS
	// handshake, the HTTP/2 preface.
	HandshakeTimeout time.Duration `yaml:"handshake_timeout"`
	// Streams is how many streams a connection may have open.
	Streams int `yaml:"streams"`
	// HeaderBytes bounds one header list, 32 bytes counted for each field.
	HeaderBytes Size `yaml:"header_bytes"`
	// Continuations is how many CONTINUATION frames a header block may take.
	Continuations int `yaml:"continuations"`
	// StreamWindow is what a stream may have under way at first, MaxStreamWindow
	// what it may grow to, GrownWindows what all have grown by together.
	StreamWindow    Size `yaml:"stream_window"`
	MaxStreamWindow Size `yaml:"max_stream_window"`
	GrownWindows    Size `yaml:"grown_windows"`
	// Held is what a stream may send before it is known where it goes.
	Held          Size `yaml:"held"`
	Pings         int  `yaml:"pings"`
	Settings      int  `yaml:"settings"`
	Resets        int  `yaml:"resets"`
	EmptyFrames   int  `yaml:"empty_frames"`
	Priorities    int  `yaml:"priorities"`
	WindowUpdates int  `yaml:"window_updates"`
	UnknownFrames int  `yaml:"unknown_frames"`
	// PendingControl bounds the control frames that wait for a peer that does
	// not read, in bytes.
	PendingControl Size `yaml:"pending_control"`
	// Tarpit is how long a connection that broke a rule, or one of these bounds, stays
	// unread before it ends; 0 = it ends at once.
	Tarpit time.Duration `yaml:"tarpit"`
	// PingAfter is how long a connection is silent before it is asked whether
	// it lives, PingTimeout how long the answer may take.
	PingAfter   time.Duration `yaml:"ping_after"`
	PingTimeout time.Duration `yaml:"ping_timeout"`

	// ControlStreams is how many calls of the control API may be open, and as many of
	// what wants no credential, a fifth of them from one address; 0 = no limit.
	ControlStreams int `yaml:"control_streams"`
	// ControlRequests is how many calls of the control API one owner may begin in a
	// second, after a burst of ten times as many; 0 = no limit.
	ControlRequests int `yaml:"control_requests"`

	// What one token, session, owner, organisation and process may do on one replica:
	// open streams of Spark Connect, bytes of their bodies that are under way, requests per
	// second after a burst of ten times as many, and bytes of AddArtifacts in an hour.
	// 0 = no limit.
	TokenStreams    int `yaml:"token_streams"`
	SessionStreams  int `yaml:"session_streams"`
	OwnerStreams    int `yaml:"owner_streams"`
	OrgStreams      int `yaml:"org_streams"`
	ProcessStreams  int `yaml:"process_streams"`
	TokenRequests   int `yaml:"token_requests"`
	SessionRequests int `yaml:"session_requests"`
	OwnerRequests   int `yaml:"owner_requests"`
	OrgRequests     int `yaml:"org_requests"`
	ProcessRequests int `yaml:"process_requests"`

	TokenInFlight   Size `yaml:"token_in_flight"`
	SessionInFlight Size `yaml:"session_in_flight"`
	OwnerInFlight   Size `yaml:"owner_in_flight"`
	OrgInFlight     Size `yaml:"org_in_flight"`
	ProcessInFlight Size `yaml:"process_in_flight"`

	TokenArtifacts   Size `yaml:"token_artifacts"`
	SessionArtifacts Size `yaml:"session_artifacts"`
	OwnerArtifacts   Size `yaml:"owner_artifacts"`
	OrgArtifacts     Size `yaml:"org_artifacts"`
	ProcessArtifacts Size `yaml:"process_artifacts"`
}

func defaultLimits() Limits {
	return Limits{
		SessionsPerOwner: 100,
		SessionsPerOrg:   10_000,
		TokensPerSession: 1000,
		TokensPerOwner:   10_000,
		TokensPerOrg:     100_000,
		Connections:      16384,
		ConnectionsPerIP: 4096,
		HandshakeTimeout: 5 * time.Second,
		Streams:          100,
		HeaderBytes:      64 << 10,
		Continuations:    32,
		StreamWindow:     256 << 10,
		MaxStreamWindow:  1 << 20,
		GrownWindows:     64 << 20,
		Held:             256 << 10,
		Pings:            200,
		Settings:         20,
		Resets:           20,
		EmptyFrames:      100,
		Priorities:       200,
		WindowUpdates:    1000,
		UnknownFrames:    100,
		PendingControl:   256 << 10,
		Tarpit:           time.Second,
		PingAfter:        30 * time.Second,
		PingTimeout:      10 * time.Second,
		ControlStreams:   500,
		ControlRequests:  50,
		// Far above a person with a notebook: a loop of small calls over loopback
		// makes some hundreds of requests in a second.
		TokenStreams:   1000,
		SessionStreams: 2000,
		OwnerStreams:   5000,
		OrgStreams:     20_000,
		ProcessStreams: 50_000,
		// A download that is not read has a window of it.
		SessionInFlight:  256 << 20,
		OwnerInFlight:    512 << 20,
		OrgInFlight:      1 << 30,
		ProcessInFlight:  2 << 30,
		TokenRequests:    2000,
		SessionRequests:  4000,
		OwnerRequests:    10_000,
		SessionArtifacts: 100 << 30,
		OwnerArtifacts:   500 << 30,
	}
}

// switchable are the limits that may be zero, which is none.
var switchable = []string{
	"connections", "connections_per_ip", "control_streams", "control_requests", "token_streams", "session_streams", "owner_streams", "org_streams", "process_streams",
	"token_in_flight", "session_in_flight", "owner_in_flight", "org_in_flight", "process_in_flight",
	"token_requests", "session_requests", "owner_requests", "org_requests", "process_requests",
	"token_artifacts", "session_artifacts", "owner_artifacts", "org_artifacts", "process_artifacts",
	"sessions_per_owner", "sessions_per_org", "engines_per_owner", "engines_per_org",
	"tokens_per_owner", "tokens_per_org", "tarpit",
}

// limits checks Limits. Every field but those that may be zero is above it.
func (l *loader) limits() {
	c := &l.config.Limits
	for _, k := range l.keysOf("limits.") {
		mayBeZero := slices.Contains(switchable, strings.TrimPrefix(k.path, "limits."))
		if k.value.Int() == 0 && !mayBeZero && !l.faulty(k.path) {
			l.fault(k.path, "zero: this limit cannot be switched off, write a larger one")
		}
	}
	l.between("limits.streams", Size(c.Streams), 1, 1<<20)
	l.between("limits.header_bytes", c.HeaderBytes, 4<<10, 16<<20)
	l.between("limits.stream_window", c.StreamWindow, 16<<10, 1<<30)
	l.between("limits.max_stream_window", c.MaxStreamWindow, c.StreamWindow, 1<<30)
	l.between("limits.held", c.Held, 1<<10, c.StreamWindow)
}

func (l *loader) between(path string, got, low, high Size) {
	if got > 0 && (got < low || got > high) && !l.faulty(path) {
		l.fault(path, "%s: write a number from %s to %s", got, low, high)
	}
}

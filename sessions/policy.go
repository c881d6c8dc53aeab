package sessions

// Actor is who asks for an operation: a verified principal.
type Actor struct {
	// Subject and Org are both set; an actor without one may do nothing.
	Subject, Org string
	// Admin: an administrator of Org, and of no other.
	Admin bool
	// Operator may drain and resume clusters. The Manager knows who is one: whatever
	// a caller writes here is overwritten.
	Operator bool
	// Via is what said so, for the log: "" = a control token of our own, else the
	// issuer of an outside token, or "key:" and the id of an API key.
	Via string
	// RequestID names the call in the log; "" = it has no name.
	RequestID string
	// Source is the address that the call came from, host:port; "" = not known.
	Source string
}

// Action is what an actor asks for.
type Action string

// The actions, as the audit log names them.
const (
	ActionCreate      Action = "session.create"
	ActionDescribe    Action = "session.describe"
	ActionList        Action = "session.list"
	ActionListOrg     Action = "session.list_organisation"
	ActionClose       Action = "session.close"
	ActionIssueToken  Action = "token.issue"
	ActionListTokens  Action = "token.list"
	ActionRevokeToken Action = "token.revoke"
	ActionCreateKey   Action = "key.create"
	ActionListKeys    Action = "key.list"
	ActionListOrgKeys Action = "key.list_organisation"
	ActionRevokeKey   Action = "key.revoke"

	ActionListClusters    Action = "cluster.list"
	ActionDescribeCluster Action = "cluster.describe"
	ActionDrainCluster    Action = "cluster.drain"
	ActionResumeCluster   Action = "cluster.resume"
)

// Known says whether the actor is somebody.
func (a Actor) Known() bool { return a.Subject != "" && a.Org != "" }

// May decides whether the actor may do what touches no one session.
func (a Actor) May(action Action) bool {
	switch action {
	case ActionCreate, ActionList, ActionListKeys, ActionListClusters, ActionDescribeCluster:
		return a.Known()
	case ActionDrainCluster, ActionResumeCluster:
		return a.Known() && a.Operator
	case ActionListOrg, ActionListOrgKeys, ActionCreateKey:
		return a.Known() && a.Admin
	}
	return false
}

// MayTouch decides whether the actor may describe and close a session and
// issue, list and revoke its tokens: its owner may, and an admin of its organisation.
func (a Actor) MayTouch(s Session) bool {
	return a.Known() && a.Org == s.Org && (a.Subject == s.Owner || a.Admin)
}

// MayTouchKey decides whether the actor may revoke an API key: who it speaks for
// may, and an admin of its organisation.
func (a Actor) MayTouchKey(k Key) bool {
	return a.Known() && a.Org == k.Org && (a.Subject == k.Subject || a.Admin)
}

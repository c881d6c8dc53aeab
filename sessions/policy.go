package sessions

// Actor is who asks for an operation: a verified principal.
type Actor struct {
	// Subject and Org are both set; an actor without one may do nothing.
	Subject, Org string
	// Admin: an administrator of Org, and of no other.
	Admin bool
	// RequestID names the call in the log; "" = it has no name.
	RequestID string
	// Source is the address the call came from; "" = it is not known.
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
)

// Known says whether the actor is somebody.
func (a Actor) Known() bool { return a.Subject != "" && a.Org != "" }

// May decides whether the actor may do what touches no one session.
func (a Actor) May(action Action) bool {
	switch action {
	case ActionCreate, ActionList:
		return a.Known()
	case ActionListOrg:
		return a.Known() && a.Admin
	}
	return false
}

// MayTouch decides whether the actor may describe and close a session and
// issue, list and revoke its tokens: its owner may, and an admin of its organisation.
func (a Actor) MayTouch(s Session) bool {
	return a.Known() && a.Org == s.Org && (a.Subject == s.Owner || a.Admin)
}

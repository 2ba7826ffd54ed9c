// Package auth turns the credentials of a request into a principal.
package auth

// A PrincipalKind says what acts.
type PrincipalKind string

// The kinds of principals.
const (
	KindAnonymous   PrincipalKind = ""
	KindUser        PrincipalKind = "user"
	KindServiceUser PrincipalKind = "service_user"
	KindAgent       PrincipalKind = "agent"

	// KindSystem is the server itself: first start, expiry, clean-up.
	KindSystem PrincipalKind = "system"
)

// A Channel says through what a principal acts; it stands in the audit entry.
type Channel string

// The channels.
const (
	ChannelAPI       Channel = "api"
	ChannelTerraform Channel = "terraform"
	ChannelAgent     Channel = "agent"
	ChannelCommand   Channel = "command"
	ChannelSystem    Channel = "system"
)

// A Principal is who asks. The zero value is nobody: it may do nothing.
type Principal struct {
	Kind PrincipalKind

	// ID is the user's id, or the peer's for an agent.
	ID string

	// Name and Email are for the audit entry; either may be empty.
	Name, Email string

	// Role decides the permissions of users; empty for agents.
	Role string

	AccountID string

	// PeerID is set for agents only.
	PeerID string

	// TokenID is the access token that was presented; empty for agents.
	TokenID string

	Channel   Channel
	RequestID string
}

// System is the server itself acting in an account.
func System(accountID string) Principal {
	return Principal{Kind: KindSystem, ID: "system", Name: "system", AccountID: accountID, Channel: ChannelSystem}
}

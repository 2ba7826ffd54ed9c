package netmap

import (
	"net/netip"

	"github.com/wattlenet/wattle/internal/verdict"
)

// A Change is one committed change of an account's desired state. The changes of one write are applied together,
// in order, under one serial. A later change of an object replaces an earlier one.
type Change interface {
	change()
}

// PeerPut says that a peer exists and how it looks now. The ordinal of a peer never changes.
type PeerPut struct{ Peer Peer }

// PeerRemove says that a peer is gone, from its groups too. An unknown id changes nothing.
type PeerRemove struct{ ID string }

// GroupPut says that a group exists with exactly these members. For a few peers among many MembersAdd and
// MembersRemove cost less.
type GroupPut struct {
	ID string
	// Members holds peer ids.
	Members []string
}

// GroupRemove says that a group is gone. Rules that still name it see an empty set.
type GroupRemove struct{ ID string }

// MembersAdd puts peers into a group; a peer that is in it already stays.
type MembersAdd struct {
	Group string
	Peers []string
}

// MembersRemove takes peers out of a group; a peer that is not in it does not matter.
type MembersRemove struct {
	Group string
	Peers []string
}

// PolicyPut says that a policy exists and how it looks now.
type PolicyPut struct{ Policy Policy }

// PolicyRemove says that a policy is gone. An unknown id changes nothing.
type PolicyRemove struct{ ID string }

// SettingsPut says what every peer of the account is told about the network.
type SettingsPut struct{ Settings Settings }

func (PeerPut) change()       {}
func (PeerRemove) change()    {}
func (GroupPut) change()      {}
func (GroupRemove) change()   {}
func (MembersAdd) change()    {}
func (MembersRemove) change() {}
func (PolicyPut) change()     {}
func (PolicyRemove) change()  {}
func (SettingsPut) change()   {}

// A Peer is what the map needs to know of an enrolled machine. Endpoints and presence are not in the map.
type Peer struct {
	ID string
	// Ordinal is dense and unique in the account.
	Ordinal uint32
	// Key is the WireGuard public key in base64.
	Key string
	// NextKey is the key that the machine will change over to; empty for none.
	NextKey string
	// Name is the DNS label.
	Name string
	// Aliases are further DNS labels.
	Aliases []string
	// IP and IPv6 are the overlay addresses.
	IP, IPv6 netip.Addr
	// Approved says whether the peer takes part; one that does not is in no set and sees nobody.
	Approved bool
}

// Settings is what every peer is told about the network.
type Settings struct {
	Network, NetworkV6 netip.Prefix
	// DNSDomain is the domain below which peers have their names.
	DNSDomain string
	// KeyRotationDays is after how many days a machine replaces its WireGuard key; 0 means never.
	KeyRotationDays int
	// PostQuantum says whether machines agree on pre-shared keys: permissive, strict, or empty for no.
	PostQuantum string
	// KeepPaths has machines keep a path open to everybody whom they see.
	KeepPaths bool
}

// A Policy is a list of rules that count or do not count together.
type Policy struct {
	ID      string
	Enabled bool
	// Checks holds the ids of the posture checks that a peer must meet, all of them, to stand in the sources of an
	// accepting rule, in both directions of it. Drops count for every source.
	Checks []string
	Rules  []Rule
}

// A Rule lets sources open traffic to destinations, or forbids it. Either end is a list of groups,
// a single peer or a single resource.
type Rule struct {
	ID      string
	Enabled bool
	// Drop forbids what matches; a drop wins over every accept.
	Drop bool
	// Bidirectional lets the destinations open traffic to the same ports of the sources too.
	Bidirectional bool
	// Protocol is "all", "tcp", "udp" or "icmp"; "ssh" and "netbird-ssh" mean TCP port 22. Empty means "all".
	Protocol string
	// Sources and Destinations hold group ids.
	Sources, Destinations []string
	// SourcePeer and DestinationPeer are peer ids; empty when groups stand at that end.
	SourcePeer, DestinationPeer string
	// SourceResource and DestinationResource are ids of resources of networks; empty when groups or peers stand there.
	SourceResource, DestinationResource string
	// Ports are the destination ports; none means any.
	Ports []PortRange
	// Monitor says that the rule judges nothing and only counts what it matches.
	Monitor bool
	// Term is when the rule counts, and Phase where it stands in that: the map reads no clock.
	Term  verdict.Term
	Phase Phase
}

// A Phase is where a rule stands in its term.
type Phase uint8

// The phases; the zero value is for rules without a term too.
const (
	PhaseActive  Phase = iota
	PhasePending       // its time has not come
	PhaseExpired       // its time is over: machines are not told of it
)

// A PortRange holds the ports from First to Last, both included.
type PortRange struct{ First, Last uint16 }

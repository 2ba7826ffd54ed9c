// Package verdict decides whether a packet may pass under compiled rules.
//
// The agent's packet filter and the control plane both call it, so that they give one answer; that is why it is shared.
// Packet filters written in another language, such as nftables, are held to the same recorded cases
// (verdicttest/cases.json).
//
//	packet ──> monitor rules: each that matches is told of it, and nothing else happens
//	                  │
//	                  v
//	           drop rules, any match? ──yes──> denied by that rule
//	                  │ no
//	                  v
//	           accept rules, any match? ──yes──> allowed by that rule
//	                  │ no
//	                  v
//	           denied by no rule
package verdict

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// A Protocol is what a rule matches.
type Protocol uint8

// The protocols of rules.
const (
	// All is any protocol, ports or not. It is the zero value.
	All Protocol = iota
	TCP
	UDP
	// ICMP is ICMP (RFC 792) and ICMPv6 (RFC 4443).
	ICMP
)

// Protocol numbers of IP (IANA, assigned internet protocol numbers).
const (
	NumberICMP   = 1
	NumberTCP    = 6
	NumberUDP    = 17
	NumberICMPv6 = 58
)

// ParseProtocol reads the name of a protocol as the contract writes it; ok is false for any other text.
func ParseProtocol(name string) (p Protocol, ok bool) {
	switch name {
	case "all":
		return All, true
	case "tcp":
		return TCP, true
	case "udp":
		return UDP, true
	case "icmp":
		return ICMP, true
	}
	return All, false
}

// matches reports whether a packet with the IP protocol number belongs to the protocol.
func (p Protocol) matches(number uint8) bool {
	switch p {
	case All:
		return true
	case TCP:
		return number == NumberTCP
	case UDP:
		return number == NumberUDP
	case ICMP:
		return number == NumberICMP || number == NumberICMPv6
	}
	return false
}

// A Set holds ordinals of peers. A roaring bitmap is a Set. Contains is called on the path of packets: it must not
// allocate, and it must be safe for concurrent use.
type Set interface {
	Contains(ordinal uint32) bool
}

// Only is the set that holds one peer.
type Only uint32

// Contains reports whether ordinal is the one peer.
func (o Only) Contains(ordinal uint32) bool { return uint32(o) == ordinal }

// A PortRange holds the ports from First to Last, both included. A range whose Last is below its First holds none.
type PortRange struct{ First, Last uint16 }

// A Term is when a rule counts: from NotBefore on and before NotAfter. A zero time is no limit.
type Term struct{ NotBefore, NotAfter time.Time }

// Holds reports whether the rule counts at a moment.
func (t Term) Holds(at time.Time) bool {
	return !at.Before(t.NotBefore) && (t.NotAfter.IsZero() || at.Before(t.NotAfter))
}

// Next returns the first moment after at at which Holds gives another answer; zero when there is none.
func (t Term) Next(at time.Time) time.Time {
	ends := !t.NotAfter.IsZero()
	switch {
	case ends && (!at.Before(t.NotAfter) || !t.NotBefore.Before(t.NotAfter)):
		return time.Time{} // over, or never
	case at.Before(t.NotBefore):
		return t.NotBefore
	}
	return t.NotAfter
}

// A Rule accepts or drops what it matches.
type Rule struct {
	// ID names the rule in verdicts.
	ID string
	// Source and Destination must hold the ends of the packet. A nil set holds nobody.
	Source, Destination Set
	// Drop denies what matches; the zero value accepts it.
	Drop bool
	// Monitor says that the rule judges nothing: it is told of what matches, and Drop does not matter.
	Monitor bool
	// Protocol zero is All.
	Protocol Protocol
	// Ports are destination ports; none means any. They count for TCP and UDP packets only: a rule with ports never
	// matches another packet.
	Ports []PortRange
}

// A Packet is what is judged: the first packet of a flow, or each packet of its original direction.
type Packet struct {
	// Source and Destination are ordinals of peers.
	Source, Destination uint32
	// Protocol is the protocol number of IP, as NumberTCP.
	Protocol uint8
	// Port is the destination port; ignored unless the protocol is TCP or UDP.
	Port uint16
}

// A Verdict is the answer for one packet. The zero value denies.
type Verdict struct {
	Allowed bool
	// Rule is the id of the rule that decided; empty when none matched, which denies.
	Rule string
}

// Rules is a list of rules in the order in which they are tried. The zero value denies everything. It does not change
// after New, and is safe for concurrent use.
type Rules struct {
	drops, accepts, monitors []Rule
}

// New prepares rules for Evaluate. The order of rules does not matter: of several rules that match the one with the
// lowest id is the one that decided. The caller must not change the rules or their ports afterwards.
func New(rules []Rule) Rules {
	var prepared Rules
	for _, rule := range rules {
		if rule.Source == nil || rule.Destination == nil {
			continue
		}
		switch {
		case rule.Monitor:
			prepared.monitors = append(prepared.monitors, rule)
		case rule.Drop:
			prepared.drops = append(prepared.drops, rule)
		default:
			prepared.accepts = append(prepared.accepts, rule)
		}
	}
	slices.SortStableFunc(prepared.monitors, byID)
	slices.SortStableFunc(prepared.drops, byID)
	slices.SortStableFunc(prepared.accepts, byID)
	return prepared
}

func byID(a, b Rule) int {
	return cmp.Or(strings.Compare(a.ID, b.ID), cmp.Compare(a.Protocol, b.Protocol))
}

// Evaluate judges a packet. It does not allocate.
func (r Rules) Evaluate(p Packet) Verdict {
	for i := range r.drops {
		if r.drops[i].matches(p) {
			return Verdict{Rule: r.drops[i].ID}
		}
	}
	for i := range r.accepts {
		if r.accepts[i].matches(p) {
			return Verdict{Allowed: true, Rule: r.accepts[i].ID}
		}
	}
	return Verdict{}
}

// Watched calls note with the id of each monitor rule that matches a packet. It does not allocate.
func (r Rules) Watched(p Packet, note func(rule string)) {
	for i := range r.monitors {
		if r.monitors[i].matches(p) {
			note(r.monitors[i].ID)
		}
	}
}

// matches tries the cheap conditions first.
func (r *Rule) matches(p Packet) bool {
	return r.Protocol.matches(p.Protocol) && r.holdsPort(p) &&
		r.Source.Contains(p.Source) && r.Destination.Contains(p.Destination)
}

func (r *Rule) holdsPort(p Packet) bool {
	if len(r.Ports) == 0 {
		return true
	}
	if p.Protocol != NumberTCP && p.Protocol != NumberUDP {
		return false
	}
	for _, ports := range r.Ports {
		if ports.First <= p.Port && p.Port <= ports.Last {
			return true
		}
	}
	return false
}

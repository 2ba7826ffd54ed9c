package connectivity

import (
	"net/netip"
	"slices"
	"time"

	"github.com/pion/ice/v3"
)

// maximumChecks bounds the candidate pairs that are kept of an attempt.
const maximumChecks = 32

// An Offer is a candidate in words: where a machine may be reached.
type Offer struct {
	Kind    string // host, reflexive, mapped or relayed
	Address netip.AddrPort
}

// The kinds of Offer.
const (
	OfferHost      = "host"      // an address of the machine
	OfferReflexive = "reflexive" // as a server sees it (RFC 8445, section 4: server- and peer-reflexive)
	OfferMapped    = "mapped"    // forwarded by the gateway on request
	OfferRelayed   = "relayed"
)

// A Check is one candidate pair of an attempt.
type Check struct {
	Local, Remote netip.AddrPort
	State         string // waiting, in-progress, failed or succeeded (RFC 8445, section 6.1.2.6)
	Chosen        bool
}

// A Record is what an attempt at a direct path has tried.
type Record struct {
	Began  time.Time
	Took   time.Duration // 0 while it runs
	Local  []Offer       // told to the peer
	Remote []Offer       // told by the peer
	Checks []Check
}

// offers are the candidates of this machine that an attempt tells.
func (p *Pathfinder) offers(a *attempt) []Offer {
	var list []Offer
	for _, addr := range a.addrs {
		list = append(list, Offer{OfferHost, addr})
	}
	for _, addr := range p.beyond(a) {
		kind := OfferReflexive
		if addr == p.mapping.External {
			kind = OfferMapped
		}
		list = append(list, Offer{kind, addr})
	}
	return list
}

// record is what is known about an attempt, made anew when there is more.
func (p *Pathfinder) record(a *attempt) *Record {
	if a == nil || a.agent == nil || a.joined == "" {
		return nil
	}
	if a.said == nil {
		a.said = &Record{Began: a.began, Took: a.took, Local: p.offers(a), Remote: slices.Clone(a.remote), Checks: a.checked}
	}
	return a.said
}

// inspect returns the candidate pairs that the agent has looked at.
func (a *attempt) inspect() []Check {
	where := make(map[string]netip.AddrPort)
	for _, c := range append(a.agent.GetLocalCandidatesStats(), a.agent.GetRemoteCandidatesStats()...) {
		if addr, err := netip.ParseAddr(c.IP); err == nil {
			where[c.ID] = netip.AddrPortFrom(addr.Unmap(), uint16(c.Port))
		}
	}
	var checks []Check
	for _, pair := range a.agent.GetCandidatePairsStats() {
		checks = append(checks, Check{
			Local: where[pair.LocalCandidateID], Remote: where[pair.RemoteCandidateID],
			State: pair.State.String(), Chosen: pair.Nominated,
		})
	}
	return checks[:min(len(checks), maximumChecks)]
}

// offerKind names the kind of a candidate of ICE.
func offerKind(kind ice.CandidateType) string {
	switch kind {
	case ice.CandidateTypeHost:
		return OfferHost
	case ice.CandidateTypeRelay:
		return OfferRelayed
	}
	return OfferReflexive
}

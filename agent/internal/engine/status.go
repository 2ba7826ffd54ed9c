package engine

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/wattlenet/wattle/agent/internal/connectivity"
	"github.com/wattlenet/wattle/agent/internal/control"
	"github.com/wattlenet/wattle/agent/internal/firewall"
	"github.com/wattlenet/wattle/agent/internal/forward"
	"github.com/wattlenet/wattle/agent/internal/identity"
	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/agent/internal/postquantum"
	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

// Status tells everything that is known at this moment.
func (e *Engine) Status(context.Context) local.Status {
	mine, running, notice := e.now()
	s := local.Status{
		Schema: local.StatusSchema, Version: e.config.Version, State: local.StateNotEnrolled,
		Addresses: []string{}, Peers: []local.Peer{}, Warnings: []string{}, Routes: []local.Route{}, Refused: []local.Refused{}, Forwards: []local.Forward{}, DNS: noDNS(),
		Network: local.Network{Mapped: []string{}}, Firewall: local.Firewall{Opened: []string{}},
	}
	if notice != "" {
		s.Warnings = append(s.Warnings, notice)
	}
	if mine == nil {
		return s
	}
	s.Name, s.PeerID, s.AccountID = mine.Name, mine.PeerID, mine.AccountID
	s.PublicKey = mine.WireGuardKey.Public().String()
	s.Management.URL = mine.ManagementURL
	if !mine.Enrolled() {
		return s
	}
	s.State = local.StateDown
	if mine.Up {
		s.State = local.StateConnecting
	}
	if running != nil {
		running.describe(&s, mine)
	}
	return s
}

// describe fills in what a running link knows.
func (l *link) describe(s *local.Status, mine *identity.Identity) {
	state, wanted, applied, faults := l.snapshot()
	s.State = stateOf(l.ready(), wanted != nil)
	s.Management = management(state, mine.ManagementURL)
	s.Warnings = append(s.Warnings, faults...)
	s.Warnings = append(s.Warnings, warnings(state, l.machine.Note)...)
	s.Tunnel = local.Tunnel{
		Mode: string(l.machine.Mode), Reason: l.machine.ModeReason, Interface: l.machine.Interface, ListenPort: l.machine.Port(),
		Dropped: l.machine.Drops().ByReason(),
	}
	enforced := l.machine.Firewall.Status()
	if enforced.Note != "" {
		s.Warnings = append(s.Warnings, enforced.Note)
	}
	s.Firewall = local.Firewall{
		Kind: enforced.Kind, Rules: enforced.Rules, Dropped: enforced.Dropped, Note: l.machine.Note, Opened: append([]string{}, enforced.Opened...),
		Matched: counted(enforced.Matched), Monitored: counted(enforced.Monitored),
	}
	relay := l.machine.Paths.RelayStatus()
	s.Relay = local.Relay{Server: relay.Server, Region: relay.Region, Transport: relay.Transport, Mapped: relay.Mapped, Error: relay.Error}
	for _, f := range l.forward.Status() {
		s.Forwards = append(s.Forwards, describeForward(f))
		if f.Kind == forward.KindProxy && f.Err == nil && !f.Listen.Addr().IsLoopback() {
			s.Warnings = append(s.Warnings, fmt.Sprintf("whoever reaches %s may use the proxy into the network, it asks for no password; give --proxy an address of the loopback", f.Listen))
		}
	}
	network := l.machine.Paths.NetworkStatus()
	s.Network = local.Network{
		Access: string(network.Access), Mapped: append([]string{}, network.Mapped...),
		Gateway: local.Gateway{
			Protocol: network.Gateway.Protocol, Address: network.Gateway.Address, External: network.Gateway.External, Error: network.Gateway.Error,
		},
	}
	if wanted == nil {
		return
	}
	position := applied.Position()
	l.mu.Lock()
	if l.unsaved != "" {
		s.Warnings = append(s.Warnings, l.unsaved)
	}
	s.Map = local.Map{Epoch: position.Epoch, Serial: position.Serial, Digest: position.Digest, ApplyMillis: millis(l.took)}
	l.mu.Unlock()
	s.Name = wanted.self.view.Name
	s.FQDN = s.Name
	if wanted.self.view.DnsDomain != "" {
		s.FQDN += "." + wanted.self.view.DnsDomain
	}
	s.PostQuantum = string(wanted.keys)
	s.Addresses = addresses(wanted.self.ipv4.Addr(), wanted.self.ipv6.Addr())
	s.DNS = l.describeDNS(wanted)
	if s.DNS.Error != "" {
		s.Warnings = append(s.Warnings, s.DNS.Error)
	}
	if !wanted.self.view.Approved {
		s.Warnings = append(s.Warnings, "this machine waits for approval: an administrator must approve it before it sees others")
	}
	if problem := l.rotation.describe(s, mine); problem != "" {
		s.Warnings = append(s.Warnings, problem)
	}
	if wanted.lacking != "" {
		s.Warnings = append(s.Warnings, wanted.lacking)
	}
	describeRefused(s, wanted.refusals())
	stats, err := l.machine.Device.Stats()
	if err != nil {
		s.Warnings = append(s.Warnings, err.Error())
	}
	for _, p := range wanted.crowd.everybody() {
		s.Peers = append(s.Peers, l.describePeer(p, stats[p.key].With(stats[p.next])))
	}
	s.Warnings = append(s.Warnings, wanted.unknownPeers()...)
	s.Warnings = append(s.Warnings, keyless(wanted.keys, s.Peers)...)
	l.describeRoutes(s, wanted)
}

// keyless warns of peers that a strict machine exchanges nothing with.
func keyless(mode postquantum.Mode, peers []local.Peer) []string {
	var names []string
	for _, p := range peers {
		if mode == postquantum.Strict && p.PostQuantum == string(postquantum.Unavailable) {
			names = append(names, p.Name)
		}
	}
	switch others := len(names) - 1; {
	case others < 0:
		return nil
	case others > 0:
		names[0] += fmt.Sprintf(" and %d others", others)
	}
	return []string{fmt.Sprintf("nothing flows between this machine and %s, which can agree on no post-quantum key; `wattle status --detail` says why", names[0])}
}

// describeRoutes tells where destinations outside of the network are led, and
// warns of those that are not.
func (l *link) describeRoutes(s *local.Status, wanted *desired) {
	names := map[string]string{}
	for _, p := range s.Peers {
		names[p.ID] = p.Name
	}
	l.mu.Lock()
	waiting := l.waiting
	l.mu.Unlock()
	silent := slices.ContainsFunc(wanted.destinations, func(d *destination) bool {
		status, known := l.machine.Paths.Status(d.router)
		return d.isExit() && d.led() && known && status.Lost
	})
	s.Warnings = append(s.Warnings, wanted.exit.warnings(silent)...)
	host := l.machine.Routes.Status()
	s.Warnings = append(s.Warnings, host.Notes...)
	for _, overlap := range host.Local {
		s.Warnings = append(s.Warnings, fmt.Sprintf("the route to %s overlaps the local subnet %s at %s, which stays local; renumber one of them", overlap.Destination, overlap.Subnet, overlap.Interface))
	}
	for _, d := range wanted.destinations {
		if d.refusal != "" && !d.isExit() && !d.declined {
			s.Warnings = append(s.Warnings, fmt.Sprintf("the route %s to %s is not used: %s", d.views[0].Name, d.prefix, d.refusal))
		}
		s.Routes = append(s.Routes, d.describe(names, waiting))
	}
}

func counted(counts []firewall.Count) []local.Counted {
	list := make([]local.Counted, len(counts))
	for i, met := range counts {
		list[i] = local.Counted(met)
	}
	return list
}

func stateOf(ready, working bool) string {
	switch {
	case ready:
		return local.StateReady
	case working:
		return local.StateOffline
	}
	return local.StateConnecting
}

func management(state control.State, url string) local.Management {
	m := local.Management{
		URL: url, Connected: state.Connected, CaughtUp: state.CaughtUp, Server: state.Server,
		ClockOffsetSeconds: state.ClockOffset.Round(time.Second).Seconds(),
	}
	if !state.Since.IsZero() {
		m.Since = &state.Since
	}
	if state.Err != nil {
		m.Error = explain(state.Err, url, state.ClockOffset).Error()
	}
	if control.Foreign(state.Err) {
		// This machine has enrolled there: the address is right.
		m.Error += "; if this network wants a login in a browser first, log in, and the machine connects by itself"
	}
	return m
}

func warnings(state control.State, note string) []string {
	var list []string
	if state.ClockOffset != 0 {
		direction := "behind"
		if state.ClockOffset < 0 {
			direction = "ahead"
		}
		list = append(list, fmt.Sprintf("the clock of this machine is %s %s; set it, certificates and tokens depend on it",
			state.ClockOffset.Abs().Round(time.Second), direction))
	}
	if note != "" {
		list = append(list, note)
	}
	return list
}

func (l *link) describePeer(p peer, counted tunnel.Stats) local.Peer {
	described := local.Peer{
		ID: p.entry.Id, Name: p.entry.Name, PublicKey: p.entry.Key, Path: "idle",
		Addresses:     addresses([]netip.Addr{p.ipv4, p.ipv6}...),
		ReceivedBytes: counted.ReceivedBytes, SentBytes: counted.SentBytes,
	}
	if !counted.LastHandshake.IsZero() {
		described.LastHandshake = &counted.LastHandshake
	}
	if path, known := l.machine.Paths.Status(p.entry.Id); known {
		described.Path, described.Reason = string(path.Path), string(path.Reason)
		described.Remote, described.Relay, described.LastError, described.RelayError = socket(path.Remote), path.Relay, path.LastError, path.RelayError
		described.RTTMillis, described.MTU = millis(path.RTT), path.MTU
		described.Attempt = describeAttempt(path.Attempt)
		described.PostQuantum, described.PostQuantumReason = describeKeys(path.Keys, counted.LastHandshake)
	}
	return described
}

// describeKeys says whether the session with a peer is a post-quantum one: it is if
// it began after both sides used a key.
func describeKeys(keys connectivity.KeyStatus, began time.Time) (state, reason string) {
	switch {
	case keys.State == postquantum.Agreed && began.After(keys.Since):
		return local.PostQuantumActive, ""
	case keys.State == postquantum.Agreed:
		return local.PostQuantumPending, local.PostQuantumNextSession
	}
	return string(keys.State), string(keys.Reason)
}

func describeAttempt(r *connectivity.Record) *local.Attempt {
	if r == nil {
		return nil
	}
	described := &local.Attempt{
		Began: r.Began, TookMillis: millis(r.Took), Local: candidates(r.Local), Remote: candidates(r.Remote), Checks: []local.Check{},
	}
	for _, c := range r.Checks {
		described.Checks = append(described.Checks, local.Check{Local: c.Local.String(), Remote: c.Remote.String(), State: c.State, Chosen: c.Chosen})
	}
	return described
}

func candidates(offers []connectivity.Offer) []local.Candidate {
	list := make([]local.Candidate, 0, len(offers))
	for _, o := range offers {
		list = append(list, local.Candidate{Kind: o.Kind, Address: o.Address.String()})
	}
	return list
}

// socket returns the address and port in the description of a candidate.
func socket(candidate string) string {
	for field := range strings.FieldsSeq(candidate) {
		if _, err := netip.ParseAddrPort(field); err == nil {
			return field
		}
	}
	return candidate
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func describeForward(f forward.Status) local.Forward {
	described := local.Forward{
		Kind: string(f.Kind), Network: f.Network, Listen: f.Listen.String(), Target: f.Target, Connections: f.Connections,
	}
	if f.Err != nil {
		described.Error = f.Err.Error()
	}
	return described
}

package state

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"time"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/netmap"
	"github.com/wattlenet/wattle/controlplane/internal/posture"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/store"
)

// Whether a machine meets a posture check is judged here, when its facts or the
// check change, and kept as a bit. The network map knows the bits only.
//
//	report, stream, time ─> facts ─┐
//	                               ├─> judge ─> bit differs ─> write ─> network map
//	check put ─────────────────────┘

// factsLife is how long a machine that holds no stream is believed: one that is
// away for longer may have become anything. A restart of the server begins the
// time anew, so that it ends nobody's access.
const factsLife = time.Hour

// machine is what is known of a peer when it is judged. The caller holds the
// lock of the account.
func (a *account) machine(peerID string) posture.Machine {
	seen := a.present.read(peerID)
	last := seen.lastSeen
	if last.Before(a.since) {
		last = a.since
	}
	if !seen.connected && now().Sub(last) > factsLife {
		return posture.Machine{}
	}
	place := a.places.Find(parseAddress(seen.ip))
	return posture.Machine{Facts: seen.facts, Country: place.Country, City: place.City}
}

// parseAddress reads an address as presence keeps it; none when it is unknown.
func parseAddress(text string) netip.Addr {
	address, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return address
}

// compiledCheck judges every peer by a check that was put, and tells the network
// map who meets it.
func (a *account) compiledCheck(c object[postureBody]) []netmap.Change {
	had, meets := a.meets[c.ID], map[string]bool{}
	bits := netmap.PostureBits{Check: c.ID}
	for _, at := range a.peers.order {
		switch {
		case posture.Fault(c.Body.Checks, a.machine(at.id)) == "":
			meets[at.id] = true
			bits.Pass = append(bits.Pass, at.id)
		case had[at.id]:
			bits.Fail = append(bits.Fail, at.id)
		}
	}
	a.meets[c.ID] = meets
	return []netmap.Change{netmap.CheckPut{Check: netmap.Check{ID: c.ID, Processes: posture.Paths(c.Body.Checks)}}, bits}
}

// judge brings the bits of one peer up to date with what is known of it.
func (a *account) judge(peerID string) (changes []netmap.Change) {
	if _, ok := a.peers.get(peerID); !ok {
		return nil
	}
	machine := a.machine(peerID)
	for c := range a.postureChecks.all() {
		bits := netmap.PostureBits{Check: c.ID}
		switch meets := posture.Fault(c.Body.Checks, machine) == ""; {
		case meets == a.meets[c.ID][peerID]:
			continue
		case meets:
			a.meets[c.ID][peerID] = true
			bits.Pass = []string{peerID}
		default:
			delete(a.meets[c.ID], peerID)
			bits.Fail = []string{peerID}
		}
		changes = append(changes, bits)
	}
	return changes
}

// verdicts are the checks whose bit of a peer differs from what is known of it:
// by their names, why the peer does not meet each, before and now.
func (a *account) verdicts(peerID string) (before, now map[string]string) {
	before, now = map[string]string{}, map[string]string{}
	machine := a.machine(peerID)
	for c := range a.postureChecks.all() {
		fault := posture.Fault(c.Body.Checks, machine)
		if had := a.meets[c.ID][peerID]; had != (fault == "") {
			before[c.Name], now[c.Name] = "not met", "not met: "+fault
			if had {
				before[c.Name] = "met"
			} else {
				now[c.Name] = "met"
			}
		}
	}
	return before, now
}

// assess writes down that a peer meets other checks than before, if it does.
// The facts that decided are written with it, so that a restart comes to the
// same end. One peer of an account is assessed at a time: the last facts win.
func (s *State) assess(ctx context.Context, a *account, peerID string) error {
	a.assessing.Lock()
	defer a.assessing.Unlock()
	a.mu.RLock()
	before, after := a.verdicts(peerID)
	peer, known := a.peers.get(peerID)
	a.mu.RUnlock()
	if !known || len(after) == 0 {
		return nil
	}
	err := s.write(ctx, auth.System(a.id), "", func(w *write) error {
		if _, err := w.peer(peerID, ""); err != nil {
			return err
		}
		row, err := a.present.row(peerID)
		if err != nil {
			return err
		}
		w.change(change{Facts: &row})
		if err := store.PutPresence(w.ctx, w.tx, []store.Presence{row}); err != nil {
			return err
		}
		return w.note("peer.posture", peerID, peer.Name, map[string]any{"posture_checks": before}, map[string]any{"posture_checks": after})
	}, func(*account) {})
	var gone *problem.Problem
	if errors.As(err, &gone) && gone.Kind == problem.KindNotFound {
		return nil // removed meanwhile
	}
	return err
}

// assessAll judges every peer again, for what no report tells: time that passed,
// and writes that failed.
func (s *State) assessAll(ctx context.Context) error {
	var failed []error
	for _, a := range s.all() {
		a.mu.RLock()
		var ids []string
		if len(a.postureChecks.order) > 0 {
			for _, at := range a.peers.order {
				ids = append(ids, at.id)
			}
		}
		a.mu.RUnlock()
		for _, id := range ids {
			failed = append(failed, s.assess(ctx, a, id))
		}
	}
	return errors.Join(failed...)
}

// keepFacts writes what is known of all peers together with a check that judges
// them, so that a restart comes to the same end.
func (s *State) keepFacts(w *write) error {
	a, err := s.account(w.account.ID)
	if err != nil {
		return err
	}
	rows, err := a.present.unwritten()
	if err != nil {
		return err
	}
	return store.PutPresence(w.ctx, w.tx, rows)
}

// unwritten is the presence that the store does not have yet.
func (p *presences) unwritten() (rows []store.Presence, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, seen := range p.of {
		if !seen.dirty {
			continue
		}
		row, err := seen.row(id)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// row is what is kept of a peer's presence.
func (p *presences) row(peerID string) (store.Presence, error) {
	seen := p.read(peerID)
	return seen.row(peerID)
}

func (seen presence) row(peerID string) (store.Presence, error) {
	facts, err := json.Marshal(seen.facts)
	return store.Presence{PeerID: peerID, LastSeen: seen.lastSeen, ConnectionIP: seen.ip, Facts: string(facts)}, err
}

// restore takes up what was kept of the presence of peers.
func (p *presences) restore(rows []store.Presence) error {
	for _, r := range rows {
		seen := &presence{lastSeen: r.LastSeen, ip: r.ConnectionIP}
		if err := json.Unmarshal([]byte(r.Facts), &seen.facts); err != nil {
			return errors.Join(errors.New("facts of peer "+r.PeerID), err)
		}
		p.of[r.PeerID] = seen
	}
	return nil
}

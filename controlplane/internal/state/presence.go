package state

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// presences are what is known of the machines at this moment. They are in no
// network map and move no serial.
type presences struct {
	mu sync.Mutex // guards of and the values in it
	of map[string]*presence
}

type presence struct {
	session   string // of the newest stream
	connected bool
	lastSeen  time.Time
	ip        string
	facts     api.MachineFacts
	dirty     bool // differs from the store
}

func (p *presences) read(peerID string) presence {
	p.mu.Lock()
	defer p.mu.Unlock()
	if seen := p.of[peerID]; seen != nil {
		return *seen
	}
	return presence{}
}

func (p *presences) update(peerID string, fn func(seen *presence)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := p.of[peerID]
	if seen == nil {
		seen = &presence{}
		p.of[peerID] = seen
	}
	fn(seen)
	seen.dirty = true
}

// greet notes a machine that enrolled.
func (p *presences) greet(peerID string, remote netip.Addr, facts api.MachineFacts) {
	p.update(peerID, func(seen *presence) { seen.lastSeen, seen.ip, seen.facts = now(), addressText(remote), facts })
}

func (p *presences) forget(peerID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.of, peerID)
}

// SetPresence notes that a stream of a peer began or ended. The session id keeps
// the late end of an old stream from hiding the begin of a newer one.
func (s *State) SetPresence(peerID, sessionID string, connected bool, remote netip.Addr) {
	a, _, err := s.peer(peerID)
	if err != nil {
		return // removed meanwhile
	}
	a.present.update(peerID, func(seen *presence) {
		if !connected && seen.session != sessionID {
			return
		}
		seen.session, seen.connected, seen.lastSeen = sessionID, connected, now()
		if remote.IsValid() {
			seen.ip = addressText(remote)
		}
	})
	// The address may tell another place; a failure is mended by the next tick.
	s.report("posture was not judged", s.assess(context.Background(), a, peerID))
}

// ReportAgent takes the facts of the calling machine. Access and the name that
// follow from them change before the answer.
func (s *State) ReportAgent(ctx context.Context, p auth.Principal, report api.StatusReport, remote netip.Addr) error {
	if err := faults(report.Validate()); err != nil {
		return err
	}
	a, _, err := s.peer(p.PeerID)
	if err != nil {
		return problem.Unauthenticated(problem.KindUnauthenticated, "this machine was removed from the network; enrol it again")
	}
	a.present.update(p.PeerID, func(seen *presence) {
		seen.facts, seen.lastSeen = report.Facts, now()
		if remote.IsValid() {
			seen.ip = addressText(remote)
		}
	})
	if report.DigestMismatch != nil && *report.DigestMismatch {
		s.cfg.Logger.Error("an agent's map differs from the one that was sent", "account", a.id, "peer", p.PeerID)
	}
	if err := s.followHostname(ctx, p, report.Facts.Hostname); err != nil {
		return err
	}
	return s.assess(ctx, a, p.PeerID)
}

// flushPresence writes what changed since the last time, an account in one transaction. What
// could not be written is left for the next time.
func (s *State) flushPresence(ctx context.Context) error {
	var failed []error
	for _, a := range s.all() {
		rows, err := a.present.take()
		if err == nil && len(rows) > 0 {
			err = s.store.Write(ctx, func(tx *store.Tx) error { return store.PutPresence(context.WithoutCancel(ctx), tx, rows) })
		}
		if err != nil {
			a.present.putBack(rows)
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

func (p *presences) take() (rows []store.Presence, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, seen := range p.of {
		if seen.connected {
			seen.lastSeen, seen.dirty = now(), true
		}
		if !seen.dirty {
			continue
		}
		row, err := seen.row(id)
		if err != nil {
			return rows, err
		}
		rows = append(rows, row)
		seen.dirty = false
	}
	return rows, nil
}

// putBack notes that what take gave is not in the store.
func (p *presences) putBack(rows []store.Presence) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, row := range rows {
		if seen := p.of[row.PeerID]; seen != nil {
			seen.dirty = true
		}
	}
}

// absent returns the peers among ids that hold no stream and were not seen since
// a time.
func (p *presences) absent(ids []string, since time.Time) (gone []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range ids {
		if seen := p.of[id]; seen == nil || !seen.connected && seen.lastSeen.Before(since) {
			gone = append(gone, id)
		}
	}
	return gone
}

package netmap

import (
	"encoding/json"
	"slices"
	"strconv"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
)

// A Delta leads one peer's map from the serial it was asked for to Serial.
type Delta struct {
	// Serial is where the map is afterwards, and what to ask from next.
	Serial int64
	// Digest is the digest of the map afterwards.
	Digest mapstate.Digest
	// ops are shared by all peers of a class.
	ops []*op
}

// Empty reports whether nothing changed for the peer; then there is nothing to send.
func (d Delta) Empty() bool { return len(d.ops) == 0 }

// Ops returns how many changes the delta holds.
func (d Delta) Ops() int { return len(d.ops) }

// Line encodes the delta as a line of the stream, without the newline. prev is the serial that the agent was told last.
func (d Delta) Line(prev int64) []byte {
	size := 128
	for _, o := range d.ops {
		size += len(o.raw) + 1
	}
	line := make([]byte, 0, size)
	line = append(line, `{"type":"delta","prev":`...)
	line = strconv.AppendInt(line, prev, 10)
	line = append(line, `,"serial":`...)
	line = strconv.AppendInt(line, d.Serial, 10)
	line = append(line, `,"ops":[`...)
	for i, o := range d.ops {
		if i > 0 {
			line = append(line, ',')
		}
		line = append(line, o.raw...)
	}
	line = append(line, `],"digest":"`...)
	line = append(line, d.Digest.String()...)
	return append(line, `"}`...)
}

// Event decodes the delta into the type of the contract.
func (d Delta) Event(prev int64) (api.DeltaEvent, error) {
	var event api.DeltaEvent
	return event, json.Unmarshal(d.Line(prev), &event)
}

// Deltas returns everything that changed for a peer after a serial that the engine told before, merged into one delta
// by object. ErrUnknownPeer when the peer is gone; ErrGone when the logs do not reach back so far.
func (e *Engine) Deltas(peerID string, after int64) (Delta, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	p := e.peers[peerID]
	if p == nil {
		return Delta{}, ErrUnknownPeer
	}
	t, ok := p.follow(after, e.serial)
	if !ok {
		return Delta{}, ErrGone
	}
	d := Delta{Serial: e.serial, Digest: p.digest()}
	if shared := p.class.log.merged.Load(); shared.fits(t.lists) {
		d.ops = shared.ops
		return d, nil
	}
	d.ops = merge(t.lists)
	if len(t.lists) > 1 {
		p.class.log.merged.Store(&mergedLists{slices.Clone(t.lists), d.ops})
	}
	return d, nil
}

// mergedLists remembers the last merge of a class: many of its peers ask for the same one.
type mergedLists struct {
	lists [][]*op
	ops   []*op
}

func (m *mergedLists) fits(lists [][]*op) bool {
	return m != nil && len(lists) > 1 && slices.EqualFunc(m.lists, lists, func(a, b []*op) bool {
		return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
	})
}

// digest is that of the peer's whole map.
func (p *peer) digest() mapstate.Digest { return p.class.sum().Plus(p.selfHash) }

// Resume tells how to go on with an agent that has a map already. When ok, the agent's map was checked, and Deltas from
// the returned serial complete it; else it needs a snapshot. ErrUnknownPeer when the peer is gone.
func (e *Engine) Resume(peerID string, has api.MapPosition) (from int64, ok bool, err error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	p := e.peers[peerID]
	if p == nil {
		return 0, false, ErrUnknownPeer
	}
	if has.Epoch != e.cfg.Epoch || has.Serial > e.serial {
		return 0, false, nil
	}
	if has.Digest == p.digest().String() {
		return e.serial, true, nil
	}
	t, ok := p.follow(has.Serial, e.serial)
	if !ok || has.Digest != t.before.String() {
		return 0, false, nil
	}
	return has.Serial, true, nil
}

// Position returns where the peer's map is now.
func (e *Engine) Position(peerID string) (api.MapPosition, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	p := e.peers[peerID]
	if p == nil {
		return api.MapPosition{}, ErrUnknownPeer
	}
	return api.MapPosition{Epoch: e.cfg.Epoch, Serial: e.serial, Digest: p.digest().String()}, nil
}

package tunnel

import "time"

// A peer refuses an initiation whose timestamp is not greater than that of the
// last one it took (WireGuard white paper, section 5.1), however often it is
// repeated. Timestamps are coarse, and a session that is begun anew may follow
// closely on an initiation already sent:
//
//	initiation 1 ->            Rekey: the response to it is of no use any more
//	initiation 2 (not sent: perhaps of the same timestamp)
//	                           stampTime after initiation 1: Rekey, Handshake
//	initiation 3 ->
const (
	// stampTime is more than the 2^24 ns that timestamps are rounded down to.
	stampTime = 25 * time.Millisecond

	// unprompted is less than the 5 s that the device leaves between two
	// initiations of its own, and retried more: it waits 120 s when the first has
	// made a session.
	unprompted = 2 * time.Second
	retried    = 10 * time.Second
)

// Rekey ends the sessions with a peer, so that the next packet begins with a
// handshake; one that was under way begins again. For a peer that has restarted:
// it would drop what the old session sends, and WireGuard itself notices after 15 s.
func (d *Device) Rekey(key PublicKey) {
	pending := d.bind.Endpoint(key).expire()
	d.wg.Rekey(key)
	if pending {
		d.begin(key)
	}
}

// Handshake begins a new session with a peer. The present one, if any, is used
// until the new one stands.
func (d *Device) Handshake(key PublicKey) {
	d.activate(key)
	d.begin(key)
}

func (d *Device) begin(key PublicKey) {
	if err := d.wg.Handshake(key); err != nil {
		d.log.Debug("handshake not begun", "peer", key.String(), "error", err.Error())
	}
}

// again begins a session anew as soon as the peer takes another initiation.
func (d *Device) again(key PublicKey) {
	// Beside the goroutine of the device, which holds what Rekey needs.
	d.moves.Go(func() {
		wait := time.NewTimer(stampTime)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-d.done:
			return
		}
		e := d.bind.Endpoint(key)
		e.again.Store(false)
		e.expire()
		d.wg.Rekey(key)
		d.begin(key)
	})
}

// expire forgets the handshake of ours that is under way, and reports whether
// there was one. The device may be at the response yet: a session that it makes
// of that when it has given the handshake up receives nothing. It may be at the
// peer's initiation, too: that is not answered then, or by a session that has
// ended already.
func (e *Endpoint) expire() (pending bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.bind.now()
	atResponse := e.answered != nil && now-e.answeredAt < int64(handshakeTime)
	atInitiation := e.heard != nil && e.passed && now-e.heardAt < int64(handshakeTime) && (e.response == nil || e.respondedTo != senderIndex(e.heard))
	pending = e.initiation != nil || atResponse || atInitiation
	e.initiation, e.expiredAt = nil, e.bind.now()
	return pending
}

// followsClosely reports whether the initiation that the device sends now may
// have the timestamp of the one before, and sees to it that another one follows.
// When the device made it is not known, only that it was after expire, or 5 s
// after the last. The caller holds mu.
func (e *Endpoint) followsClosely() bool {
	since, ever := e.bind.since(e.initiatedAt)
	if !ever {
		return false
	}
	if since > unprompted {
		if since < retried && e.expiredAt < e.initiatedAt {
			e.bind.counters.retries.Add(1)
		}
		return false
	}
	if e.expiredAt-e.initiatedAt >= int64(stampTime) || e.bind.again == nil || e.forgotten {
		return false
	}
	e.beginAgain()
	return true
}

// beginAgain has the session begun anew in a moment.
func (e *Endpoint) beginAgain() {
	if e.bind.again != nil && e.again.CompareAndSwap(false, true) {
		e.bind.again(e.key)
	}
}

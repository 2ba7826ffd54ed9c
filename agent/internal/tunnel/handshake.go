package tunnel

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"
)

// Choices of ours.
const (
	// crossing is how long our own unanswered initiation outranks the one of a
	// peer with a greater key. Longer than any round trip, shorter than the
	// device's own repetition after 5 s.
	crossing = time.Second

	// handshakeTime is how long the device may take to answer an initiation.
	handshakeTime = 250 * time.Millisecond

	// floodTime is for how long the device refuses every initiation of a peer after
	// one that it has taken: 20 ms (HandshakeInitationRate of wireguard-go).
	floodTime = 20 * time.Millisecond

	// secondThought is less than firstRepeat: the first repetition counts.
	secondThought = 40 * time.Millisecond

	// firstRepeat doubles with each repetition of a lost initiation. The device
	// itself waits 5 s.
	firstRepeat = 50 * time.Millisecond
	lastRepeat  = 2 * time.Second
)

// Handshaking reports whether an initiation of ours waits for its response.
func (e *Endpoint) Handshaking() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.initiation != nil
}

// HandshakeAge returns how long ago either side began a handshake last; false for
// never.
func (e *Endpoint) HandshakeAge() (time.Duration, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.bind.since(max(e.initiatedAt, e.heardAt))
}

// answeredElsewhere ends the repetition of an initiation whose response did not
// pass here.
func (e *Endpoint) answeredElsewhere() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.initiation = nil
	e.stirred.Store(e.bind.now())
}

// noteHandshake learns the session index that the device has chosen, so that
// answers are known by it, and keeps the message for repetition. False means
// that the peer would refuse it: another one follows.
func (e *Endpoint) noteHandshake(message []byte) (send bool) {
	switch {
	case len(message) == initiationSize && wireguardType(message) == messageInitiation:
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.followsClosely() {
			return false
		}
		e.learn(senderIndex(message))
		e.initiation = slices.Clone(message)
		e.initiatedAt = e.bind.now()
		e.delay = firstRepeat // whatever the handshake before has waited for
		e.armRepeat()
	case len(message) == responseSize && wireguardType(message) == messageResponse:
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.response != nil && receiverIndex(message) == e.respondedTo {
			e.beginAgain() // the device has looked at two copies at once, and kept the session of the second
			return false
		}
		e.learn(senderIndex(message))
		e.response = slices.Clone(message)
		e.respondedTo, e.respondedAt = receiverIndex(message), e.bind.now()
		if e.heard != nil && senderIndex(e.heard) != e.respondedTo {
			e.passed = false // the device was at the one before, and refuses what follows within floodTime
		}
		if e.expiredAt == 0 || e.expiredAt < e.heardAt {
			e.initiation = nil // the device has given its own handshake up for the peer's
		}
		// Otherwise Rekey has ended this session before the peer has heard of it,
		// and the initiation is of the one that replaces it.
	}
	return true
}

// senderIndex returns the session index that a handshake message announces.
func senderIndex(message []byte) uint32 { return binary.LittleEndian.Uint32(message[4:8]) }

// receiverIndex returns the session index that a response answers.
func receiverIndex(response []byte) uint32 { return binary.LittleEndian.Uint32(response[8:12]) }

// armRepeat starts the clock for the next repetition. The caller holds mu.
func (e *Endpoint) armRepeat() {
	if e.forgotten {
		return
	}
	if e.delay == 0 {
		e.delay = firstRepeat
	}
	if e.repeat == nil {
		e.repeat = time.AfterFunc(e.delay, e.repeatInitiation)
		return
	}
	e.repeat.Reset(e.delay)
}

// repeatInitiation sends the same initiation again. The receiver refuses it by
// its timestamp if the first has arrived, so a repetition can do no harm.
func (e *Endpoint) repeatInitiation() {
	e.mu.Lock()
	if e.initiation == nil || e.forgotten {
		e.delay = 0
		e.mu.Unlock()
		return
	}
	message := slices.Clone(e.initiation)
	e.delay = min(2*e.delay, lastRepeat)
	if e.bind.now()-e.initiatedAt < int64(2*lastRepeat) {
		e.armRepeat()
	} else {
		e.delay = 0
	}
	e.mu.Unlock()
	r := e.routes.Load()
	for _, p := range []*Path{r.primary, r.also} {
		if p != nil {
			_ = p.send([][]byte{message})
		}
	}
}

// began decides about an initiation of the peer that arrived from: false means
// that the device must not see it.
func (e *Endpoint) began(message []byte, from *origin, now int64) bool {
	e.noteArrival(from, now)
	answer, pass := e.judge(message, now)
	if answer != nil {
		_ = from.path(e.bind).send([][]byte{answer}) // a loss here is repaired by repetition
	}
	return pass
}

func (e *Endpoint) judge(message []byte, now int64) (answer []byte, pass bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	repeated := bytes.Equal(message, e.heard)
	crossed := e.initiation != nil && now-e.initiatedAt < int64(crossing)
	switch {
	case repeated && e.response != nil && e.respondedTo == senderIndex(message):
		// Our response was lost, or this copy was slower. The device would
		// refuse the message by its timestamp, so the same response goes again.
		return slices.Clone(e.response), false
	case repeated && e.passed && now-e.heardAt < int64(handshakeTime):
		// The device is at it: two at once would make two sessions of it.
		return nil, false
	case e.respondedAt != 0 && now-e.respondedAt <= int64(floodTime):
		// The device has just answered another one and would refuse this, which
		// is repeated.
		if !repeated {
			e.heard, e.heardAt, e.passed = slices.Clone(message), now, false
		}
		return nil, false
	case crossed && e.bind.PublicKey().Less(e.key):
		// Both sides began at once. Left alone, each device drops its own
		// handshake for the other's and neither ends; the smaller key leads.
		return slices.Clone(e.initiation), false
	case crossed && (!repeated || now-e.heardAt <= int64(secondThought)):
		// The peer leads, but its device may have had our initiation in its
		// queue when it began, and answer it. It repeats its own only if not.
		if !repeated {
			e.heard, e.heardAt, e.passed = slices.Clone(message), now, false
		}
		return nil, false
	}
	e.heard, e.heardAt, e.passed = slices.Clone(message), now, true
	return nil, true
}

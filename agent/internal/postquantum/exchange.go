// Package postquantum agrees with one peer on a secret that withstands quantum
// computers, from which the pre-shared keys of WireGuard are made.
package postquantum

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Mode is what the account wants of pairs of machines.
type Mode string

// The modes. The zero value is none of them: say Off.
const (
	Off        Mode = "off"
	Permissive Mode = "permissive" // where both machines can
	Strict     Mode = "strict"     // nothing flows without
)

var modes = []Mode{Off, Permissive, Strict}

// State is how far the two machines are.
type State string

// The states. The zero value: this machine wants none.
const (
	Agreed      State = "agreed"
	Pending     State = "pending"
	Unavailable State = "unavailable"
)

// Reason says why there is no secret.
type Reason string

// The reasons of Unavailable, and of Pending.
const (
	ReasonTooOld   Reason = "peer_too_old" // the peer's agent knows nothing of this
	ReasonForeign  Reason = "peer_cannot"  // it knows no mechanism that we know
	ReasonPeerOff  Reason = "peer_off"     // its account, as far as it has heard, does not want it
	ReasonUnheard  Reason = "no_answer"    // the peer has not answered yet
	ReasonNotBegun Reason = "not_begun"    // there was no traffic to begin with
	ReasonUnderway Reason = "under_way"    // the two are at it
)

// Choices of ours.
const (
	// renewAfter is the age at which a secret is replaced while packets flow. At
	// 8 KB for an exchange that is less than half a megabyte a day.
	renewAfter = 30 * time.Minute

	// renewSlack is how much later the side goes that does not lead.
	renewSlack = 2 * time.Minute

	// exchangeInterval is the least time between two exchanges in the long run.
	// A few may follow each other sooner: both machines may restart.
	exchangeInterval = 2 * time.Minute
	exchangeBurst    = 6

	firstRepeat  = time.Second // until what was not answered is said again; doubles
	strictRepeat = 30 * time.Second
	lastRepeat   = 2 * time.Minute

	// crossing is how long an offer may be under way.
	crossing = 250 * time.Millisecond

	// answerLife is how long an answer keeps this side from an offer of its own.
	answerLife = time.Minute
)

// An Exchange is this machine's half of what it agrees on with one peer. It is
// not safe for concurrent use, does nothing by itself and knows no clock.
//
//	        offer, or an offer of the peer          the peer answers, or uses it
//	none ------------------------------> pending ------------------------------> agreed
//	 ^                                                                              |
//	 +--- the peer has restarted, has lost it, or cannot any more ------------------+
//
// Both sides may offer at once: the offer of the one that leads stands. A new
// secret replaces the old one as the first did, without a time of none.
type Exchange struct {
	mechanisms []Mechanism
	leads      bool
	mode       Mode

	current   *Secret // in use; nil: none
	confirmed bool    // the peer uses current
	began     time.Time

	offer *Offer // ours, not answered yet; nil: none
	open  func(answer []byte) ([]byte, error)

	next       *Secret // of our answer, until the peer uses it
	answer     *Answer
	answeredAt time.Time

	met  bool    // the peer has said what it can
	peer Message // the newest

	saidAt   time.Time // what waits for an answer
	repeatAt time.Time
	delay    time.Duration

	tokens   int // exchanges that may begin at once
	earnedAt time.Time
}

// New returns an exchange that has not begun.
func New(mode Mode, mechanisms ...Mechanism) *Exchange {
	return &Exchange{mechanisms: mechanisms, mode: mode, tokens: exchangeBurst}
}

// SetLeads says whether this side leads. Of two machines exactly one should.
func (x *Exchange) SetLeads(leads bool) { x.leads = leads }

// An Effect is what something has changed.
type Effect struct {
	Changed bool  // Secret returns another one
	Reply   bool  // the peer should get Message
	Both    bool  // both sides use the secret now, and did not before
	Err     error // what is wrong with the message
}

// Secret returns what sessions begin with; nil for none.
func (x *Exchange) Secret() *Secret { return x.current }

// Since is when this machine began to use secrets, one after the other; zero: it
// uses none.
func (x *Exchange) Since() time.Time {
	if x.current == nil {
		return time.Time{}
	}
	return x.began
}

// First reports whether the secret in use has followed none.
func (x *Exchange) First() bool { return x.current != nil && x.current.since.Equal(x.began) }

// Strict reports whether either side lets nothing flow without a secret.
func (x *Exchange) Strict() bool { return x.mode == Strict || x.peer.Mode == Strict }

// SetMode takes what the account wants now.
func (x *Exchange) SetMode(mode Mode) (e Effect) {
	if x.mode == mode {
		return e
	}
	x.mode = mode
	if mode == Off {
		e.Changed = x.drop()
	}
	x.delay = 0
	e.Reply = true
	return e
}

// Forget forgets what only the peer's former process knew.
func (x *Exchange) Forget() (changed bool) {
	changed = x.current != nil
	x.current, x.confirmed = nil, false
	x.next, x.answer = nil, nil
	x.peer.Uses, x.peer.Heard = "", ""
	x.delay = 0
	return changed
}

// drop forgets everything that was exchanged.
func (x *Exchange) drop() (changed bool) {
	x.offer, x.open = nil, nil
	return x.Forget()
}

// Message returns what the peer shall know.
func (x *Exchange) Message() *Message {
	m := &Message{Mode: x.mode, Heard: x.peer.Uses, Offer: x.offer, Answer: x.answer}
	for _, known := range x.mechanisms {
		m.Can = append(m.Can, known.Name())
	}
	if x.current != nil {
		m.Uses = x.current.name
	}
	return m
}

// Waiting reports whether the exchange goes on only when the peer has said more.
func (x *Exchange) Waiting() bool {
	return x.offer != nil || x.next != nil || x.current != nil && !x.confirmed
}

// Repeating reports whether Message was said more than once without an answer.
func (x *Exchange) Repeating() bool { return x.delay > firstRepeat }

// State returns how far the two machines are, and why no further.
func (x *Exchange) State() (State, Reason) {
	switch reason := x.obstacle(); {
	case x.mode == Off:
		return "", ""
	case reason != "":
		return Unavailable, reason
	case x.current != nil:
		return Agreed, ""
	case x.next != nil, x.met && x.offer != nil:
		return Pending, ReasonUnderway
	case x.offer != nil:
		return Pending, ReasonUnheard
	}
	return Pending, ReasonNotBegun
}

// obstacle says why the two cannot agree; empty as far as is known they can.
func (x *Exchange) obstacle() Reason {
	switch {
	case !x.met:
		return ""
	case len(x.peer.Can) == 0:
		return ReasonTooOld
	case x.common() == nil:
		return ReasonForeign
	case x.peer.Mode == Off:
		return ReasonPeerOff
	}
	return ""
}

// common returns the first of our mechanisms that the peer has too; nil for none.
func (x *Exchange) common() Mechanism {
	for _, m := range x.mechanisms {
		if !x.met || slices.Contains(x.peer.Can, m.Name()) {
			return m
		}
	}
	return nil
}

// Receive takes a message of the peer that has passed Check; nil stands for the
// word of an agent that knows nothing of this.
func (x *Exchange) Receive(m *Message, now time.Time) (e Effect) {
	if m == nil {
		m = &Message{Mode: Off}
	}
	x.met, x.peer = true, *m
	x.peer.Offer, x.peer.Answer = nil, nil // not to be kept
	if x.mode == Off || x.obstacle() != "" {
		return Effect{Changed: x.drop(), Reply: m.Offer != nil}
	}
	if m.Answer != nil {
		e.Err = x.takeAnswer(m.Answer, now, &e)
	}
	if x.next != nil && m.Uses == x.next.name {
		x.use(x.next, now)
		e.Changed = true
	}
	if m.Offer != nil {
		e.Err = cmp.Or(e.Err, x.takeOffer(m.Offer, now, &e))
	}
	switch {
	case x.current == nil:
	case m.Uses == x.current.name:
		e.Both = !x.confirmed
		x.confirmed = true
	case !x.confirmed && m.Heard != x.current.name: // it has not heard yet that we use it
	default:
		x.current, x.confirmed = nil, false // it has lost what we had agreed on
		x.delay = 0
		e.Changed = true
	}
	lacks := m.Uses != x.name() && x.offer == nil && x.next == nil // what it uses, and nothing will end that
	e.Reply = e.Reply || e.Changed || lacks || m.Heard != x.name()
	return e
}

func (x *Exchange) name() string {
	if x.current == nil {
		return ""
	}
	return x.current.name
}

// takeAnswer uses the secret of our offer.
func (x *Exchange) takeAnswer(a *Answer, now time.Time, e *Effect) error {
	if x.offer == nil || a.Offer != x.offer.ID {
		return nil // of one that is over
	}
	offer, open := x.offer, x.open
	x.offer, x.open = nil, nil // an offer is answered once
	shared, err := open(a.Text)
	if err != nil {
		return err
	}
	s, err := newSecret(offer.Mechanism, shared, offer.Text, a.Text)
	if err != nil {
		return err
	}
	if s.name != a.Name {
		return fmt.Errorf("%w: the answer gives another secret", errMessage)
	}
	x.use(s, now)
	e.Changed = true
	return nil
}

// use makes s what sessions begin with.
func (x *Exchange) use(s *Secret, now time.Time) {
	if x.current == nil {
		x.began = now
	}
	x.current, x.confirmed = s, false
	s.since = now
	x.offer, x.open, x.next, x.answer = nil, nil, nil, nil
	x.delay = 0
	x.schedule(now)
}

// takeOffer answers an offer of the peer. Of two at once that of the leading
// side stands.
func (x *Exchange) takeOffer(o *Offer, now time.Time, e *Effect) error {
	if x.answer != nil && x.answer.Offer == o.ID {
		e.Reply = true // the answer was lost
		return nil
	}
	if x.offer != nil && x.leads {
		if e.Reply = now.Sub(x.saidAt) > crossing; e.Reply { // else ours is on its way
			x.schedule(now)
		}
		return nil
	}
	at := slices.IndexFunc(x.mechanisms, func(m Mechanism) bool { return m.Name() == o.Mechanism })
	if at < 0 {
		return nil
	}
	if x.offer != nil {
		x.tokens++ // for the one that is given up
	}
	if !x.spend(now) {
		return nil
	}
	shared, text, err := x.mechanisms[at].Answer(o.Text)
	if err != nil {
		return err
	}
	s, err := newSecret(o.Mechanism, shared, o.Text, text)
	if err != nil {
		return err
	}
	x.offer, x.open = nil, nil
	x.next, x.answer, x.answeredAt = s, &Answer{Offer: o.ID, Text: text, Name: s.name}, now
	e.Reply = true
	return nil
}

// A Use says what the pair is used for at the moment.
type Use struct {
	Session bool // one stands: a handshake that fails now costs nothing
	Traffic bool // packets have left not long ago
}

// Step does what time has come for, and reports whether the peer should get
// Message. Call it while the pair is in use.
func (x *Exchange) Step(now time.Time, use Use) (send bool) {
	if x.mode == Off || x.obstacle() != "" {
		return false
	}
	if x.due(now, use) && x.begin(now) {
		x.delay = 0
		x.schedule(now)
		return true
	}
	if x.offer == nil && (x.current == nil || x.confirmed) || now.Before(x.repeatAt) {
		return false
	}
	x.schedule(now)
	return true
}

// due reports whether there should be an offer of ours.
func (x *Exchange) due(now time.Time, use Use) bool {
	switch {
	case x.offer != nil, x.next != nil && now.Sub(x.answeredAt) < answerLife:
		return false
	case x.current == nil && x.Strict():
		return true
	case x.current == nil:
		// Without a session the handshake that the pair is waiting for would meet
		// the moment when only one side has the key.
		return x.met && use.Session
	}
	age := renewAfter
	if !x.leads {
		age += renewSlack
	}
	return x.confirmed && use.Session && use.Traffic && now.Sub(x.current.since) >= age
}

// begin makes an offer, if there may be one now.
func (x *Exchange) begin(now time.Time) bool {
	mechanism := x.common()
	if mechanism == nil || !x.spend(now) {
		return false
	}
	text, open, err := mechanism.Offer()
	if err != nil {
		return false // there is no randomness; the next step tries again
	}
	x.next, x.answer = nil, nil
	x.offer, x.open = &Offer{ID: randomName(), Mechanism: mechanism.Name(), Text: text}, open
	return true
}

// spend takes one of the exchanges that may begin.
func (x *Exchange) spend(now time.Time) bool {
	if x.tokens == exchangeBurst {
		x.earnedAt = now
	}
	earned := int(now.Sub(x.earnedAt) / exchangeInterval)
	if earned > 0 {
		x.tokens = min(exchangeBurst, x.tokens+earned)
		x.earnedAt = x.earnedAt.Add(time.Duration(earned) * exchangeInterval)
	}
	if x.tokens == 0 {
		return false
	}
	x.tokens--
	return true
}

// schedule says when the message is repeated unless it is answered.
func (x *Exchange) schedule(now time.Time) {
	limit := lastRepeat
	if x.current == nil && x.Strict() {
		limit = strictRepeat
	}
	x.delay = min(max(firstRepeat, 2*x.delay), limit)
	x.saidAt, x.repeatAt = now, now.Add(x.delay)
}

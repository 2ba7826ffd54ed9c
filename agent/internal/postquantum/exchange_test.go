package postquantum

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	mathrand "math/rand/v2"
	"strings"
	"testing"
	"time"
)

// plain is a mechanism that costs nothing and hides nothing.
type plain struct{ made *int }

func (plain) Name() string { return "plain" }

func (p plain) Offer() ([]byte, func([]byte) ([]byte, error), error) {
	offer := make([]byte, 32)
	_, _ = rand.Read(offer)
	p.count()
	return offer, func(answer []byte) ([]byte, error) {
		if len(answer) != 32 {
			return nil, errors.New("not 32 bytes")
		}
		return append(answer, offer...), nil
	}, nil
}

func (p plain) Answer(offer []byte) (secret, answer []byte, err error) {
	if len(offer) != 32 {
		return nil, nil, errors.New("not 32 bytes")
	}
	answer = make([]byte, 32)
	_, _ = rand.Read(answer)
	p.count()
	return append(answer[:32:32], offer...), answer, nil
}

func (p plain) count() {
	if p.made != nil {
		*p.made++
	}
}

var busy = Use{Session: true, Traffic: true}

// A side is one of two machines.
type side struct {
	x     *Exchange
	mode  Mode
	first bool
	inbox []*Message
	sent  int
	bytes int
}

// A world is two machines and the messages between them, under one clock.
type world struct {
	now   time.Time
	sides [2]*side
	made  int // offers and answers
}

func newWorld(one, other Mode) *world {
	w := &world{now: time.Unix(1_000_000, 0)}
	for i, mode := range []Mode{one, other} {
		w.sides[i] = &side{mode: mode, first: i == 0}
		w.restart(i)
	}
	return w
}

// restart gives a side a new process.
func (w *world) restart(i int) {
	s := w.sides[i]
	s.x = New(s.mode, plain{&w.made})
	s.x.SetLeads(s.first)
	s.inbox = nil
}

// send puts the message of a side on its way.
func (w *world) send(i int) {
	raw, err := json.Marshal(w.sides[i].x.Message())
	if err != nil {
		panic(err)
	}
	var m Message
	if err := json.Unmarshal(raw, &m); err != nil {
		panic(err)
	}
	if err := m.Check(); err != nil {
		panic(err)
	}
	w.sides[i].sent++
	w.sides[i].bytes += len(raw)
	w.sides[1-i].inbox = append(w.sides[1-i].inbox, &m)
}

// deliver gives a side the oldest of its messages.
func (w *world) deliver(i int) {
	s := w.sides[i]
	if len(s.inbox) == 0 {
		return
	}
	m := s.inbox[0]
	s.inbox = s.inbox[1:]
	if s.x.Receive(m, w.now).Reply {
		w.send(i)
	}
}

func (w *world) step(i int, use Use) {
	if w.sides[i].x.Step(w.now, use) {
		w.send(i)
	}
}

// run lets time pass, with all messages delivered at once.
func (w *world) run(d time.Duration, use Use) {
	tick := max(100*time.Millisecond, d/1000)
	for end := w.now.Add(d); w.now.Before(end); w.now = w.now.Add(tick) {
		for i := range w.sides {
			w.step(i, use)
		}
		w.settle()
	}
}

// settle delivers until nothing is on its way.
func (w *world) settle() {
	for rounds := 0; len(w.sides[0].inbox)+len(w.sides[1].inbox) > 0; rounds++ {
		if rounds > 20 {
			panic("the two never stop talking")
		}
		for i := range w.sides {
			w.deliver(i)
		}
	}
}

// agree fails unless both use one secret and know it.
func (w *world) agree(t *testing.T) {
	t.Helper()
	one, other := w.sides[0].x, w.sides[1].x
	if one.current == nil || other.current == nil || one.name() != other.name() || !one.confirmed || !other.confirmed {
		t.Fatalf("not agreed: %s %t and %s %t", one.name(), one.confirmed, other.name(), other.confirmed)
	}
	for _, s := range w.sides {
		if state, reason := s.x.State(); state != Agreed || reason != "" {
			t.Errorf("state %s %s", state, reason)
		}
	}
}

func TestStrictTakesThreeMessages(t *testing.T) {
	for name, begins := range map[string][]int{"the one that leads": {0}, "the other": {1}, "both at once": {0, 1}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(Strict, Strict)
			for _, i := range begins {
				w.step(i, Use{})
			}
			w.settle()
			w.agree(t)
			if sent := w.sides[0].sent + w.sides[1].sent; sent > 4+2*(len(begins)-1) {
				t.Errorf("%d messages", sent)
			}
			if w.made > 2+len(begins) {
				t.Errorf("%d halves of exchanges were made", w.made)
			}
		})
	}
}

func TestPermissiveWaitsForASession(t *testing.T) {
	w := newWorld(Permissive, Permissive)
	w.send(0)
	w.settle()
	w.send(1)
	w.settle()
	w.run(10*time.Second, Use{})
	if w.made != 0 {
		t.Fatal("an exchange began before there was a session")
	}
	w.run(time.Second, Use{Session: true})
	w.agree(t)
}

func TestWhyThereIsNone(t *testing.T) {
	foreign := &Message{Mode: Strict, Can: []string{"rosenpass"}}
	for name, c := range map[string]struct {
		mode   Mode
		peer   func(x *Exchange)
		state  State
		reason Reason
	}{
		"off":          {Off, func(*Exchange) {}, "", ""},
		"never met":    {Permissive, func(*Exchange) {}, Pending, ReasonNotBegun},
		"asked":        {Strict, func(x *Exchange) { x.Step(time.Unix(1, 0), Use{}) }, Pending, ReasonUnheard},
		"too old":      {Strict, func(x *Exchange) { x.Receive(nil, time.Unix(1, 0)) }, Unavailable, ReasonTooOld},
		"other kind":   {Strict, func(x *Exchange) { x.Receive(foreign, time.Unix(1, 0)) }, Unavailable, ReasonForeign},
		"off there":    {Strict, func(x *Exchange) { x.Receive(New(Off, plain{}).Message(), time.Unix(1, 0)) }, Unavailable, ReasonPeerOff},
		"off, too old": {Off, func(x *Exchange) { x.Receive(nil, time.Unix(1, 0)) }, "", ""},
		"under way": {Strict, func(x *Exchange) {
			x.Receive(New(Strict, plain{}).Message(), time.Unix(1, 0))
			x.Step(time.Unix(1, 0), Use{})
		}, Pending, ReasonUnderway},
		"not begun yet": {Permissive, func(x *Exchange) { x.Receive(New(Strict, plain{}).Message(), time.Unix(1, 0)) }, Pending, ReasonNotBegun},
	} {
		x := New(c.mode, plain{})
		c.peer(x)
		if state, reason := x.State(); state != c.state || reason != c.reason {
			t.Errorf("%s: %q %q, want %q %q", name, state, reason, c.state, c.reason)
		}
		if x.Secret() != nil || !x.Since().IsZero() {
			t.Errorf("%s: there is a secret", name)
		}
	}
}

func TestMixedModes(t *testing.T) {
	for _, c := range []struct {
		one, other Mode
		agree      bool
	}{{Strict, Permissive, true}, {Permissive, Strict, true}, {Strict, Off, false}, {Off, Permissive, false}, {Off, Off, false}} {
		w := newWorld(c.one, c.other)
		w.send(0)
		w.settle()
		w.run(5*time.Minute, busy)
		if c.agree {
			w.agree(t)
			continue
		}
		if sent := w.sides[0].sent + w.sides[1].sent; w.made > 2 || sent > 6 {
			t.Errorf("%s with %s: %d halves of exchanges, %d messages", c.one, c.other, w.made, sent)
		}
		for i, s := range w.sides {
			if s.x.Secret() != nil {
				t.Errorf("%s with %s: side %d has a secret", c.one, c.other, i)
			}
		}
	}
}

func TestModeChanges(t *testing.T) {
	w := newWorld(Strict, Strict)
	w.run(time.Second, busy)
	w.agree(t)
	change := func(i int, mode Mode) {
		w.sides[i].mode = mode
		if w.sides[i].x.SetMode(mode).Reply {
			w.send(i)
		}
		w.settle()
	}
	change(0, Off)
	for i, s := range w.sides {
		if s.x.Secret() != nil {
			t.Errorf("side %d still has the secret", i)
		}
	}
	if state, reason := w.sides[1].x.State(); state != Unavailable || reason != ReasonPeerOff {
		t.Errorf("%s %s", state, reason)
	}
	change(0, Permissive)
	w.run(time.Second, busy)
	w.agree(t)
	before := w.sides[0].x.name()
	change(1, Permissive)
	change(0, Strict)
	w.run(time.Second, busy)
	if w.agree(t); w.sides[0].x.name() != before {
		t.Error("a change between permissive and strict cost an exchange")
	}
}

// A secret is renewed while packets flow and not while they do not; the old one
// is in use until the new one is.
func TestRenewal(t *testing.T) {
	w := newWorld(Strict, Strict)
	w.run(time.Second, busy)
	w.agree(t)
	began, first := w.sides[0].x.Since(), w.sides[0].x.name()
	sent := w.sides[0].sent + w.sides[1].sent
	w.run(3*renewAfter, Use{Session: true})
	if w.sides[0].sent+w.sides[1].sent != sent {
		t.Error("a pair without traffic exchanges")
	}
	for ; w.sides[0].x.name() == first; w.now = w.now.Add(time.Second) {
		for i, s := range w.sides {
			w.step(i, busy)
			w.deliver(1 - i)
			if s.x.Secret() == nil {
				t.Fatal("there was a moment without a secret")
			}
		}
	}
	w.settle()
	w.agree(t)
	if x := w.sides[0].x; !x.Since().Equal(began) || x.First() {
		t.Error("a renewal passes for the first agreement")
	}
	w.bounded(t)
}

// bounded: a day of traffic costs less than a megabyte, and no more exchanges
// than one in two minutes.
func (w *world) bounded(t *testing.T) {
	t.Helper()
	before, made := w.sides[0].bytes+w.sides[1].bytes, w.made
	w.run(24*time.Hour, busy)
	day := w.sides[0].bytes + w.sides[1].bytes - before
	exchanges := (w.made - made) / 2
	t.Logf("a day: %d exchanges, %d bytes but for their texts", exchanges, day)
	const perExchange = 4 * (1184 + 1088) / 3 // in base64
	if exchanges < 40 || day+exchanges*perExchange > 1<<20 {
		t.Errorf("%d exchanges, %d bytes", exchanges, day+exchanges*perExchange)
	}
}

func TestPeerRestarts(t *testing.T) {
	for _, mode := range []Mode{Strict, Permissive} {
		for i := range 2 {
			w := newWorld(mode, mode)
			w.send(0)
			w.settle()
			w.run(time.Second, busy)
			w.agree(t)
			w.restart(i)
			w.sides[1-i].x.Forget()
			if w.sides[1-i].x.Secret() != nil {
				t.Error("the secret of the former process is still in use")
			}
			w.step(i, Use{})
			w.send(i)
			w.run(time.Second, busy)
			w.agree(t)

			// Nobody says that it has restarted: its word shows it.
			w.restart(i)
			w.send(i)
			w.settle()
			if w.sides[1-i].x.Secret() != nil && mode == Permissive {
				t.Error("the secret of the former process is still in use")
			}
			w.run(time.Second, busy)
			w.agree(t)
		}
	}
}

// However messages are lost and machines restart, they agree once that ends.
func TestChaosEndsInAgreement(t *testing.T) {
	for seed := range uint64(300) {
		random := mathrand.New(mathrand.NewPCG(seed, 7))
		modes := []Mode{Strict, Permissive}
		w := newWorld(modes[random.IntN(2)], modes[random.IntN(2)])
		w.send(0)
		for range 200 {
			i := random.IntN(2)
			switch random.IntN(12) {
			case 0, 1, 2, 3, 4:
				w.deliver(i)
			case 5:
				if s := w.sides[i]; len(s.inbox) > 0 {
					at := random.IntN(len(s.inbox)) // later ones overtake it, and it is refused
					s.inbox = s.inbox[at:]
				}
			case 6:
				w.sides[i].inbox = nil
			case 7:
				w.now = w.now.Add(time.Duration(random.IntN(3000)) * time.Millisecond)
			case 8:
				if random.IntN(4) == 0 {
					w.now = w.now.Add(renewAfter)
				}
			case 9:
				if random.IntN(6) == 0 {
					w.restart(i)
					if random.IntN(2) == 0 {
						w.sides[1-i].x.Forget()
					}
					w.send(i)
				}
			default:
				w.step(i, busy)
			}
		}
		w.send(0) // a hello of each carries what it says
		w.send(1)
		w.run(10*time.Minute, busy)
		if w.agree(t); t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func TestAwayIsQuiet(t *testing.T) {
	for _, mode := range []Mode{Strict, Permissive} {
		w := newWorld(mode, mode)
		w.send(0)
		w.settle()
		w.send(1)
		w.settle()
		before := w.sides[0].sent
		for end := w.now.Add(time.Hour); w.now.Before(end); w.now = w.now.Add(100 * time.Millisecond) {
			w.step(0, busy)
			w.sides[1].inbox = nil
		}
		if sent := w.sides[0].sent - before; sent < 10 || sent > int(time.Hour/strictRepeat)+6 {
			t.Errorf("%s: %d messages in an hour to nobody", mode, sent)
		}
	}
}

// A peer that sends nonsense costs bounded work and does no harm to what stands.
func TestHostilePeer(t *testing.T) {
	w := newWorld(Strict, Strict)
	w.run(time.Second, busy)
	w.agree(t)
	x, name := w.sides[0].x, w.sides[0].x.name()
	w.made = 0
	const pace = 100 * time.Millisecond
	for range int(time.Hour / pace) {
		w.now = w.now.Add(pace)
		offer := make([]byte, 32)
		_, _ = rand.Read(offer)
		x.Receive(&Message{Mode: Strict, Can: []string{"plain"}, Uses: name, Offer: &Offer{ID: randomName(), Mechanism: "plain", Text: offer}}, w.now)
	}
	if limit := exchangeBurst + int(time.Hour/exchangeInterval); w.made > limit {
		t.Errorf("%d answers in an hour, want at most %d", w.made, limit)
	}
	if x.name() != name {
		t.Error("offers alone have changed the secret")
	}
	for what, m := range map[string]*Message{
		"an offer that is none":       {Offer: &Offer{ID: randomName(), Mechanism: "plain", Text: []byte{1}}},
		"an unknown mechanism":        {Offer: &Offer{ID: randomName(), Mechanism: "rot13", Text: []byte{1}}},
		"an answer to nothing":        {Answer: &Answer{Offer: randomName(), Text: make([]byte, 32), Name: randomName()}},
		"a name that nobody answered": {Heard: randomName()},
	} {
		m.Mode, m.Can, m.Uses = Strict, []string{"plain"}, name
		if e := x.Receive(m, w.now); e.Changed || x.name() != name {
			t.Errorf("%s has changed the secret", what)
		}
	}
}

func TestWrongAnswerIsRefused(t *testing.T) {
	w := newWorld(Strict, Strict)
	x := w.sides[0].x
	for what, wrong := range map[string]func(*Answer){
		"another name":       func(a *Answer) { a.Name = randomName() },
		"another text":       func(a *Answer) { a.Text[0] ^= 1 },
		"a text that is cut": func(a *Answer) { a.Text = a.Text[1:] },
	} {
		x.Step(w.now, Use{})
		peer := New(Strict, plain{})
		peer.Receive(x.Message(), w.now)
		m := peer.Message()
		wrong(m.Answer)
		if e := x.Receive(m, w.now); e.Err == nil || x.Secret() != nil {
			t.Errorf("%s: %+v, secret %v", what, e, x.Secret())
		}
	}
	w.now = w.now.Add(exchangeInterval)
	w.run(time.Second, busy)
	w.agree(t)
}

func TestMessageBounds(t *testing.T) {
	long := strings.Repeat("x", maximumName+1)
	for what, m := range map[string]*Message{
		"many mechanisms":      {Can: make([]string, maximumMechanisms+1)},
		"a long mechanism":     {Can: []string{long}},
		"uses":                 {Uses: "x"},
		"heard":                {Heard: strings.Repeat("G", nameLength)},
		"an offer without id":  {Offer: &Offer{}},
		"a long offer":         {Offer: &Offer{ID: randomName(), Text: make([]byte, maximumText+1)}},
		"an offer of what":     {Offer: &Offer{ID: randomName(), Mechanism: long}},
		"an answer to what":    {Answer: &Answer{Name: randomName()}},
		"an answer of no name": {Answer: &Answer{Offer: randomName()}},
		"a long answer":        {Answer: &Answer{Offer: randomName(), Name: randomName(), Text: make([]byte, maximumText+1)}},
	} {
		if m.Check() == nil {
			t.Errorf("%s was accepted", what)
		}
	}
	m := &Message{Mode: "paranoid", Can: []string{"mlkem768"}}
	if err := m.Check(); err != nil || m.Mode != Permissive {
		t.Errorf("a mode of a later release: %s, %v", m.Mode, err)
	}
}

// FuzzExchange: whatever the peer says, nothing breaks, nothing grows, and a
// secret is in use only if its name was proven.
func FuzzExchange(f *testing.F) {
	w := newWorld(Strict, Permissive)
	w.step(0, Use{})
	for _, m := range []*Message{w.sides[0].x.Message(), {Mode: Off}, {Uses: randomName(), Heard: randomName()}, {Answer: &Answer{Offer: randomName(), Name: randomName(), Text: []byte{1}}}} {
		raw, err := json.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m Message
		if json.Unmarshal(raw, &m) != nil || m.Check() != nil {
			return
		}
		now := time.Unix(1_000_000, 0)
		x := New(Strict, MLKEM{})
		x.Step(now, Use{})
		x.Receive(&m, now)
		x.Step(now.Add(time.Minute), busy)
		if x.Secret() != nil {
			t.Errorf("%s alone gives a secret", raw)
		}
		said := x.Message()
		if err := said.Check(); err != nil {
			t.Errorf("what is said then breaks the bounds: %v", err)
		}
	})
}

package tunnel

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"
)

// A strait stands between two devices: what either sends arrives from its socket.
// It holds initiations back while it is told to, and knows all of them. It loses
// as many responses as it is told.
type strait struct {
	ends [2]*net.UDPConn // at which the device of that number is reached

	mu          sync.Mutex // guards all below
	holding     bool
	held        [][]byte // from device 0 to device 1
	initiations [][]byte // of device 0, each once
	lose        int      // responses
}

// separate leads the paths of both devices through a strait.
func (m *mixed) separate(t *testing.T) *strait {
	t.Helper()
	s := &strait{}
	var reading sync.WaitGroup
	for i := range s.ends {
		var err error
		if s.ends[i], err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0"))); err != nil {
			t.Fatal(err)
		}
		d := m.devices[1-i]
		d.Bind().Endpoint(m.keys[i].Public()).Use(d.Bind().DirectPath(s.at(i)), nil)
	}
	for i, end := range s.ends {
		reading.Go(func() {
			buf := make([]byte, 2048)
			for {
				n, _, err := end.ReadFromUDPAddrPort(buf)
				if err != nil {
					return
				}
				s.carry(t, m, i, slices.Clone(buf[:n]))
			}
		})
	}
	t.Cleanup(func() {
		for _, end := range s.ends {
			_ = end.Close() // read only
		}
		reading.Wait()
	})
	return s
}

func (s *strait) at(i int) netip.AddrPort { return s.ends[i].LocalAddr().(*net.UDPAddr).AddrPort() }

// carry takes a packet for device to.
func (s *strait) carry(t *testing.T, m *mixed, to int, packet []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if to == 1 && wireguardType(packet) == messageInitiation {
		if !slices.ContainsFunc(s.initiations, func(known []byte) bool { return bytes.Equal(known, packet) }) {
			s.initiations = append(s.initiations, packet)
		}
		if s.holding {
			if !slices.ContainsFunc(s.held, func(held []byte) bool { return bytes.Equal(held, packet) }) {
				s.held = append(s.held, packet)
			}
			return
		}
	}
	if s.lose > 0 && wireguardType(packet) == messageResponse {
		s.lose--
		return
	}
	s.write(t, m, to, packet)
}

func (s *strait) write(t *testing.T, m *mixed, to int, packet []byte) {
	if _, err := s.ends[1-to].WriteToUDPAddrPort(packet, loopback(m.devices[to])); err != nil {
		t.Error(err)
	}
}

func (s *strait) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holding = true
}

// release lets what is held arrive at one moment.
func (s *strait) release(t *testing.T, m *mixed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, packet := range s.held {
		s.write(t, m, 1, packet)
	}
	s.holding, s.held = false, nil
}

// begun returns how many handshakes device 0 has begun.
func (s *strait) begun() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.initiations)
}

func awaits(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(arrives); !ok(); <-ticker.C {
		if time.Now().After(deadline) {
			t.Fatalf("never came true: %s", what)
		}
	}
}

// A handshake is under way when another one begins, and both arrive together: the
// other side answers the first, which is given up, and refuses the second for the
// moment. That is repeated; the device would begin a third after 5 s.
func TestSessionBegunAnewNeedsNoThirdHandshake(t *testing.T) {
	m := newMixed(t, [2]bool{true, true})
	key := randomPresharedKey()
	m.agree(t, 0, key)
	m.agree(t, 1, key)
	s := m.separate(t)
	s.hold()
	m.devices[0].Handshake(m.keys[1].Public())
	awaits(t, "a handshake is under way", func() bool { return s.begun() == 1 })
	m.devices[0].Rekey(m.keys[1].Public())
	awaits(t, "it begins anew", func() bool { return s.begun() == 2 })
	s.release(t, m)
	m.flows(t, 0)
	m.flows(t, 1)
	if n := s.begun(); n != 2 {
		t.Errorf("%d handshakes: WireGuard's own repetition had to help", n)
	}
}

// Both sides begin at once, and the first answers are lost: they are asked for again
// soon.
func TestLostAnswersOfCrossingHandshakes(t *testing.T) {
	for range 3 {
		m := newMixed(t, [2]bool{})
		s := m.separate(t)
		s.mu.Lock()
		s.lose = 2
		s.mu.Unlock()
		var both sync.WaitGroup
		for i := range m.devices {
			both.Go(func() { _ = m.ping(t, i, absent) }) // begins
		}
		both.Wait()
		for i, d := range m.devices {
			awaits(t, "pings are answered", func() bool { return m.ping(t, i, absent) == nil })
			if n := d.Bind().Retries(); n > 0 {
				t.Errorf("WireGuard's own repetition had to help device %d %d times", i, n)
			}
		}
	}
}

func TestNewInitiationIsRepeatedSoon(t *testing.T) {
	b := testBind(t)
	b.start = b.start.Add(-time.Minute)
	e := b.Endpoint(GenerateKey().Public())
	defer e.forget()
	initiation := make([]byte, initiationSize)
	initiation[0] = messageInitiation
	for range 2 {
		if !e.noteHandshake(initiation) || e.delay != firstRepeat {
			t.Errorf("repeated after %s, want %s", e.delay, firstRepeat)
		}
		e.initiatedAt -= int64(time.Minute)
		e.delay = lastRepeat // the peer did not answer for long
	}
}

// Of two handshakes that are begun at the same moment the second would have the
// timestamp of the first, and be refused for good.
func TestSessionBegunAnewAtOnceIsNotRefused(t *testing.T) {
	m := newMixed(t, [2]bool{true, true})
	s := m.separate(t)
	to, key := m.keys[1].Public(), randomPresharedKey()
	for range 5 {
		m.agree(t, 0, PresharedKey{})
		before := s.begun()
		m.devices[0].Rekey(to)
		m.devices[0].Handshake(to) // without the key: it must fail
		awaits(t, "a handshake is under way", func() bool { return s.begun() == before+1 })
		m.agree(t, 0, key)
		m.agree(t, 1, key)
		m.devices[0].Rekey(to)
		m.devices[0].Handshake(to)
		// A ping may be lost in the session that the first has made after all.
		awaits(t, "pings are answered", func() bool { return m.ping(t, 0, absent) == nil })
		if n := s.begun() - before; n > 2 {
			t.Errorf("%d handshakes: WireGuard's own repetition had to help", n)
		}
	}
}

func TestInitiationsHaveTheirOwnTimestamps(t *testing.T) {
	b := testBind(t)
	b.start = b.start.Add(-time.Minute) // there is a past
	var again []PublicKey
	b.again = func(key PublicKey) { again = append(again, key) }
	e := b.Endpoint(GenerateKey().Public())
	defer e.forget()
	initiation := make([]byte, initiationSize)
	initiation[0] = messageInitiation
	if !e.noteHandshake(initiation) {
		t.Fatal("the first is not sent")
	}
	e.expire()
	for range 2 {
		if e.noteHandshake(initiation) {
			t.Error("one that may have the timestamp of the first is sent")
		}
	}
	if len(again) != 1 || again[0] != e.key {
		t.Errorf("begun again: %v", again)
	}
	e.again.Store(false)
	e.initiatedAt = b.now() - int64(stampTime)
	e.expire()
	if !e.noteHandshake(initiation) {
		t.Error("one that was made after stampTime is not sent")
	}
	if b.Retries() != 0 {
		t.Error("a handshake that was asked for is taken for the device's own repetition")
	}
	e.initiatedAt -= int64(unprompted) + 1
	e.expiredAt = 0
	if !e.noteHandshake(initiation) || b.Retries() != 1 {
		t.Error("the device's own repetition is not sent, or not known for one")
	}
	e.initiatedAt -= int64(retried)
	if !e.noteHandshake(initiation) || b.Retries() != 1 {
		t.Error("the renewal of a session is not sent, or taken for a repetition")
	}
	e.reborn()
	if !e.noteHandshake(initiation) {
		t.Error("one under another key is not sent")
	}
}

// A response to what was given up is no reason to stop asking.
func TestLateResponseDoesNotEndTheRepetition(t *testing.T) {
	e := testBind(t).Endpoint(GenerateKey().Public())
	defer e.forget()
	initiation := make([]byte, initiationSize)
	initiation[0], initiation[4] = messageInitiation, 2
	e.noteHandshake(initiation)
	response := func(to byte) []byte {
		m := make([]byte, responseSize)
		m[0], m[8] = messageResponse, to
		return m
	}
	e.received(response(1), originOf(peerAddr), 1)
	if !e.Handshaking() {
		t.Error("the response to an initiation before has ended the repetition")
	}
	e.received(response(2), originOf(peerAddr), 2)
	if e.Handshaking() {
		t.Error("the response has not ended the repetition")
	}
}

// While the device is at one initiation, or has just answered it, it refuses the
// next: that shall come through with its repetition.
func TestInitiationAfterAnotherIsTakenWhenRepeated(t *testing.T) {
	e := testBind(t).Endpoint(GenerateKey().Public())
	initiation := func(index byte) []byte {
		m := make([]byte, initiationSize)
		m[0], m[4] = messageInitiation, index
		return m
	}
	response := make([]byte, responseSize)
	response[0], response[8] = messageResponse, 1
	now := e.bind.now()
	e.judge(initiation(1), now)
	e.judge(initiation(2), now) // the device refuses it when it has answered the first
	e.noteHandshake(response)
	answered := e.respondedAt
	if answer, pass := e.judge(initiation(2), answered+int64(floodTime)); pass || answer != nil {
		t.Error("passed although the device refuses it")
	}
	if _, pass := e.judge(initiation(2), answered+int64(floodTime)+1); !pass {
		t.Error("the repetition did not pass")
	}
	if _, pass := e.judge(initiation(2), answered+int64(floodTime)+2); pass {
		t.Error("a copy passed while the device was at it")
	}
}

// Two copies of an initiation that the device has looked at at once make two
// sessions, of which it keeps the second and the peer has the first.
func TestTwoSessionsOfOneInitiationAreReplaced(t *testing.T) {
	b := testBind(t)
	var again []PublicKey
	b.again = func(key PublicKey) { again = append(again, key) }
	e := b.Endpoint(GenerateKey().Public())
	response := func(index, to byte) []byte {
		m := make([]byte, responseSize)
		m[0], m[4], m[8] = messageResponse, index, to
		return m
	}
	if !e.noteHandshake(response(1, 7)) || !e.noteHandshake(response(2, 8)) || len(again) != 0 {
		t.Fatal("responses to two initiations are not sent")
	}
	if e.noteHandshake(response(3, 8)) {
		t.Error("the second response to one initiation is sent: the peer has taken the first")
	}
	if len(again) != 1 || again[0] != e.key {
		t.Errorf("begun again: %v", again)
	}
}

// What the device is at when the sessions end comes to nothing, whoever began it.
func TestRekeyKnowsWhatIsUnderWay(t *testing.T) {
	initiation, response := make([]byte, initiationSize), make([]byte, responseSize)
	initiation[0], initiation[4] = messageInitiation, 5
	response[0], response[8] = messageResponse, 5
	for name, c := range map[string]struct {
		before  func(e *Endpoint)
		pending bool
	}{
		"nothing":                  {func(*Endpoint) {}, false},
		"an initiation of ours":    {func(e *Endpoint) { e.noteHandshake(initiation) }, true},
		"its response":             {func(e *Endpoint) { e.noteHandshake(initiation); e.received(response, originOf(peerAddr), e.bind.now()) }, true},
		"the peer's initiation":    {func(e *Endpoint) { e.judge(initiation, e.bind.now()) }, true},
		"that is answered":         {func(e *Endpoint) { e.judge(initiation, e.bind.now()); e.noteHandshake(response) }, false},
		"that came too long since": {func(e *Endpoint) { e.judge(initiation, e.bind.now()-int64(handshakeTime)) }, false},
	} {
		b := testBind(t)
		b.start = b.start.Add(-time.Minute)
		e := b.Endpoint(GenerateKey().Public())
		c.before(e)
		if pending := e.expire(); pending != c.pending {
			t.Errorf("%s: pending %t", name, pending)
		}
		e.forget()
	}
}

// The device may have made the session of the peer's initiation, and not sent the
// response yet, when the sessions end. The peer is about to use one that this side
// cannot send by: what replaces it is asked for until it is answered.
func TestResponseOfAnEndedSessionDoesNotEndTheRepetition(t *testing.T) {
	message := func(kind byte, size int, sender, receiver byte) []byte {
		m := make([]byte, size)
		m[0], m[4], m[8] = kind, sender, receiver
		return m
	}
	theirs, ours := message(messageInitiation, initiationSize, 5, 0), message(messageInitiation, initiationSize, 6, 0)
	for _, ended := range []bool{true, false} {
		b := testBind(t)
		b.start = b.start.Add(-time.Minute)
		e := b.Endpoint(GenerateKey().Public())
		if _, pass := e.judge(theirs, b.now()); !pass {
			t.Fatal("the peer's initiation is not shown to the device")
		}
		if ended && !e.expire() {
			t.Error("nothing is under way")
		}
		if !e.noteHandshake(ours) || !e.noteHandshake(message(messageResponse, responseSize, 7, 5)) {
			t.Error("initiation or response is not sent")
		}
		if e.Handshaking() != ended {
			t.Errorf("sessions ended %t: an initiation waits for its response %t", ended, e.Handshaking())
		}
		e.received(message(messageResponse, responseSize, 8, 6), originOf(peerAddr), b.now())
		if e.Handshaking() {
			t.Error("the response has not ended the repetition")
		}
		e.forget()
	}
}

package server

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/stun/v2"

	"github.com/wattlenet/wattle/internal/framing"
)

// Protocol numbers and attributes of RFC 8656 that pion/stun does not name.
const (
	protocolUDP = 17 // REQUESTED-TRANSPORT (section 18.7)
	familyIPv4  = 1  // REQUESTED-ADDRESS-FAMILY (section 18.6)
)

// A gate stands between the sockets and pion/turn:
//
//	socket ──> gate ──> pion/turn ──> gate ──> socket
//	             │ pass, drop or answer │ notes who got which allocation
//
// It decides what pion leaves open: quotas, one user name per allocation
// (RFC 8656, section 7.1: 441), which peers may be reached (403), and how much
// is sent to addresses that have proved nothing. It checks MESSAGE-INTEGRITY and
// the nonce before any of these, and pion checks them again; see nonces.
type gate struct {
	secret       Secret
	ledger       *ledger
	destinations *destinations
	budget       *budget
	nonces       *nonces
	public       netip.Addr
	stats        *counters
	forwarders   sync.Pool // *forwarder
	draining     atomic.Bool
}

// forwarder lends a forwarder for one batch. Release it after flush.
func (g *gate) forwarder() *forwarder {
	if f, ok := g.forwarders.Get().(*forwarder); ok {
		return f
	}
	return newForwarder(g)
}

func (g *gate) release(f *forwarder) { g.forwarders.Put(f) }

// A verdict says what becomes of a message: it is passed on, or answered here,
// or dropped when it is neither.
type verdict struct {
	pass   bool
	shown  []byte // what pion gets in place of the message that passes; nil: the same
	answer []byte
	// then is what pion's answer decides about.
	then pending
}

// A pending request is with pion. What pion answers before it reads the next
// message belongs to it.
type pending struct {
	reserved bool // an allocation; gate.ledger.settle is due afterwards
	grant    *grant
}

// admit judges one STUN message of a client. raw is not kept.
func (g *gate) admit(raw []byte, tuple fiveTuple) verdict {
	if !stun.IsMessage(raw) {
		return verdict{}
	}
	var kind stun.MessageType
	kind.ReadValue(uint16(raw[0])<<8 | uint16(raw[1]))
	switch kind.Class {
	case stun.ClassIndication:
		return verdict{pass: kind.Method == stun.MethodSend}
	case stun.ClassRequest:
		return g.admitRequest(raw, tuple)
	default:
		return verdict{}
	}
}

func (g *gate) admitRequest(raw []byte, tuple fiveTuple) verdict {
	known := g.ledger.find(tuple)
	if known == nil && !g.affords(tuple) {
		return verdict{}
	}
	m := &stun.Message{Raw: append([]byte(nil), raw...)}
	if m.Decode() != nil {
		return verdict{}
	}
	if m.Type.Method == stun.MethodBinding {
		return verdict{pass: true} // an address (RFC 8489)
	}
	holder, key, err := g.authenticate(m)
	switch {
	case err != nil && known != nil && !g.affords(tuple):
		return verdict{} // somebody may pretend to be a client of ours
	case err != nil:
		return g.challenge(m, err)
	case !g.nonces.valid(m, time.Now()):
		return verdict{answer: build(m, stun.CodeStaleNonce, "", stun.NewRealm(Realm), g.nonces.fresh(time.Now()))}
	}
	if m = g.nonces.renonce(m, key); m == nil {
		return verdict{}
	}
	v := g.admitProved(m, tuple, known, holder, key)
	v.shown = m.Raw
	return v
}

// admitProved judges a request of holder.
func (g *gate) admitProved(m *stun.Message, tuple fiveTuple, known *allocation, holder Holder, key stun.MessageIntegrity) verdict {
	switch m.Type.Method {
	case stun.MethodAllocate:
		return g.admitAllocate(m, tuple, known, holder, key)
	case stun.MethodRefresh, stun.MethodCreatePermission, stun.MethodChannelBind:
		return g.admitUse(m, known, holder, key)
	default:
		return verdict{}
	}
}

// affords takes one answer from the budget of an address that may be forged.
func (g *gate) affords(tuple fiveTuple) bool {
	if tuple.stream || g.budget.spend(tuple.client.Addr()) {
		return true
	}
	g.stats.unansweredStrangers.Add(1)
	return false
}

// message returns what pion is shown of a message that passes.
func (v verdict) message(raw []byte) []byte {
	if v.shown != nil {
		return v.shown
	}
	return raw
}

// What keeps a request from being authenticated, beside ErrCredentialExpired.
var (
	errNoCredential    = errors.New("no credential")
	errWrongCredential = errors.New("wrong credential")
)

// authenticate checks the long-term credential (RFC 8489, section 9.2.4) but
// for the nonce. Only who has had a credential hears that it has expired.
func (g *gate) authenticate(m *stun.Message) (Holder, stun.MessageIntegrity, error) {
	if !m.Contains(stun.AttrMessageIntegrity) {
		return Holder{}, nil, errNoCredential
	}
	var username stun.Username
	var realm stun.Realm
	if username.GetFrom(m) != nil || realm.GetFrom(m) != nil || realm.String() != Realm {
		g.stats.refusedCredentials.Add(1)
		return Holder{}, nil, errWrongCredential
	}
	holder, err := parseUsername(username.String(), time.Now())
	key := stun.MessageIntegrity(longTermKey(g.secret, username.String()))
	switch proved := key.Check(m) == nil; { // compares in constant time
	case proved && errors.Is(err, ErrCredentialExpired):
		g.stats.refusedExpired.Add(1)
		return Holder{}, nil, ErrCredentialExpired
	case !proved || err != nil:
		g.stats.refusedCredentials.Add(1)
		return Holder{}, nil, errWrongCredential
	}
	return holder, key, nil
}

// admitAllocate judges a request for an allocation (RFC 8656, section 7.2).
func (g *gate) admitAllocate(m *stun.Message, tuple fiveTuple, known *allocation, holder Holder, key stun.MessageIntegrity) verdict {
	if known != nil {
		return verdict{pass: true} // pion repeats its answer, or says 437
	}
	transport, err := m.Get(stun.AttrRequestedTransport)
	if err == nil && len(transport) == 4 && transport[0] != protocolUDP {
		return refuse(m, key, stun.CodeUnsupportedTransProto, "only UDP is relayed")
	}
	family, err := m.Get(stun.AttrRequestedAddressFamily)
	if err == nil && (len(family) != 4 || family[0] != familyIPv4) {
		return refuse(m, key, stun.CodeAddrFamilyNotSupported, "relayed addresses are IPv4")
	}
	if m.Contains(stun.AttrEvenPort) || m.Contains(stun.AttrReservationToken) {
		return refuse(m, key, stun.CodeInsufficientCapacity, "pairs of ports are not given out") // they are for RTP
	}
	if g.draining.Load() {
		return refuse(m, key, stun.CodeInsufficientCapacity, aboutToStop)
	}
	if err := g.ledger.reserve(tuple, holder); err != nil {
		return g.beyond(m, key, err)
	}
	return verdict{pass: true, then: pending{reserved: true}}
}

// admitUse judges a request about an existing allocation. The user name may
// be a renewed one: the peer in it has to be the same.
func (g *gate) admitUse(m *stun.Message, known *allocation, holder Holder, key stun.MessageIntegrity) verdict {
	if known == nil {
		return refuse(m, key, stun.CodeAllocMismatch, "no allocation for this address")
	}
	if known.holder != holder {
		return refuse(m, key, stun.CodeWrongCredentials, "the allocation is another machine's")
	}
	if m.Type.Method == stun.MethodRefresh {
		if g.draining.Load() && !deletes(m) {
			return refuse(m, key, stun.CodeInsufficientCapacity, aboutToStop)
		}
		known.prune(now())
		return verdict{pass: true}
	}
	wanted, code := g.wanted(m, known)
	if code != 0 {
		g.stats.refusedPeers.Add(1)
		return refuse(m, key, code, "this peer is not reached through this relay")
	}
	if err := wanted.room(now()); err != nil {
		return g.beyond(m, key, err)
	}
	return verdict{pass: true, then: pending{grant: wanted}}
}

// deletes reports whether a Refresh asks for the end (RFC 8656, section 8.1).
func deletes(m *stun.Message) bool {
	lifetime, err := m.Get(stun.AttrLifetime)
	return err == nil && len(lifetime) == 4 && binary.BigEndian.Uint32(lifetime) == 0
}

// wanted reads what a CreatePermission or ChannelBind asks for, and returns
// the code with which it is refused, 0 when it is not.
func (g *gate) wanted(m *stun.Message, known *allocation) (*grant, stun.ErrorCode) {
	wanted := &grant{to: known}
	var code stun.ErrorCode
	if wanted.peers, code = g.peers(m); code != 0 {
		return nil, code
	}
	if m.Type.Method != stun.MethodChannelBind {
		return wanted, 0
	}
	number, err := m.Get(stun.AttrChannelNumber)
	if err != nil || len(number) != 4 || len(wanted.peers) != 1 {
		return nil, stun.CodeBadRequest
	}
	wanted.channel = binary.BigEndian.Uint16(number)
	if wanted.channel < firstChannel || wanted.channel > lastChannel {
		return nil, stun.CodeBadRequest
	}
	return wanted, 0
}

// peers reads each XOR-PEER-ADDRESS and returns why one of them is refused, 0
// when none is.
func (g *gate) peers(m *stun.Message) (peers []netip.AddrPort, code stun.ErrorCode) {
	err := m.ForEach(stun.AttrXORPeerAddress, func(m *stun.Message) error {
		var peer stun.XORMappedAddress
		if err := peer.GetFromAs(m, stun.AttrXORPeerAddress); err != nil {
			return err
		}
		addr, _ := netip.AddrFromSlice(peer.IP)
		addr = addr.Unmap()
		switch {
		case !addr.Is4():
			code = stun.CodePeerAddrFamilyMismatch
		case addr != g.public && !g.destinations.permits(addr):
			code = stun.CodeForbidden
		}
		peers = append(peers, netip.AddrPortFrom(addr, uint16(peer.Port)))
		return nil
	})
	if err != nil || len(peers) == 0 {
		return nil, stun.CodeBadRequest
	}
	return peers, code
}

// settle ends the wait for pion's answer to a request.
func (g *gate) settle(tuple fiveTuple, then *pending) {
	if then.reserved {
		g.ledger.settle(tuple)
	}
	*then = pending{}
}

// observe reads what pion answers to the pending request of a client. It
// claims the reservation of a successful Allocate and returns the allocation,
// and applies what a CreatePermission or ChannelBind was granted.
func (g *gate) observe(raw []byte, tuple fiveTuple, at client, then *pending) *allocation {
	var kind stun.MessageType
	if len(raw) < framing.STUNHeader {
		return nil
	}
	if kind.ReadValue(binary.BigEndian.Uint16(raw)); kind.Class != stun.ClassSuccessResponse {
		return nil
	}
	switch kind.Method {
	case stun.MethodCreatePermission, stun.MethodChannelBind:
		if then.grant != nil {
			then.grant.apply(now())
		}
	case stun.MethodAllocate:
		m := &stun.Message{Raw: raw}
		var relayed stun.XORMappedAddress
		if m.Decode() != nil || relayed.GetFromAs(m, stun.AttrXORRelayedAddress) != nil {
			return nil
		}
		return g.ledger.claim(tuple, uint16(relayed.Port), at)
	}
	return nil
}

// isChannelData tells by the first two bits (RFC 8656, section 12.4).
func isChannelData(raw []byte) bool { return len(raw) > 0 && raw[0]>>6 == 1 }

// expiredHere is what the holder of an old credential is told, who may have a
// fresh one while the clock of the relay is ahead. It is short, so that the
// answer is no longer than the request.
const expiredHere = "expired by the relay's clock"

// aboutToStop is what a relay that drains says.
const aboutToStop = "the relay is about to stop"

// refuse answers a client that has proved who it is, in words for its user.
func refuse(m *stun.Message, key stun.MessageIntegrity, code stun.ErrorCode, reason string) verdict {
	return verdict{answer: build(m, code, reason, key)}
}

// beyond refuses what is beyond a quota (RFC 8656, sections 7.2, 10.2 and 12.2).
func (g *gate) beyond(m *stun.Message, key stun.MessageIntegrity, err *quotaError) verdict {
	g.stats.beyond[err.limit].Add(1)
	code := stun.ErrorCode(stun.CodeInsufficientCapacity)
	if err.limit == peerAllocations || err.limit == accountAllocations {
		code = stun.CodeAllocQuotaReached
	}
	return refuse(m, key, code, err.Error())
}

// challenge asks for a credential (RFC 8489, section 9.2.4). Who has shown a
// wrong one is told his own nonce, so that the answer is never longer.
func (g *gate) challenge(m *stun.Message, cause error) verdict {
	setters := []stun.Setter{stun.NewRealm(Realm)}
	var given stun.Nonce
	var reason string
	if errors.Is(cause, ErrCredentialExpired) {
		reason = expiredHere
	}
	switch {
	case errors.Is(cause, errNoCredential):
		switch m.Type.Method {
		case stun.MethodAllocate, stun.MethodRefresh, stun.MethodCreatePermission, stun.MethodChannelBind:
			setters = append(setters, g.nonces.fresh(time.Now()))
		default:
			return verdict{}
		}
	case given.GetFrom(m) == nil:
		setters = append(setters, given)
	}
	return verdict{answer: build(m, stun.CodeUnauthorized, reason, setters...)}
}

// build makes an error response to m, nil when it cannot.
func build(m *stun.Message, code stun.ErrorCode, reason string, more ...stun.Setter) []byte {
	setters := append([]stun.Setter{
		stun.NewTransactionIDSetter(m.TransactionID),
		stun.NewType(m.Type.Method, stun.ClassErrorResponse),
		stun.ErrorCodeAttribute{Code: code, Reason: []byte(reason)},
	}, more...)
	answer, err := stun.Build(setters...)
	if err != nil {
		return nil
	}
	return answer.Raw
}

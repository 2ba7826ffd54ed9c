package server

import (
	"errors"
	"net/netip"
	"time"

	"github.com/pion/stun/v2"
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
// is sent to addresses that have proved nothing. It checks MESSAGE-INTEGRITY
// before any of these, and pion checks it again together with the nonce.
type gate struct {
	secret       Secret
	ledger       *ledger
	destinations *destinations
	budget       *budget
	public       netip.Addr
	stats        *counters
}

// A verdict says what becomes of a message: it is passed on, or answered here,
// or dropped when it is neither. reserved asks for gate.ledger.settle once
// pion is done with the message.
type verdict struct {
	pass     bool
	reserved bool
	answer   []byte
}

// admit judges one message of a client. raw is not kept.
func (g *gate) admit(raw []byte, tuple fiveTuple) verdict {
	if isChannelData(raw) {
		return verdict{pass: true}
	}
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
	if known == nil && !tuple.stream && !g.budget.spend(tuple.client.Addr()) {
		g.stats.unansweredStrangers.Add(1)
		return verdict{}
	}
	m := &stun.Message{Raw: append([]byte(nil), raw...)}
	if m.Decode() != nil {
		return verdict{}
	}
	if m.Type.Method == stun.MethodBinding || !m.Contains(stun.AttrMessageIntegrity) {
		return verdict{pass: true} // an address (RFC 8489) or a challenge
	}
	holder, key, ok := g.authenticate(m)
	if !ok {
		return verdict{answer: unauthorized(m)}
	}
	switch m.Type.Method {
	case stun.MethodAllocate:
		return g.admitAllocate(m, tuple, known, holder, key)
	case stun.MethodRefresh, stun.MethodCreatePermission, stun.MethodChannelBind:
		return g.admitUse(m, known, holder, key)
	default:
		return verdict{}
	}
}

// authenticate checks the long-term credential (RFC 8489, section 9.2.4) but
// for the nonce.
func (g *gate) authenticate(m *stun.Message) (Holder, stun.MessageIntegrity, bool) {
	var username stun.Username
	var realm stun.Realm
	if username.GetFrom(m) != nil || realm.GetFrom(m) != nil || realm.String() != Realm {
		g.stats.refusedCredentials.Add(1)
		return Holder{}, nil, false
	}
	holder, err := parseUsername(username.String(), time.Now())
	if err != nil {
		if errors.Is(err, ErrCredentialExpired) {
			g.stats.refusedExpired.Add(1)
		} else {
			g.stats.refusedCredentials.Add(1)
		}
		return Holder{}, nil, false
	}
	key := stun.MessageIntegrity(longTermKey(g.secret, username.String()))
	if key.Check(m) != nil { // compares in constant time
		g.stats.refusedCredentials.Add(1)
		return Holder{}, nil, false
	}
	return holder, key, true
}

// admitAllocate judges a request for an allocation (RFC 8656, section 7.2).
func (g *gate) admitAllocate(m *stun.Message, tuple fiveTuple, known *allocation, holder Holder, key stun.MessageIntegrity) verdict {
	if known != nil {
		return verdict{pass: true} // pion repeats its answer, or says 437
	}
	transport, err := m.Get(stun.AttrRequestedTransport)
	if err == nil && len(transport) == 4 && transport[0] != protocolUDP {
		return refuse(m, stun.CodeUnsupportedTransProto, key)
	}
	family, err := m.Get(stun.AttrRequestedAddressFamily)
	if err == nil && (len(family) != 4 || family[0] != familyIPv4) {
		return refuse(m, stun.CodeAddrFamilyNotSupported, key)
	}
	if m.Contains(stun.AttrEvenPort) || m.Contains(stun.AttrReservationToken) {
		return refuse(m, stun.CodeInsufficientCapacity, key) // pairs of ports are for RTP
	}
	if err := g.ledger.reserve(tuple, holder); err != nil {
		g.stats.refusedQuota.Add(1)
		return refuse(m, stun.CodeAllocQuotaReached, key)
	}
	return verdict{pass: true, reserved: true}
}

// admitUse judges a request about an existing allocation. The user name may
// be a renewed one: the peer in it has to be the same.
func (g *gate) admitUse(m *stun.Message, known *allocation, holder Holder, key stun.MessageIntegrity) verdict {
	if known == nil {
		return refuse(m, stun.CodeAllocMismatch, key)
	}
	if known.holder != holder {
		return refuse(m, stun.CodeWrongCredentials, key)
	}
	if code := g.refusedPeer(m); code != 0 {
		g.stats.refusedPeers.Add(1)
		return refuse(m, code, key)
	}
	return verdict{pass: true}
}

// refusedPeer looks at each XOR-PEER-ADDRESS and returns why one of them is
// refused, 0 when none is.
func (g *gate) refusedPeer(m *stun.Message) stun.ErrorCode {
	var code stun.ErrorCode
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
		return nil
	})
	if err != nil {
		return stun.CodeBadRequest
	}
	return code
}

// observe reads what pion sends to a client, claims the reservation of a
// successful Allocate and reports whether it saw one.
func (g *gate) observe(raw []byte, tuple fiveTuple) bool {
	if len(raw) < 2 || raw[0] != 0x01 || raw[1] != 0x03 { // Allocate success response
		return false
	}
	m := &stun.Message{Raw: raw}
	var relayed stun.XORMappedAddress
	if m.Decode() != nil || relayed.GetFromAs(m, stun.AttrXORRelayedAddress) != nil {
		return false
	}
	g.ledger.claim(tuple, uint16(relayed.Port))
	return true
}

// isChannelData tells by the first two bits (RFC 8656, section 12.4).
func isChannelData(raw []byte) bool { return len(raw) > 0 && raw[0]>>6 == 1 }

func refuse(m *stun.Message, code stun.ErrorCode, key stun.MessageIntegrity) verdict {
	return verdict{answer: build(m, code, key)}
}

// unauthorized repeats the nonce of the request, so that it is never longer.
func unauthorized(m *stun.Message) []byte {
	var nonce stun.Nonce
	if nonce.GetFrom(m) != nil {
		return build(m, stun.CodeUnauthorized, stun.NewRealm(Realm))
	}
	return build(m, stun.CodeUnauthorized, stun.NewRealm(Realm), nonce)
}

// build makes an error response to m, nil when it cannot.
func build(m *stun.Message, code stun.ErrorCode, more ...stun.Setter) []byte {
	setters := append([]stun.Setter{
		stun.NewTransactionIDSetter(m.TransactionID),
		stun.NewType(m.Type.Method, stun.ClassErrorResponse),
		stun.ErrorCodeAttribute{Code: code},
	}, more...)
	answer, err := stun.Build(setters...)
	if err != nil {
		return nil
	}
	return answer.Raw
}

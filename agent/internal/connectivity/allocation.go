package connectivity

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/stun/v2"

	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

// Constants of RFC 8656.
const (
	transportUDP = 17 // REQUESTED-TRANSPORT, section 18.7

	permissionLifetime = 5 * time.Minute // section 9

	codeUnauthorized       = 401 // RFC 8489, section 14.8
	codeAllocationMismatch = 437
	codeStaleNonce         = 438
	codeWrongCredentials   = 441

	codeInsufficientCapacity = 508
)

// requestLimit is how long one request to a relay may take, repetitions included.
const requestLimit = 5 * time.Second

// A turnError is a refusal by the relay.
type turnError struct {
	method stun.Method
	code   int // 0: the relay gave none, as pion/turn v3 for CreatePermission
	reason string
}

func (e *turnError) Error() string {
	if e.code == 0 {
		return fmt.Sprintf("relay refused %s: %s", e.method, e.reason)
	}
	return fmt.Sprintf("relay refused %s: %d %s", e.method, e.code, e.reason)
}

// refusedWith reports whether the relay has refused with one of codes, any
// code when none is given.
func refusedWith(err error, codes ...int) bool {
	var refusal *turnError
	return errors.As(err, &refusal) && (len(codes) == 0 || slices.Contains(codes, refusal.code))
}

// isGone reports a refusal that means: the relay does not have this
// allocation, or not for us. It has restarted, or a NAT on the way has.
func isGone(err error) bool {
	return refusedWith(err, codeUnauthorized, codeAllocationMismatch, codeWrongCredentials)
}

// gone reports whether err, the answer to a request about one peer, means that.
// Some relays (pion/turn v3) answer 401 where the peer is not allowed, instead
// of 403 (sections 9.2 and 12.2), so the allocation itself is asked for: nothing
// that one peer says of itself ends it for all.
func (a *allocation) gone(ctx context.Context, err error) bool {
	if refusedWith(err, codeAllocationMismatch) || !isGone(err) {
		return isGone(err)
	}
	_, err = a.request(ctx, stun.MethodRefresh)
	return isGone(err)
}

type credential struct{ username, password string }

// An allocation is this machine's allocation on one TURN server (RFC 8656):
// its control messages. Data does not pass through here.
type allocation struct {
	relay        *tunnel.Relay
	url          relayURL
	transactions *transactions
	heard        chan<- struct{} // gets a token when the server answers, if there is room; may be nil

	relayed  netip.AddrPort // where peers reach this machine
	mapped   netip.AddrPort // this machine as the server sees it
	lifetime time.Duration

	roundTrip atomic.Int64 // of the last request, in nanoseconds; 0: none yet

	mu         sync.Mutex // guards all below
	credential credential
	realm      stun.Realm
	nonce      stun.Nonce
	channels   channels
}

func newAllocation(relay *tunnel.Relay, t *transactions, url relayURL) *allocation {
	return &allocation{relay: relay, url: url, transactions: t, credential: url.credential}
}

// allocate asks for a relayed address (section 7). An allocation left over on
// this socket by an earlier run is deleted first.
func (a *allocation) allocate(ctx context.Context) error {
	answer, err := a.request(ctx, stun.MethodAllocate, requestedTransport)
	if refusedWith(err, codeAllocationMismatch) {
		if err := a.release(ctx); err != nil {
			return fmt.Errorf("delete the allocation of an earlier run: %w", err)
		}
		answer, err = a.request(ctx, stun.MethodAllocate, requestedTransport)
	}
	if err != nil {
		return err
	}
	var relayed, mapped stun.XORMappedAddress
	if err := relayed.GetFromAs(answer, stun.AttrXORRelayedAddress); err != nil {
		return fmt.Errorf("relay's answer has no relayed address: %w", err)
	}
	a.relayed = addrPort(relayed.IP, relayed.Port)
	if mapped.GetFrom(answer) == nil {
		a.mapped = addrPort(mapped.IP, mapped.Port)
	}
	a.lifetime = lifetimeOf(answer)
	return nil
}

// refresh keeps the allocation (section 8).
func (a *allocation) refresh(ctx context.Context) error {
	answer, err := a.request(ctx, stun.MethodRefresh)
	if err == nil {
		a.lifetime = lifetimeOf(answer)
	}
	return err
}

// refreshEvery is often enough for the mapping of a NAT and for the lifetime.
func (a *allocation) refreshEvery() time.Duration { return min(relayKeepalive, a.lifetime/2) }

// release deletes the allocation.
func (a *allocation) release(ctx context.Context) error {
	_, err := a.request(ctx, stun.MethodRefresh, lifetime(0))
	if refusedWith(err, codeAllocationMismatch) {
		return nil // it is gone already
	}
	return err
}

// permit lets packets from addr in, whatever their port (section 10). It calls
// written as bind does.
func (a *allocation) permit(ctx context.Context, addr netip.Addr, written func()) error {
	_, err := a.send(ctx, stun.MethodCreatePermission, a.noting(written), peerAddress(netip.AddrPortFrom(addr, 0)))
	return err
}

// channel returns the number for the address of a peer, named by holder. Packets
// may use it as soon as the request of bind is on its way.
func (a *allocation) channel(peer netip.AddrPort, holder string) (uint16, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.channels.number(peer, holder, time.Now())
}

// bind binds or keeps the channel of a peer, and with it the permission
// (section 12). As soon as the request has left it calls written: what is sent
// from then on arrives after it, so the first packet need not wait for the answer.
func (a *allocation) bind(ctx context.Context, peer netip.AddrPort, number uint16, written func()) error {
	_, err := a.send(ctx, stun.MethodChannelBind, a.noting(written), channelNumber(number), peerAddress(peer))
	a.mu.Lock()
	defer a.mu.Unlock()
	a.channels.extend(peer, time.Now()) // whatever was answered: repetitions may have arrived
	return err
}

// noting writes to the relay and calls written after the first time.
func (a *allocation) noting(written func()) func([]byte) error {
	var once sync.Once
	return func(message []byte) error {
		err := a.relay.Write(message)
		once.Do(written)
		return err
	}
}

func (a *allocation) setCredential(c credential) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.credential = c
}

func (a *allocation) request(ctx context.Context, method stun.Method, attributes ...stun.Setter) (*stun.Message, error) {
	return a.send(ctx, method, a.relay.Write, attributes...)
}

// send makes one authenticated request (RFC 8489, section 9.2). The first one
// has no realm and no nonce yet; the server's refusal brings both.
func (a *allocation) send(ctx context.Context, method stun.Method, write func([]byte) error, attributes ...stun.Setter) (*stun.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	var refusal error
	for range 3 {
		message, err := a.build(method, attributes)
		if err != nil {
			return nil, err
		}
		begin := time.Now()
		answer, err := a.transactions.do(ctx, message, !a.relay.Streaming(), write)
		if err != nil {
			return nil, fmt.Errorf("relay %s, %s: %w", a.relay.Server(), method, err)
		}
		a.roundTrip.Store(int64(time.Since(begin)))
		select {
		case a.heard <- struct{}{}:
		default:
		}
		if answer.Type.Class == stun.ClassSuccessResponse {
			return answer, nil
		}
		var code stun.ErrorCodeAttribute
		if err := code.GetFrom(answer); err != nil {
			return nil, &turnError{method: method, reason: "without a code"}
		}
		refusal = &turnError{method: method, code: int(code.Code), reason: string(code.Reason)}
		if !a.challenge(answer, int(code.Code)) {
			return nil, refusal
		}
	}
	return nil, refusal
}

// challenge takes realm and nonce from a refusal; true when another try makes sense.
func (a *allocation) challenge(answer *stun.Message, code int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if code == codeUnauthorized && len(a.nonce) > 0 || code != codeUnauthorized && code != codeStaleNonce {
		return false // the credential itself was refused
	}
	return a.nonce.GetFrom(answer) == nil && a.realm.GetFrom(answer) == nil
}

func (a *allocation) build(method stun.Method, attributes []stun.Setter) (*stun.Message, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	setters := []stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}
	setters = append(setters, attributes...)
	if len(a.nonce) > 0 {
		username := stun.NewUsername(a.credential.username)
		setters = append(setters, username, a.realm, a.nonce,
			stun.NewLongTermIntegrity(a.credential.username, a.realm.String(), a.credential.password))
	}
	return stun.Build(append(setters, stun.Fingerprint)...)
}

// Attributes of RFC 8656, section 18.

var requestedTransport = stun.RawAttribute{Type: stun.AttrRequestedTransport, Value: []byte{transportUDP, 0, 0, 0}}

func lifetime(d time.Duration) stun.Setter {
	return stun.RawAttribute{
		Type:  stun.AttrLifetime,
		Value: binary.BigEndian.AppendUint32(nil, uint32(d/time.Second)),
	}
}

func channelNumber(number uint16) stun.Setter {
	return stun.RawAttribute{
		Type:  stun.AttrChannelNumber,
		Value: binary.BigEndian.AppendUint32(nil, uint32(number)<<16),
	}
}

type peerAddress netip.AddrPort

func (p peerAddress) AddTo(m *stun.Message) error {
	addr := netip.AddrPort(p)
	x := stun.XORMappedAddress{IP: addr.Addr().AsSlice(), Port: int(addr.Port())}
	return x.AddToAs(m, stun.AttrXORPeerAddress)
}

// lifetimeOf returns the LIFETIME of an answer, the default of 10 min when
// there is none (section 7.2).
func lifetimeOf(m *stun.Message) time.Duration {
	value, err := m.Get(stun.AttrLifetime)
	if err != nil || len(value) != 4 {
		return 10 * time.Minute
	}
	return time.Duration(binary.BigEndian.Uint32(value)) * time.Second
}

func addrPort(ip net.IP, port int) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr.Unmap(), uint16(port))
}

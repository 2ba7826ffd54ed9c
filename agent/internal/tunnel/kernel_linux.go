package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// Choices of ours.
const (
	// lookInterval is how often the kernel is asked what arrived from direct
	// peers: their packets do not pass this process.
	lookInterval = time.Second

	// answerTime is how long the kernel may take to answer an initiation that
	// was handed to it.
	answerTime = time.Second
)

// kernel is WireGuard in the kernel, which has no hook for its sockets:
//
//	direct peer    kernel <-- UDP port of the tunnel --> peer
//	other peers    kernel <-- loopback, one address for each --> Endpoint --> relay, or kept
//	STUN, relay    raw sockets beside the kernel's, on the same port
//
// An Endpoint decides as it does for wireguard-go; where it sends directly the
// kernel is given that address, and else the one on the loopback.
type kernel struct {
	log    *slog.Logger
	name   string
	bind   *Bind
	client *wgctrl.Client
	loop   *loop
	stop   context.CancelFunc
	wait   sync.WaitGroup
	ended  chan struct{} // closed by look when it ends

	mu    sync.Mutex // guards all below and the order of what the kernel is told
	peers map[PublicKey]*kernelPeer
}

// kernelPeer is what the kernel was told of a peer, and last told us.
type kernelPeer struct {
	endpoint  *Endpoint
	allowed   map[netip.Prefix]bool
	mixed     wgtypes.Key    // pre-shared; zero: none
	at        netip.AddrPort // where the kernel sends
	arrival   *arrival       // of the initiation that the kernel may be answering
	arrivalAt time.Time
	rx, tx    int64
	handshake time.Time
}

// openKernel makes the device in the kernel.
func (d *Device) openKernel(cfg Config) error {
	if cfg.Filter != nil {
		return errors.New("the rules cannot be enforced in this process, which the packets do not pass; use nftables or --tunnel userspace")
	}
	if former, err := netlink.LinkByName(cfg.Interface); err == nil && former.Type() == kernelLink {
		_ = netlink.LinkDel(former) // what an agent that was killed left; adding tells if it stays
	}
	if err := addLink(cfg.Interface, kernelLink, cfg.MTU); err != nil {
		return fmt.Errorf("create interface %s (needs root or CAP_NET_ADMIN and the wireguard module; --tunnel=userspace needs no module): %w", cfg.Interface, err)
	}
	k, err := startKernel(cfg, d.bind)
	if err != nil {
		return errors.Join(err, removeLink(cfg.Interface))
	}
	d.wg, d.mode, d.name, d.roster.whole = k, ModeKernel, cfg.Interface, true
	d.host = netlinkAddressing{cfg.Interface}
	return nil
}

// RemoveFormer removes an interface of the kernel that an agent with this key has
// left, since it was killed. Without one of that name and key it does nothing.
func RemoveFormer(name string, key PrivateKey) error {
	link, err := netlink.LinkByName(name)
	var absent netlink.LinkNotFoundError
	switch {
	case errors.As(err, &absent):
		return nil
	case err != nil:
		return fmt.Errorf("look for the interface %s: %w", name, err)
	case link.Type() != (&netlink.Wireguard{}).Type():
		return nil // other interfaces of ours end with the process
	}
	client, err := wgctrl.New()
	if err != nil {
		return fmt.Errorf("speak to the kernel: %w", err)
	}
	device, err := client.Device(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		err = nil
	case err != nil:
		err = fmt.Errorf("read the interface %s: %w", name, err)
	case device.PrivateKey == wgtypes.Key(key.scalar):
		if err = netlink.LinkDel(link); err != nil {
			err = fmt.Errorf("remove the interface %s: %w", name, err)
		}
	}
	return errors.Join(err, client.Close())
}

func startKernel(cfg Config, bind *Bind) (*kernel, error) {
	client, err := wgctrl.New()
	if err != nil {
		return nil, fmt.Errorf("speak to the kernel: %w", err)
	}
	k := &kernel{log: cfg.Logger, name: cfg.Interface, bind: bind, client: client, ended: make(chan struct{}), peers: make(map[PublicKey]*kernelPeer)}
	if err := k.begin(cfg); err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return k, nil
}

// begin opens the sockets of kernel and process, and starts what runs.
func (k *kernel) begin(cfg Config) error {
	key, port, mark := wgtypes.Key(cfg.PrivateKey.scalar), int(cfg.ListenPort), int(cfg.Mark)
	if err := k.client.ConfigureDevice(k.name, wgtypes.Config{PrivateKey: &key, ListenPort: &port, FirewallMark: &mark}); err != nil {
		return fmt.Errorf("configure %s: %w", k.name, err)
	}
	if err := (netlinkAddressing{k.name}).Up(context.Background()); err != nil {
		return fmt.Errorf("open UDP port %d for the tunnel: %w", cfg.ListenPort, err)
	}
	state, err := k.client.Device(k.name)
	if err != nil {
		return fmt.Errorf("read %s: %w", k.name, err)
	}
	if k.loop, err = openLoop(uint16(state.ListenPort)); err != nil {
		return err
	}
	k.bind.std, k.bind.moved = &rawBind{mark: cfg.Mark}, k.moved
	receive, _, err := k.bind.Open(uint16(state.ListenPort))
	if err != nil {
		return errors.Join(err, k.loop.close())
	}
	running, stop := context.WithCancel(context.Background())
	k.stop = stop
	for _, fn := range receive {
		k.wait.Go(func() { k.inward(fn) })
	}
	k.wait.Go(k.outward)
	k.wait.Go(func() { k.look(running) })
	return nil
}

// Wait tells when the interface is gone.
func (k *kernel) Wait() chan struct{} { return k.ended }

// Close removes the interface.
func (k *kernel) Close() {
	k.stop()
	_, _ = k.bind.Close(), k.loop.close() // sockets that nobody will use
	k.wait.Wait()
	if err := removeLink(k.name); err != nil {
		k.log.Warn("interface not removed", "name", k.name, "error", err)
	}
	_ = k.client.Close() // the same
}

// inward hands what arrived for WireGuard by other ways than the kernel's
// socket to the kernel.
func (k *kernel) inward(receive conn.ReceiveFunc) {
	const batch = 32
	bufs, sizes, eps := make([][]byte, batch), make([]int, batch), make([]conn.Endpoint, batch)
	for i := range bufs {
		bufs[i] = make([]byte, largestPacket)
	}
	for {
		n, err := receive(bufs, sizes, eps)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			k.log.Debug("packet not received", "error", err)
			continue
		}
		for i := range n {
			if sizes[i] == 0 {
				continue
			}
			if at, ok := k.source(eps[i]); ok {
				k.loop.toKernel(bufs[i][:sizes[i]], at)
			}
		}
	}
}

// source is the address on the loopback that a packet comes from, as the kernel
// shall see it.
func (k *kernel) source(from conn.Endpoint) (netip.Addr, bool) {
	switch e := from.(type) {
	case *Endpoint:
		return k.loop.address(e.key), true
	case *arrival:
		if e.peer == nil {
			// The kernel made this session without us: who is on that path?
			if e.peer = k.onPath(&e.from); e.peer == nil {
				return netip.Addr{}, false
			}
			return k.loop.address(e.peer.key), true
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		if p := k.peers[e.peer.key]; p != nil {
			p.arrival, p.arrivalAt = e, time.Now()
		}
		return k.loop.address(e.peer.key), true
	}
	return netip.Addr{}, false
}

// onPath returns the peer that has a path where a packet came from.
func (k *kernel) onPath(from *origin) *Endpoint {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.peers {
		r := p.endpoint.routes.Load()
		for _, path := range []*Path{r.primary, r.also} {
			if path.matches(from) {
				path.touch(k.bind.now())
				return p.endpoint
			}
		}
	}
	return nil
}

// outward takes what the kernel sends to peers that have no direct path.
func (k *kernel) outward() {
	buf := make([]byte, largestPacket)
	for {
		n, key, err := k.loop.fromKernel(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || key.IsZero() {
			continue // not the kernel's, or of a peer that has left
		}
		packet := [][]byte{buf[:n]}
		if a := k.answering(key, packet[0]); a != nil {
			_ = a.send(packet) // a loss here is repaired by repetition
			continue
		}
		_ = k.bind.Endpoint(key).send(packet) // the same, and a datagram may be lost
	}
}

// answering returns the arrival that the kernel answers with this packet.
func (k *kernel) answering(key PublicKey, packet []byte) *arrival {
	if t := wireguardType(packet); t != messageResponse && t != messageCookie {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.peers[key]
	if p == nil || p.arrival == nil || time.Since(p.arrivalAt) > answerTime {
		return nil
	}
	a := p.arrival
	p.arrival = nil
	return a
}

// moved gives the kernel the address of a peer that is reached directly now, or
// the one on the loopback.
func (k *kernel) moved(e *Endpoint) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.peers[e.key]
	if p == nil {
		return
	}
	at := k.whereTo(e)
	if at == p.at {
		return
	}
	if err := k.tell(wgtypes.PeerConfig{PublicKey: wgtypes.Key(e.key), UpdateOnly: true, Endpoint: net.UDPAddrFromAddrPort(at)}); err != nil {
		k.log.Warn("path of a peer not set in the kernel", "error", err)
		return
	}
	p.at = at
}

func (k *kernel) whereTo(e *Endpoint) netip.AddrPort {
	if r := e.routes.Load(); r.primary != nil && r.primary.relay == nil && r.also == nil {
		return r.primary.addr
	}
	return netip.AddrPortFrom(k.loop.address(e.key), k.loop.port)
}

func (k *kernel) tell(peers ...wgtypes.PeerConfig) error {
	err := k.client.ConfigureDevice(k.name, wgtypes.Config{Peers: peers})
	if err != nil && !errors.Is(err, syscall.ENODEV) {
		return fmt.Errorf("configure %s: %w", k.name, err)
	}
	return err
}

// look asks the kernel again and again what it knows.
func (k *kernel) look(ctx context.Context) {
	defer close(k.ended)
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		state, err := k.client.Device(k.name)
		if errors.Is(err, os.ErrNotExist) {
			return // somebody has removed the interface
		}
		if err != nil {
			continue
		}
		for i := range state.Peers {
			k.note(&state.Peers[i])
		}
	}
}

// note makes evidence of the counters of a peer, as packets that pass this
// process would.
func (k *kernel) note(seen *wgtypes.Peer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.peers[PublicKey(seen.PublicKey)]
	if p == nil {
		return
	}
	received, sent := seen.ReceiveBytes > p.rx, seen.TransmitBytes > p.tx
	p.rx, p.tx = seen.ReceiveBytes, seen.TransmitBytes
	if seen.LastHandshakeTime.After(p.handshake) {
		p.handshake = seen.LastHandshakeTime
		p.endpoint.answeredElsewhere()
	}
	at := normal(seen.Endpoint.AddrPort())
	if seen.Endpoint == nil || at.Addr().IsLoopback() && at.Port() == k.loop.port {
		return // those packets pass here
	}
	path := p.endpoint.Primary()
	switch {
	case path == nil && received:
		// The peer has authenticated itself from there, and the kernel answers there.
		p.at = at
		path = k.bind.DirectPath(at)
		p.endpoint.routes.Store(&routes{primary: path})
		k.bind.events.add(Event{Kind: Arrived, Peer: p.endpoint.key, Addr: at})
	case path == nil:
		return
	case path.relay != nil || path.addr != at:
		p.at = at
		if received {
			k.bind.events.add(Event{Kind: Stray, Peer: p.endpoint.key, Addr: at})
		}
		return
	}
	now := k.bind.now()
	if sent {
		path.sent.Store(now)
		path.unanswered.CompareAndSwap(0, now)
	}
	if received {
		path.touch(now)
	}
}

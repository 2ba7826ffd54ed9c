// Package tunnel is the agent's WireGuard device: interface, sockets, keys and
// the endpoint object of each peer.
//
//	interface or netstack <-> filter <-> wireguard-go <-> Bind <-> UDP sockets, relay stream
package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/wattlenet/wattle/internal/table"
)

// A Mode says what stands behind the device.
type Mode string

const (
	// ModeAuto is userspace where an interface can be made, else netstack.
	ModeAuto Mode = "auto"

	// ModeUserspace is a TUN interface of the host.
	ModeUserspace Mode = "userspace"

	// ModeKernel is the WireGuard of the Linux kernel. Direct peers never pass
	// this process; relayed ones do.
	ModeKernel Mode = "kernel"

	// ModeNetstack is a network stack inside the process: no interface, no
	// root. Reach the overlay with Dial, Listen, ListenPacket and Ping.
	ModeNetstack Mode = "netstack"
)

const (
	// DefaultMTU is the least that IPv6 allows (RFC 8200, section 5): it fits
	// every path, relays included.
	DefaultMTU = 1280

	// Overhead is what WireGuard adds to a packet, in bytes: header 16, tag 16. It
	// pads packets to a multiple of PaddedTo first, but not beyond the device's MTU.
	Overhead = 32
	PaddedTo = 16

	// MaximumMTU leaves room for the headers in a jumbo frame.
	MaximumMTU = 8900
)

var errClosed = errors.New("tunnel: device is closed")

// ErrUnsupported says that this system cannot do what was asked.
var ErrUnsupported = errors.New("not supported on this system")

// Config is what stays the same for the life of a device.
type Config struct {
	Logger     *slog.Logger // required
	PrivateKey PrivateKey   // required

	// Bind is the device's sockets. Nil makes one; Device.Bind returns it.
	Bind *Bind

	Mode      Mode   // "" is ModeAuto
	Interface string // "" is DefaultInterface; unused in ModeNetstack

	// ListenPort is the UDP port; 0 lets the system choose.
	ListenPort uint16

	// MTU of the overlay in bytes; 0 is DefaultMTU.
	MTU int

	// Single sends every datagram by itself, for network cards and kernels whose
	// segmentation offload is broken. Unused with a Bind of the caller's.
	Single bool

	// Mark is put on every packet the device sends (Linux, privileged). 0: none.
	Mark uint32

	// Filter judges packets between interface and device; nil lets all pass,
	// which is right where the host's own filter does it.
	Filter Filter
}

// A Device is a running WireGuard device.
type Device struct {
	log    *slog.Logger
	bind   *Bind
	mode   Mode
	reason string
	name   string
	wg     wireguard
	stack  *stack     // ModeNetstack only
	host   addressing // nil in ModeNetstack

	roster *roster

	moves sync.WaitGroup // of addresses to the next key of their peer
	done  chan struct{}  // closed by Close

	admitting sync.WaitGroup // handshakes of peers that are not active yet

	mu         sync.Mutex // guards all below
	addresses  []netip.Prefix
	configured map[PublicKey]Peer // what the device has
	unsure     bool               // configured may be wrong: the next change states everything
	wanted     table.Table[PublicKey, Peer]
	split      map[PublicKey][]PublicKey // other keys that the roster has of a peer
	mixing     mixing
	moved      map[PublicKey]bool // next keys that their peers use already
	retired    map[PublicKey]retirement
	retiring   *time.Timer // for the first of them
	look       *time.Timer // for peers to retire; nil: nothing to look at
	closed     bool
}

// New makes the device and opens its sockets. It has no addresses and no peers
// until Set. Without the right to make an interface, ModeAuto becomes
// ModeNetstack and Reason says why.
func New(cfg Config) (*Device, error) {
	if cfg.Logger == nil || cfg.PrivateKey.IsZero() {
		return nil, errors.New("tunnel: a device needs a logger and a private key")
	}
	if cfg.MTU == 0 {
		cfg.MTU = DefaultMTU
	}
	if cfg.MTU < DefaultMTU || cfg.MTU > MaximumMTU {
		return nil, fmt.Errorf("tunnel: MTU %d: want %d to %d", cfg.MTU, DefaultMTU, MaximumMTU)
	}
	if cfg.Interface == "" {
		cfg.Interface = DefaultInterface
	}
	bind := cfg.Bind
	if bind == nil {
		var err error
		if bind, err = NewBind(BindConfig{Logger: cfg.Logger, PrivateKey: cfg.PrivateKey, Single: cfg.Single}); err != nil {
			return nil, err
		}
	}
	if bind.PublicKey() != cfg.PrivateKey.Public() {
		return nil, errors.New("tunnel: the bind was made for another key")
	}
	d := &Device{
		log: cfg.Logger, bind: bind, roster: newRoster(), mixing: newMixing(bind.PublicKey()), done: make(chan struct{}),
		configured: map[PublicKey]Peer{}, split: map[PublicKey][]PublicKey{}, moved: map[PublicKey]bool{}, retired: map[PublicKey]retirement{},
	}
	if cfg.Mode == ModeKernel {
		if err := d.openKernel(cfg); err != nil {
			return nil, fmt.Errorf("WireGuard of the kernel: %w", err)
		}
		return d, nil
	}
	inner, err := d.makeInterface(cfg)
	if err != nil {
		return nil, err
	}
	bind.admit, bind.again = d.admit, d.again
	reader := &waking{
		Device: Filtered(inner, cfg.Filter), roster: d.roster, activate: d.activate,
		sender: inner, refusals: rate.NewLimiter(refusalsPerSecond, refusalsBurst),
	}
	wg := device.NewDevice(reader, bind, quiet(cfg.Logger))
	settings := newUAPI().set("private_key", cfg.PrivateKey.hex()).set("listen_port", fmt.Sprint(cfg.ListenPort))
	if cfg.Mark != 0 {
		settings.set("fwmark", fmt.Sprint(cfg.Mark))
	}
	if err := wg.IpcSet(settings.String()); err != nil {
		wg.Close()
		return nil, fmt.Errorf("configure the WireGuard device: %w", err)
	}
	if err := wg.Up(); err != nil {
		wg.Close()
		return nil, fmt.Errorf("open UDP port %d for the tunnel: %w", cfg.ListenPort, err)
	}
	d.wg = inProcess{wg}
	return d, nil
}

// makeInterface decides the mode.
func (d *Device) makeInterface(cfg Config) (tun.Device, error) {
	switch cfg.Mode {
	case ModeUserspace, ModeAuto, "":
		inner, err := tun.CreateTUN(cfg.Interface, cfg.MTU)
		if err == nil {
			if d.name, err = inner.Name(); err != nil {
				_ = inner.Close() // the first error tells more
				return nil, fmt.Errorf("name of the tunnel interface: %w", err)
			}
			if d.host, err = newAddressing(d.name, inner, cfg.MTU); err != nil {
				_ = inner.Close() // the same
				return nil, err
			}
			d.mode = ModeUserspace
			return inner, nil
		}
		if cfg.Mode == ModeUserspace {
			return nil, fmt.Errorf("create interface %s (needs root or CAP_NET_ADMIN and /dev/net/tun; --tunnel=netstack needs neither): %w",
				cfg.Interface, err)
		}
		d.reason = fmt.Sprintf("interface %s could not be made: %v", cfg.Interface, err)
	case ModeNetstack:
	default:
		return nil, fmt.Errorf("tunnel mode %q: want auto, userspace, kernel or netstack", cfg.Mode)
	}
	s, err := newStack(cfg.MTU)
	if err != nil {
		return nil, err
	}
	d.mode, d.stack = ModeNetstack, s
	return s, nil
}

// Bind returns the device's sockets, for connectivity.
func (d *Device) Bind() *Bind { return d.bind }

// Mode returns ModeUserspace, ModeKernel or ModeNetstack.
func (d *Device) Mode() Mode { return d.mode }

// Reason says why ModeAuto ended in ModeNetstack; empty otherwise.
func (d *Device) Reason() string { return d.reason }

// Interface returns the name of the host's interface, empty in ModeNetstack.
func (d *Device) Interface() string { return d.name }

// Settings is the wanted state of a device.
type Settings struct {
	// Addresses of this machine on the overlay, each with the prefix of the
	// network it belongs to: the prefix is routed into the tunnel.
	Addresses []netip.Prefix

	Peers table.Table[PublicKey, Peer]

	// RequirePresharedKey lets no session begin with a peer that SetPresharedKey
	// was not called for, and ends those that have.
	RequirePresharedKey bool
}

// A Peer is another machine, as the device knows it.
type Peer struct {
	PublicKey PublicKey

	// AllowedIPs are the sources accepted from the peer and the destinations
	// sent to it. A prefix belongs to one peer only.
	AllowedIPs []netip.Prefix

	// NextKey is the key that the peer will change over to; zero for none. It is
	// answered at once, and the addresses move to it with its first data.
	NextKey PublicKey
}

// Set makes the device what settings says: it adds, changes and removes what
// differs and touches nothing else; what it costs grows with that, not with the
// number of peers. A second call with the same settings does nothing. After an
// error the next call tries again what failed. An error that is ErrNoIPv6 alone
// means that all else is as wanted.
func (d *Device) Set(ctx context.Context, settings Settings) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	addresses := sortedPrefixes(settings.Addresses)
	var lacking error
	if !slices.Equal(d.addresses, addresses) {
		if lacking = d.setAddresses(ctx, addresses); lacking == nil {
			d.addresses = addresses
		} else if !errors.Is(lacking, ErrNoIPv6) {
			return lacking
		}
	}
	if err := errors.Join(d.require(settings.RequirePresharedKey), d.setPeers(settings.Peers)); err != nil {
		return err
	}
	return lacking
}

// setPeers brings roster and device to what is wanted. The caller holds mu.
func (d *Device) setPeers(wanted table.Table[PublicKey, Peer]) error {
	changed := map[PublicKey]bool{}
	for key := range table.Diff(d.wanted, wanted, samePeer) {
		changed[key] = true
	}
	if len(changed) == 0 && !d.unsure {
		return nil
	}
	former := d.wanted
	d.wanted = wanted
	d.retireKeys(former, changed)
	if err := d.renewEntries(changed); err != nil {
		d.wanted = former
		return err
	}
	return nil
}

// renewEntries gives roster and device what they shall have of some peers. The
// caller holds mu.
func (d *Device) renewEntries(peers map[PublicKey]bool) error {
	var gone []PublicKey
	var put []Peer
	split := map[PublicKey][]PublicKey{}
	for key := range peers {
		gone = append(append(gone, key), d.split[key]...)
		peer, wanted := d.wanted.Get(key)
		if !wanted {
			continue
		}
		for _, entry := range d.entries(peer) {
			put = append(put, entry)
			if entry.PublicKey != key {
				split[key] = append(split[key], entry.PublicKey)
			}
		}
	}
	if err := d.roster.replace(gone, put); err != nil {
		return err
	}
	for key := range peers {
		delete(d.split, key)
	}
	maps.Copy(d.split, split)
	for _, entry := range put {
		gone = append(gone, entry.PublicKey)
	}
	if err := d.configure(gone); err != nil {
		return err
	}
	d.bind.keepOnly(func(key PublicKey) bool { return d.roster.member(key) != nil })
	d.forgetKeys()
	return nil
}

// Ended returns a channel that is closed when the device works no more: by Close,
// or since somebody has removed its interface.
func (d *Device) Ended() <-chan struct{} { return d.wg.Wait() }

// LookAgain has the next Set look which addresses the interface has: others may
// have changed them.
func (d *Device) LookAgain() {
	d.mu.Lock()
	d.addresses = nil
	d.mu.Unlock()
}

func (d *Device) setAddresses(ctx context.Context, addresses []netip.Prefix) error {
	if d.stack != nil {
		return d.stack.setAddresses(addresses)
	}
	if err := applyAddresses(ctx, d.host, addresses); err != nil {
		return fmt.Errorf("interface %s: %w", d.name, err)
	}
	return nil
}

// Close ends the device and removes its interface. It may be called twice.
func (d *Device) Close() error {
	d.mu.Lock()
	closed := d.closed
	d.closed = true
	if d.look != nil {
		d.look.Stop()
	}
	if d.retiring != nil {
		d.retiring.Stop()
	}
	d.mu.Unlock()
	if !closed {
		close(d.done)
		d.wg.Close()
	}
	d.admitting.Wait()
	d.moves.Wait()
	return nil
}

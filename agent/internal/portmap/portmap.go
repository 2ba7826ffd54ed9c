// Package portmap has the gateway of the local network forward a UDP port to this machine.
//
// Three protocols do that, asked for in this order: PCP (RFC 6887), its
// predecessor NAT-PMP (RFC 6886) on the same port, and UPnP (the services
// WANIPConnection and WANPPPConnection of an InternetGatewayDevice).
//
//	find the gateway -> PCP -> NAT-PMP -> UPnP -> keep: again at half of the lifetime
//	        ^                               |        |
//	        +-- the network has changed ----+--------+
//	        +-- nobody forwards: later -----+
//
// Whatever the gateway says is taken for a claim: lengths are bounded, only the
// gateway itself is listened to, and a wrong address costs its readers one
// candidate that does not answer.
package portmap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"
)

// Choices of ours.
const (
	// lifetime is what RFC 6886, section 3.3 and RFC 6887, section 15 recommend,
	// two hours and less than a day: a machine that vanishes leaves no port open for long.
	lifetime = 2 * time.Hour

	// shortest and longest bound the lifetimes that a gateway can have us believe.
	shortest = 2 * time.Minute
	longest  = 24 * time.Hour

	// askLimit bounds one protocol. Nobody waits for a mapping.
	askLimit    = 3 * time.Second
	searchLimit = time.Second // of the device, with UPnP
	removeLimit = 500 * time.Millisecond

	// A gateway that forwards nothing is asked again, ever more rarely.
	firstRetry = 5 * time.Minute
	lastRetry  = time.Hour
)

// The protocols by name.
const (
	PCP    = "pcp"
	NATPMP = "nat-pmp"
	UPnP   = "upnp"
)

// A Mapping is a port of the gateway that leads to this machine.
type Mapping struct {
	Protocol string         // the zero Mapping has none
	Gateway  netip.Addr     // on the local network
	External netip.AddrPort // where others reach this machine
	Lifetime time.Duration  // from the gateway's answer; it is renewed at half
}

// A Gateway is the way out of the local network.
type Gateway struct {
	Addr  netip.Addr // of the next router
	Local netip.Addr // of this machine, towards it
}

// Config is what a Mapper needs.
type Config struct {
	Logger *slog.Logger // required

	// Port is the UDP port of this machine that is forwarded; 0 while there is
	// none. Required.
	Port func() uint16

	// Changed is told of the mapping in force, and with the zero Mapping that there is
	// none and why. It is called from one goroutine. Required.
	Changed func(Mapping, error)

	// Find finds the gateway; nil asks the system.
	Find func() (Gateway, error)

	// Ports replace those of the protocols, in tests.
	Ports Ports
}

// Ports are where a gateway listens. Zero fields mean the ports of the protocols.
type Ports struct {
	Control  uint16         // PCP and NAT-PMP
	Discover netip.AddrPort // UPnP
}

// A Mapper keeps one mapping.
type Mapper struct {
	cfg     Config
	changed chan struct{} // one token: the network is another
}

// New checks the configuration. Nothing happens before Run.
func New(cfg Config) (*Mapper, error) {
	if cfg.Logger == nil || cfg.Port == nil || cfg.Changed == nil {
		return nil, errors.New("portmap: logger, port and changed are required")
	}
	if cfg.Find == nil {
		cfg.Find = findGateway
	}
	if cfg.Ports.Control == 0 {
		cfg.Ports.Control = controlPort
	}
	if !cfg.Ports.Discover.IsValid() {
		cfg.Ports.Discover = discoverAddr
	}
	return &Mapper{cfg: cfg, changed: make(chan struct{}, 1)}, nil
}

// NetworkChanged says that the gateway may be another one, or this machine's
// address or port.
func (m *Mapper) NetworkChanged() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// Run keeps a mapping until ctx ends, then deletes it and returns nil. It may be
// called once.
func (m *Mapper) Run(ctx context.Context) error {
	retry := firstRetry
	for ctx.Err() == nil {
		held, err := m.acquire(ctx)
		if err != nil {
			m.cfg.Logger.Debug("no port mapping", "error", err.Error())
			m.cfg.Changed(Mapping{}, err)
			if m.sleep(ctx, retry) {
				retry = firstRetry
			} else {
				retry = min(2*retry, lastRetry)
			}
			continue
		}
		retry = firstRetry
		m.keep(ctx, held)
		m.cfg.Changed(Mapping{}, nil)
	}
	return nil
}

// sleep returns after d, and with true as soon as the network has changed.
func (m *Mapper) sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return false
	case <-m.changed:
		return true
	case <-ctx.Done():
		return false
	}
}

// A forwarder is one protocol with one gateway.
type forwarder interface {
	// add makes or renews the mapping of port. The external port is wanted if
	// it is free; 0 leaves the choice to the gateway.
	add(ctx context.Context, port, wanted uint16) (Mapping, error)

	// remove deletes the mapping that add made.
	remove(ctx context.Context, port uint16) error
}

// held is a mapping in force and where it came from.
type held struct {
	forwarder
	gateway Gateway
	port    uint16
	mapping Mapping
}

var errPublic = errors.New("the address of this machine is public, nothing has to be mapped")

// acquire asks the gateway in every way until one succeeds.
func (m *Mapper) acquire(ctx context.Context) (*held, error) {
	gateway, err := m.cfg.Find()
	if err != nil {
		return nil, fmt.Errorf("find the gateway: %w", err)
	}
	if !translated(gateway.Local) {
		return nil, errPublic
	}
	port := m.cfg.Port()
	if port == 0 {
		return nil, errors.New("the tunnel's socket is not open")
	}
	control := netip.AddrPortFrom(gateway.Addr, m.cfg.Ports.Control)
	ways := []struct {
		name string
		forwarder
	}{
		{PCP, newPCP(control, gateway.Local)},
		{NATPMP, &natPMP{control}},
		{UPnP, newUPnP(gateway, m.cfg.Ports.Discover)},
	}
	var failures []error
	for _, way := range ways {
		limited, cancel := context.WithTimeout(ctx, askLimit)
		mapping, err := way.add(limited, port, port)
		cancel()
		if err == nil {
			mapping.Protocol, mapping.Gateway = way.name, gateway.Addr
			return &held{way.forwarder, gateway, port, mapping}, nil
		}
		failures = append(failures, fmt.Errorf("%s: %w", way.name, err))
	}
	return nil, errors.Join(failures...)
}

// translated reports whether a gateway is likely to translate addr: private
// networks (RFC 1918) and those of carriers (RFC 6598).
func translated(addr netip.Addr) bool {
	return addr.Is4() && (addr.IsPrivate() || addr.IsLoopback() || sharedAddressSpace.Contains(addr))
}

var sharedAddressSpace = netip.MustParsePrefix("100.64.0.0/10")

// keep renews the mapping until the network changes, the gateway refuses, or
// ctx ends, and deletes it.
func (m *Mapper) keep(ctx context.Context, h *held) {
	h.report(m)
	for {
		changed := m.sleep(ctx, min(max(h.mapping.Lifetime, shortest), longest)/2)
		if ctx.Err() != nil || changed && m.moved(h) {
			break
		}
		limited, cancel := context.WithTimeout(ctx, askLimit)
		renewed, err := h.add(limited, h.port, h.mapping.External.Port())
		cancel()
		if err != nil {
			m.cfg.Logger.Info("port mapping lost", "gateway", h.gateway.Addr.String(), "error", err.Error())
			break
		}
		renewed.Protocol, renewed.Gateway = h.mapping.Protocol, h.mapping.Gateway
		if news := renewed.External != h.mapping.External; news {
			h.mapping = renewed
			h.report(m)
		}
		h.mapping = renewed
	}
	farewell, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeLimit)
	defer cancel()
	if err := h.remove(farewell, h.port); err != nil {
		m.cfg.Logger.Debug("port mapping not deleted, it expires by itself", "error", err.Error())
	}
}

func (h *held) report(m *Mapper) {
	m.cfg.Logger.Info("port mapped", "protocol", h.mapping.Protocol, "gateway", h.gateway.Addr.String(), "external", h.mapping.External.String())
	m.cfg.Changed(h.mapping, nil)
}

// moved reports whether the mapping leads elsewhere than it should.
func (m *Mapper) moved(h *held) bool {
	gateway, err := m.cfg.Find()
	return err != nil || gateway != h.gateway || m.cfg.Port() != h.port
}

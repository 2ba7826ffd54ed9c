// Package netcheck measures what the network around this machine lets through.
//
// It needs no tunnel and no enrolment: sockets of its own ask STUN servers
// (RFC 8489) for this machine's address, compare what they say (RFC 5780), and
// ask the control plane over HTTPS.
package netcheck

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wattlenet/wattle/agent/internal/portmap"
)

// Schema names the form of Report.
const Schema = "wattle.netcheck/v1"

// How a NAT maps and filters (RFC 4787, sections 4.1 and 5).
const (
	None                    = "none" // no NAT
	EndpointIndependent     = "endpoint_independent"
	AddressDependent        = "address_dependent"
	AddressAndPortDependent = "address_and_port_dependent"
	Unknown                 = "unknown" // too few servers to tell
)

// What a captive portal check can say.
const (
	PortalNo  = "no"
	PortalYes = "yes"
)

// Config says whom to ask.
type Config struct {
	Logger *slog.Logger // required

	// Servers are the STUN servers, relays among them.
	Servers []Server

	// ManagementURL is the control plane; empty asks nobody.
	ManagementURL string

	// TLS is how the certificate of the control plane is checked; nil trusts the
	// system's authorities.
	TLS *tls.Config

	// Control prepares each socket, as in net.Dialer; nil does nothing.
	Control Control

	// Gateway finds the gateway that may forward ports; nil asks the system.
	Gateway func() (portmap.Gateway, error)

	// GatewayPorts replace those of the protocols, in tests.
	GatewayPorts portmap.Ports
}

// A Server answers binding requests.
type Server struct {
	Host   string // host:port
	Relay  bool   // it relays as well
	Region string // where it stands; empty: not told
}

// A Report is what was found.
type Report struct {
	Schema string `json:"schema"`

	IPv4 Family `json:"ipv4"`
	IPv6 Family `json:"ipv6"`

	NAT         NAT         `json:"nat"`
	PortMapping PortMapping `json:"port_mapping"`
	Servers     []Answer    `json:"servers"`
	Management  Management  `json:"management"`

	// CaptivePortal is yes, no or unknown.
	CaptivePortal string `json:"captive_portal"`

	// Warnings are sentences for the user.
	Warnings []string `json:"warnings"`
}

// Family is what one version of IP can do.
type Family struct {
	// Address is this machine's own on the way out; empty without one.
	Address string `json:"address"`

	// UDP says that a server has answered.
	UDP bool `json:"udp"`

	// Mapped is address and port as a server sees them.
	Mapped string `json:"mapped"`

	// MTU is the largest packet in bytes, headers of IP included, that reached a
	// server unbroken; 0: not measured.
	MTU int `json:"mtu"`
}

// NAT is what stands between this machine and the internet, for IPv4.
type NAT struct {
	Mapping   string `json:"mapping"`
	Filtering string `json:"filtering"` // unknown unless a server has a second address (RFC 5780)

	// PreservesPort says that the port outside is the port inside.
	PreservesPort bool `json:"preserves_port"`

	// Hairpin says that this machine reaches itself at its mapped address.
	Hairpin bool `json:"hairpin"`
}

// PortMapping is whether the gateway forwards a port on demand.
type PortMapping struct {
	Protocol string `json:"protocol"` // pcp, nat-pmp or upnp; empty: nobody forwards
	Gateway  string `json:"gateway"`
	External string `json:"external"`
	Error    string `json:"error"`
}

// Answer is what became of asking one server.
type Answer struct {
	Host   string `json:"host"`
	Relay  bool   `json:"relay"`
	Region string `json:"region"` // where it stands; empty: not told

	UDP       bool    `json:"udp"`
	RTTMillis float64 `json:"rtt_ms"` // over UDP; 0: no answer

	// TCP says that a connection to the same port opens.
	TCP       bool    `json:"tcp"`
	TCPMillis float64 `json:"tcp_ms"`

	Error string `json:"error"`
}

// Management is the control plane.
type Management struct {
	URL       string  `json:"url"`
	Reached   bool    `json:"reached"`
	RTTMillis float64 `json:"rtt_ms"` // of one request

	// ClockOffsetSeconds must be added to this machine's clock; whole seconds.
	ClockOffsetSeconds float64 `json:"clock_offset_seconds"`
	ClockKnown         bool    `json:"clock_known"`

	Error string `json:"error"`
}

// Run asks everybody at once and returns within a few seconds. An error means
// that nothing could be asked; what fails alone stands in the report.
func Run(ctx context.Context, c Config) (Report, error) {
	if c.Logger == nil {
		return Report{}, errors.New("netcheck: a logger is required")
	}
	r := Report{
		Schema: Schema, NAT: NAT{Mapping: Unknown, Filtering: Unknown}, CaptivePortal: Unknown, Servers: []Answer{}, Warnings: []string{},
		Management: Management{URL: c.ManagementURL},
	}
	var parts sync.WaitGroup
	targets := resolve(ctx, c.Servers)
	parts.Go(func() { r.IPv4, r.NAT = c.family(ctx, "udp4", targets) })
	parts.Go(func() { r.IPv6, _ = c.family(ctx, "udp6", targets) })
	parts.Go(func() { r.Servers = c.servers(ctx, targets) })
	parts.Go(func() { r.PortMapping = c.portMapping(ctx) })
	parts.Go(func() { r.Management, r.CaptivePortal = c.management(ctx) })
	parts.Wait()
	r.Warnings = append(r.Warnings, r.judge(len(c.Servers))...)
	return r, ctx.Err()
}

// A target is a server with the addresses that its name has.
type target struct {
	server Server
	addrs  []netip.AddrPort
	err    error
}

func (t target) first(four bool) (netip.AddrPort, bool) {
	at := slices.IndexFunc(t.addrs, func(a netip.AddrPort) bool { return a.Addr().Is4() == four })
	if at < 0 {
		return netip.AddrPort{}, false
	}
	return t.addrs[at], true
}

// resolveLimit bounds one look-up of a name.
const resolveLimit = 3 * time.Second

func resolve(ctx context.Context, servers []Server) []target {
	ctx, cancel := context.WithTimeout(ctx, resolveLimit)
	defer cancel()
	targets := make([]target, len(servers))
	var asking sync.WaitGroup
	for i, server := range servers {
		asking.Go(func() {
			targets[i] = target{server: server}
			targets[i].addrs, targets[i].err = lookup(ctx, server.Host)
		})
	}
	asking.Wait()
	return targets
}

func lookup(ctx context.Context, hostport string) ([]netip.AddrPort, error) {
	host, portText, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "udp", portText)
	if err != nil {
		return nil, err
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	addrs := make([]netip.AddrPort, 0, len(found))
	for _, addr := range found {
		addrs = append(addrs, netip.AddrPortFrom(addr.Unmap(), uint16(port)))
	}
	return addrs, nil
}

// portMapping has the gateway forward a port for a moment.
func (c Config) portMapping(ctx context.Context) PortMapping {
	conn, err := c.listen(ctx, "udp4")
	if err != nil {
		return PortMapping{Error: err.Error()}
	}
	defer func() { _ = conn.Close() }() // nothing was sent on it
	own, _ := netip.ParseAddrPort(conn.LocalAddr().String())
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var found PortMapping
	var once sync.Once
	mapper, err := portmap.New(portmap.Config{
		Logger: c.Logger, Port: own.Port, Find: c.Gateway, Ports: c.GatewayPorts,
		Changed: func(m portmap.Mapping, err error) {
			once.Do(func() {
				found = PortMapping{Protocol: m.Protocol}
				switch {
				case m.Protocol != "":
					found.Gateway, found.External = m.Gateway.String(), m.External.String()
				case err != nil:
					found.Error = strings.ReplaceAll(err.Error(), "\n", "; ") // one for each protocol
				}
				cancel() // gives the port back
			})
		},
	})
	if err != nil {
		return PortMapping{Error: err.Error()}
	}
	if err := mapper.Run(ctx); err != nil && found.Error == "" && found.Protocol == "" {
		found.Error = err.Error()
	}
	return found
}

// leastMTU is the least that a path must carry for full packets of the tunnel:
// 1280 bytes and the headers of WireGuard and IPv4.
const leastMTU = 1280 + 60

// judge writes what is wrong in words.
func (r *Report) judge(servers int) (list []string) {
	add := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	switch {
	case servers == 0:
		add("no STUN server is known; name one with --stun HOST:3478, or the control plane with --management-url")
	case !r.IPv4.UDP && !r.IPv6.UDP:
		add("no UDP leaves this network, or none comes back: all traffic takes a relay over TCP, TLS or WebSocket")
	case r.NAT.Mapping == AddressDependent || r.NAT.Mapping == AddressAndPortDependent:
		add("the NAT maps by destination: a direct path to a machine behind another such NAT cannot be found")
	}
	if mtu := r.IPv4.MTU; mtu != 0 && mtu < leastMTU {
		add("the path carries packets of %d bytes, %d are needed for direct paths", mtu, leastMTU)
	}
	if r.CaptivePortal == PortalYes {
		add("a captive portal answers in the place of the control plane: sign in with a browser")
	}
	if r.Management.ClockKnown && (r.Management.ClockOffsetSeconds > clockTolerance || r.Management.ClockOffsetSeconds < -clockTolerance) {
		add("the clock of this machine is off by %.0f s; set it, certificates and tokens depend on it", -r.Management.ClockOffsetSeconds)
	}
	return list
}

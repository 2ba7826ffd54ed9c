package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	home "github.com/wattlenet/wattle/acceptance/lab/gateway"
)

// Gateway makes the router forward ports for the machines of its LAN, asked in
// one protocol: "pcp", "nat-pmp" or "upnp". It works until the lab is closed.
func (r *Router) Gateway(protocol string) (*home.Gateway, error) {
	config := home.Config{External: r.Addr, Forward: r.forwardPort}
	err := r.Do(func() (err error) {
		at := inside(r.LAN).String()
		switch protocol {
		case "pcp", "nat-pmp":
			config.PCP = protocol == "pcp"
			config.Control, err = net.ListenPacket("udp4", net.JoinHostPort(at, "5351"))
		case "upnp":
			var lan *net.Interface
			if lan, err = net.InterfaceByName("lan"); err != nil {
				return err
			}
			if config.Web, err = net.Listen("tcp4", net.JoinHostPort(at, "5000")); err != nil {
				return err
			}
			config.Discover, err = net.ListenMulticastUDP("udp4", lan, &net.UDPAddr{IP: net.IPv4(239, 255, 255, 250), Port: 1900})
		default:
			err = fmt.Errorf("a gateway speaks pcp, nat-pmp or upnp, not %q", protocol)
		}
		return err
	})
	if err = errors.Join(err, r.nft(forwardedRules)); err != nil {
		return nil, fmt.Errorf("lab: %s: %w", r.Name, err)
	}
	g := home.New(config)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = g.Run(ctx) }) // always nil
	r.lab.mu.Lock()
	defer r.lab.mu.Unlock()
	r.lab.ending = append(r.lab.ending, func() { cancel(); running.Wait() })
	return g, nil
}

// forwardPort leads a UDP port of the outside to a machine, or nowhere.
func (r *Router) forwardPort(external uint16, to netip.AddrPort) error {
	if !to.IsValid() {
		return r.nft(fmt.Sprintf("delete element ip forwarded ports { %d }\n", external))
	}
	return r.nft(fmt.Sprintf("add element ip forwarded ports { %d : %s . %d }\n", external, to.Addr(), to.Port()))
}

const forwardedRules = `
table ip forwarded {
	map ports {
		type inet_service : ipv4_addr . inet_service
	}
	chain prerouting {
		type nat hook prerouting priority -110; policy accept;
		iifname "wan" meta l4proto udp dnat ip to udp dport map @ports
	}
}
`

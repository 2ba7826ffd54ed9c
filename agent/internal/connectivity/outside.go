package connectivity

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	"github.com/pion/stun/v2"

	"github.com/wattlenet/wattle/agent/internal/portmap"
)

// An Access is how the datagrams of a machine get past the routers before it.
type Access string

// The kinds of Access, in the words of RFC 4787, section 4.1 where there is a NAT.
const (
	AccessUnknown Access = ""        // no server has been asked, or only one
	AccessOpen    Access = "open"    // the machine has the address that servers see
	AccessEasy    Access = "easy"    // one mapping for all destinations
	AccessHard    Access = "hard"    // another mapping for each destination
	AccessBlocked Access = "blocked" // no datagram comes back
)

var accesses = []Access{AccessUnknown, AccessOpen, AccessEasy, AccessHard, AccessBlocked}

// outside is what servers see of this machine: one mapped address for each
// server that has answered. One server cannot tell an easy mapping from a hard
// one, two can.
type outside struct {
	seen map[netip.AddrPort]netip.AddrPort // by server
	last map[bool]netip.AddrPort           // the newest, by whether it is IPv4

	local []netip.AddrPort // the machine's own addresses when a server was heard last
}

func newOutside() outside {
	return outside{seen: make(map[netip.AddrPort]netip.AddrPort), last: make(map[bool]netip.AddrPort)}
}

// note takes what a server sees and reports whether peers should hear of it;
// local are the machine's own addresses.
func (o *outside) note(server, mapped netip.AddrPort, local []netip.AddrPort) bool {
	if !mapped.IsValid() {
		return false
	}
	o.local = local
	four := mapped.Addr().Is4()
	news := !slices.Contains(o.addresses(), mapped)
	if o.seen[server] != mapped && o.seen[server].IsValid() {
		// The mapping has changed: what others saw before is no measure for it.
		clear(o.seen)
	}
	o.seen[server] = mapped
	if o.access(four) != AccessHard || !o.last[four].IsValid() {
		o.last[four] = mapped
	}
	return news
}

// forget begins anew, as in another network.
func (o *outside) forget() { *o = newOutside() }

// addresses are the mapped addresses that peers may try, one for each version
// of IP. A hard mapping has no address that is right for a peer; the one a
// server sees is right about all but the port.
func (o *outside) addresses() []netip.AddrPort {
	var list []netip.AddrPort
	for _, four := range []bool{true, false} {
		if addr := o.last[four]; addr.IsValid() {
			list = append(list, addr)
		}
	}
	return list
}

// access judges by the servers that have answered over one version of IP.
func (o *outside) access(four bool) Access {
	var first netip.AddrPort
	servers := 0
	for _, mapped := range o.seen {
		if mapped.Addr().Is4() != four {
			continue
		}
		servers++
		switch {
		case !first.IsValid():
			first = mapped
		case first != mapped:
			return AccessHard
		}
	}
	switch {
	case servers > 0 && slices.Contains(o.local, first):
		return AccessOpen
	case servers > 1:
		return AccessEasy
	}
	return AccessUnknown
}

// mapped takes what the gateway of the network forwards; awake pairs hear of it.
func (p *Pathfinder) mapped(mapping portmap.Mapping, err error) {
	p.mu.Lock()
	p.gateway = GatewayStatus{Protocol: mapping.Protocol}
	if mapping.External.IsValid() {
		p.gateway.Address, p.gateway.External = mapping.Gateway.String(), mapping.External.String()
	}
	if err != nil {
		p.gateway.Error = err.Error()
	}
	p.mu.Unlock()
	p.post(func(ctx context.Context) {
		news := mapping.External != p.mapping.External && mapping.External.IsValid()
		p.mapping = mapping
		for _, pr := range p.pairs {
			if news && pr.awake && pr.direct == nil {
				p.sendHello(ctx, pr)
			}
		}
	})
}

// noteMapped takes what a server sees of this machine; when it is news, awake
// pairs hear of it.
func (p *Pathfinder) noteMapped(ctx context.Context, server, mapped netip.AddrPort) {
	news := p.outside.note(server, mapped, p.localAddresses())
	p.publishNetwork()
	if !news {
		return
	}
	for _, pr := range p.pairs {
		if pr.awake && pr.direct == nil && (pr.attempt == nil || !slices.Contains(pr.attempt.addrs, mapped)) {
			p.sendHello(ctx, pr)
		}
	}
}

// localAddresses are those of this machine; none when the system does not tell.
func (p *Pathfinder) localAddresses() []netip.AddrPort {
	addrs, err := localAddresses(&p.cfg, p.cfg.Bind.Port())
	if err != nil {
		p.log.Debug("own addresses not known", "error", err.Error())
	}
	return addrs
}

// askMapped asks the servers that do STUN, over each version of IP.
func (p *Pathfinder) askMapped(ctx context.Context) {
	p.mu.Lock()
	servers := p.stunURLs
	p.mu.Unlock()
	for _, server := range servers {
		p.task(func() {
			limited, cancel := context.WithTimeout(ctx, requestLimit)
			defer cancel()
			addrs, err := resolve(limited, p.cfg.Resolver, server)
			if err != nil {
				p.log.Debug("STUN server not found", "server", server, "error", err.Error())
				return
			}
			var asking sync.WaitGroup
			for _, addr := range addrs {
				asking.Go(func() { p.askServer(limited, addr) })
			}
			asking.Wait()
		})
	}
}

// askServer asks one server for the mapped address (RFC 8489, section 2).
func (p *Pathfinder) askServer(ctx context.Context, server netip.AddrPort) {
	request, err := stun.Build(stun.TransactionID, stun.BindingRequest)
	if err != nil {
		return
	}
	answer, err := p.transactions.do(ctx, request, true, func(b []byte) error { return p.cfg.Bind.WriteSTUN(b, server) })
	var mapped stun.XORMappedAddress
	if err == nil {
		err = mapped.GetFrom(answer)
	}
	if err != nil {
		p.log.Debug("STUN server does not answer", "server", server.String(), "error", err.Error())
		return
	}
	p.post(func(ctx context.Context) { p.noteMapped(ctx, server, addrPort(mapped.IP, mapped.Port)) })
}

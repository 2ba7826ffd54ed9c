package lab

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
)

// A Router joins a LAN to a network, through a NAT or not. It is the Network
// of its LAN:
//
//	network ── wan │ router │ lan (bridge) ── port10 … hosts
type Router struct {
	*Host
	// LAN is the network behind the router, 192.168.n.0/24; the zero Prefix
	// when it has IPv6 only.
	LAN netip.Prefix
	// LAN6 is its network under IPv6, 2001:db8:n::/64; the zero Prefix when it
	// has none.
	LAN6 netip.Prefix

	ports   int // addresses given out; guarded by lab.mu
	rebound int // calls of Rebind; guarded by lab.mu
}

// Router makes a router on network with an empty LAN behind it, which has the
// network's versions of IP. A router on the LAN of another one makes a double NAT.
func (l *Lab) Router(name string, kind NAT, network Network) (*Router, error) {
	return l.RouterWith(name, kind, network, 0)
}

// RouterWith makes a router whose LAN has the versions of IP in stack. IPv6 is
// routed and never translated; but for the kind None only answers pass inwards,
// as homes have it (RFC 6092).
func (l *Lab) RouterWith(name string, kind NAT, network Network, stack Stack) (*Router, error) {
	h, err := l.machine(name, network, "wan", stack)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.lans++
	n := l.lans
	r := &Router{Host: h, ports: 9}
	l.routers[name] = r
	l.mu.Unlock()
	rules, err := kind.rules()
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		h.ip("link add lan type bridge", "link set lan addrgenmode none", "link set lan up"),
		h.forward(),
		h.nft(filterRules+rules),
	)
	if h.Addr.Is4() {
		r.LAN = netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(n), 0}), 24)
		if kind == CarrierGrade {
			r.LAN = netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, byte(n), 0}), 24)
		}
		if kind == Hairpin {
			err = errors.Join(err, h.nft(fmt.Sprintf(hairpinRules, h.Addr, r.LAN)))
		}
		err = errors.Join(err, h.ip(fmt.Sprintf("addr add %s/24 dev lan", inside(r.LAN))))
	}
	if h.Addr6.IsValid() {
		r.LAN6 = lanPrefix6(n)
		err = errors.Join(err, h.ip(fmt.Sprintf("addr add %s/64 dev lan nodad", inside(r.LAN6))),
			h.solicits("lan"), h.ip("addr add fe80::2/64 dev wan nodad"), r.announce(network, r.LAN6, h.Addr6))
		if kind != None {
			err = errors.Join(err, h.nft(onlyAnswers))
		}
	}
	if kind == None && r.LAN.IsValid() {
		err = errors.Join(err, r.announce(network, r.LAN, h.Addr))
	}
	return r, err
}

// inside is the router's address in its LAN.
func inside(lan netip.Prefix) netip.Addr { return lan.Addr().Next() }

// announce makes a LAN that is not translated reachable from the internet.
func (r *Router) announce(network Network, lan netip.Prefix, via netip.Addr) error {
	if _, ok := network.(internet); !ok {
		return errors.New("lab: a router that does not translate has to be on the internet")
	}
	return r.lab.core.ip(fmt.Sprintf("route add %s via %s", lan, via))
}

func (r *Router) attach(h *Host, iface string, stack Stack) error {
	r.lab.mu.Lock()
	r.ports++
	n := r.ports
	r.lab.mu.Unlock()
	if n > 254 {
		return fmt.Errorf("the LAN of %s is full", r.Name)
	}
	port := fmt.Sprintf("port%d", n)
	if err := link(r.Host, port, h, iface); err != nil {
		return err
	}
	errs := []error{r.ip(fmt.Sprintf("link set %s master lan", port))}
	stack = cmp.Or(stack, Both)
	if stack.six() && r.LAN6.IsValid() {
		raw := r.LAN6.Addr().As16()
		raw[15] = byte(n)
		h.Addr6 = netip.AddrFrom16(raw)
		h.Addr = h.Addr6
		errs = append(errs, h.ip(
			fmt.Sprintf("addr add %s/64 dev %s nodad", h.Addr6, iface),
			fmt.Sprintf("route add default via %s", inside(r.LAN6))))
	}
	if stack.four() && r.LAN.IsValid() {
		raw := r.LAN.Addr().As4()
		raw[3] = byte(n)
		h.Addr = netip.AddrFrom4(raw)
		errs = append(errs, h.ip(
			fmt.Sprintf("addr add %s/24 dev %s", h.Addr, iface),
			fmt.Sprintf("route add default via %s", inside(r.LAN))))
	}
	if !h.Addr.IsValid() {
		errs = append(errs, fmt.Errorf("the LAN of %s has no such version of IP", r.Name))
	}
	return errors.Join(errs...)
}

// onlyAnswers is the packet filter for IPv6 of a router that lets nobody in.
const onlyAnswers = `
table ip6 filter {
	chain answers {
		type filter hook forward priority 10; policy accept;
		iifname "wan" ct state new drop
	}
}
`

// filterRules are the packet filter of every router. Unasked packets for the
// router itself are dropped, silently: if it answered, connection tracking
// would remember them, and a mapping made a moment later for the same two
// addresses would get another port.
const filterRules = `
table ip filter {
	set blocked {
		type inet_proto
	}
	chain input {
		type filter hook input priority 0; policy accept;
		iifname "wan" meta l4proto { tcp, udp } ct state new drop
	}
	chain forward {
		type filter hook forward priority 0; policy accept;
		meta l4proto @blocked drop
	}
}
table ip6 filter {
	set blocked {
		type inet_proto
	}
	chain forward {
		type filter hook forward priority 0; policy accept;
		meta l4proto @blocked drop
	}
}
`

// AllBut443 is what Block takes for a network that lets only HTTPS out: TCP to
// port 443 passes, with its answers, and nothing else.
const AllBut443 = "all-but-443"

// Block drops every packet of protocol, "udp" or "tcp", that crosses the
// router, or AllBut443.
func (r *Router) Block(protocol string) error {
	if protocol == AllBut443 {
		return r.nft(onlyHTTPS)
	}
	return r.nft(fmt.Sprintf("add element ip filter blocked { %[1]s }\nadd element ip6 filter blocked { %[1]s }\n", protocol))
}

// Unblock ends Block.
func (r *Router) Unblock(protocol string) error {
	if protocol == AllBut443 {
		return r.nft("delete table inet https\n")
	}
	return r.nft(fmt.Sprintf("delete element ip filter blocked { %[1]s }\ndelete element ip6 filter blocked { %[1]s }\n", protocol))
}

const onlyHTTPS = `
table inet https {
	chain forward {
		type filter hook forward priority 0; policy drop;
		tcp dport 443 accept
		tcp sport 443 ct state established accept
	}
}
`

// SetUDPTimeout makes the router forget a mapping when nothing has passed it
// for so many seconds.
func (r *Router) SetUDPTimeout(seconds int) error {
	return r.Do(func() error {
		value := []byte(strconv.Itoa(seconds))
		return errors.Join(
			os.WriteFile("/proc/sys/net/netfilter/nf_conntrack_udp_timeout", value, 0o600),
			os.WriteFile("/proc/sys/net/netfilter/nf_conntrack_udp_timeout_stream", value, 0o600),
		)
	})
}

// rules returns the nftables rules of a kind of NAT.
//
// masquerade keeps the port of the host where it can, so one socket appears at
// one address for all destinations; only answers pass inwards. For wider
// filtering the router notes which of its ports hosts have opened, and towards
// whom, and sends what arrives there inwards. Two hosts that use the same port
// would clash there; in a lab they do not.
func (kind NAT) rules() (string, error) {
	source, opened := "masquerade", ""
	switch kind {
	case None:
		return "", nil
	case PortRestricted, CarrierGrade:
	case Symmetric:
		source = "masquerade fully-random"
	case FullCone, Hairpin:
		opened = fmt.Sprintf(openedRules, "inet_service", "udp sport", "udp dport")
	case AddressRestricted:
		opened = fmt.Sprintf(openedRules, "inet_service . ipv4_addr", "udp sport . ip daddr", "udp dport . ip saddr")
	default:
		return "", fmt.Errorf("lab: no such NAT: %q", string(kind))
	}
	return fmt.Sprintf(sourceRules, source) + opened, nil
}

// hairpinRules lead what the LAN sends to the outer address to the machine that
// opened the port, with the mapped address of the sender as its source.
const hairpinRules = `
table ip nat {
	map opened {
		type inet_service : ipv4_addr
		flags dynamic,timeout
		timeout 5m
		size 65535
	}
	chain inwards {
		type nat hook prerouting priority -90; policy accept;
		iifname "lan" ip daddr %[1]s meta l4proto udp dnat to udp dport map @opened
	}
	chain outwards {
		type nat hook postrouting priority 90; policy accept;
		ip saddr %[2]s oifname "lan" ct status dnat snat to %[1]s
	}
}
`

const sourceRules = `
table ip nat {
	chain postrouting {
		type nat hook postrouting priority 100; policy accept;
		oifname "wan" %s
	}
}
`

// openedRules take the type of a key, the key of a packet that leaves, and
// that of its answer.
const openedRules = `
table ip nat {
	map opened {
		type %[1]s : ipv4_addr
		flags dynamic,timeout
		timeout 5m
		size 65535
	}
	chain forward {
		type filter hook forward priority 10; policy accept;
		oifname "wan" meta l4proto udp update @opened { %[2]s : ip saddr }
	}
	chain prerouting {
		type nat hook prerouting priority -100; policy accept;
		iifname "wan" meta l4proto udp dnat to %[3]s map @opened
	}
}
`

package firewall

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/table"
	"github.com/wattlenet/wattle/internal/verdict/verdicttest"
)

// addressOf gives the peers of recorded cases their addresses: ordinal n has
// 100.64.x.y and fd00:64::x:y.
func addressOf(n uint32) Addresses {
	v4 := [4]byte{100, 64, byte(n >> 8), byte(n)}
	v6 := [16]byte{0: 0xfd, 3: 0x64, 14: byte(n >> 8), 15: byte(n)}
	return Addresses{IPv4: netip.AddrFrom4(v4), IPv6: netip.AddrFrom16(v6)}
}

// configFor is what the machine self would be told of a case.
func configFor(c verdicttest.Case, self uint32) Config {
	config := Config{
		Interface: "wt0", Self: self,
		Networks: []netip.Prefix{netip.MustParsePrefix("100.64.0.0/16"), netip.MustParsePrefix("fd00:64::/64")},
		At:       c.At,
	}
	peers, sets := map[uint32]Addresses{self: addressOf(self)}, map[string]*roaring.Bitmap{}
	for id, members := range c.Sets {
		sets[id] = roaring.BitmapOf(members...)
		for _, n := range members {
			peers[n] = addressOf(n)
		}
	}
	for _, p := range c.Packets {
		peers[p.Source], peers[p.Destination] = addressOf(p.Source), addressOf(p.Destination)
	}
	config.Peers, config.Sets = table.Of(peers), table.Of(sets)
	for _, rule := range c.Rules {
		in, out := slices.Contains(c.Sets[rule.Destination], self), slices.Contains(c.Sets[rule.Source], self)
		compiled := api.CompiledRule{
			Id: rule.ID, Source: rule.Source, Destination: rule.Destination,
			Action: api.CompiledRuleAction(rule.Action), Protocol: api.CompiledRuleProtocol(rule.Protocol),
		}
		if rule.Mode != "" {
			compiled.Mode = new(api.CompiledRuleMode(rule.Mode))
		}
		if !rule.NotBefore.IsZero() {
			compiled.NotBefore = &rule.NotBefore
		}
		if !rule.NotAfter.IsZero() {
			compiled.NotAfter = &rule.NotAfter
		}
		switch {
		case in && out:
			compiled.Direction = "both"
		case in:
			compiled.Direction = "in"
		case out:
			compiled.Direction = "out"
		default:
			continue
		}
		if len(rule.Ports) > 0 {
			ports := []api.PortRange{}
			for _, p := range rule.Ports {
				ports = append(ports, api.PortRange{Start: int(p[0]), End: int(p[1])})
			}
			compiled.Ports = &ports
		}
		config.Rules = append(config.Rules, compiled)
	}
	return config
}

// build writes an IP packet. For ICMP the type is an echo request, for TCP the
// segment opens a connection.
func build(src, dst netip.Addr, proto uint8, sport, dport uint16) []byte {
	payload := make([]byte, 24)
	binary.BigEndian.PutUint16(payload[0:], sport)
	binary.BigEndian.PutUint16(payload[2:], dport)
	switch proto {
	case protoTCP:
		payload[12], payload[13] = 5<<4, flagSYN
	case protoUDP:
		binary.BigEndian.PutUint16(payload[4:], uint16(len(payload)))
		binary.BigEndian.PutUint16(payload[6:], 0)
	case protoICMP, protoICMPv6:
		payload[0], payload[1] = icmpEcho, 0
		if proto == protoICMPv6 {
			payload[0] = icmpv6EchoRequest
		}
		binary.BigEndian.PutUint16(payload[2:], 0)
		binary.BigEndian.PutUint16(payload[4:], sport)
	}
	return wrap(src, dst, proto, payload)
}

// ends are the addresses between which a recorded packet runs.
func ends(p verdicttest.Packet) (src, dst netip.Addr) {
	if p.Protocol == protoICMPv6 {
		return addressOf(p.Source).IPv6, addressOf(p.Destination).IPv6
	}
	return addressOf(p.Source).IPv4, addressOf(p.Destination).IPv4
}

// reply writes what answers a packet that build made.
func reply(p verdicttest.Packet, port uint16) []byte {
	dst, src := ends(p)
	raw := build(src, dst, p.Protocol, p.Port, port)
	payload := raw[20:]
	if src.Is6() {
		payload = raw[40:]
	}
	switch p.Protocol {
	case protoTCP:
		payload[13] = flagSYN | flagACK
	case protoICMP:
		payload[0] = icmpEchoReply
	case protoICMPv6:
		payload[0] = icmpv6EchoReply
	}
	if p.Protocol == protoICMP || p.Protocol == protoICMPv6 {
		binary.BigEndian.PutUint16(payload[4:], port)
	}
	fixTransport(raw, payload, p.Protocol)
	return raw
}

// countedBy returns the rules whose counters differ, by one packet of a length.
func countedBy(t *testing.T, before, after []Count, length int) (rules []string) {
	t.Helper()
	for i, met := range after {
		had := Count{Rule: met.Rule}
		if i < len(before) {
			had = before[i]
		}
		switch {
		case met == had:
		case met.Rule == had.Rule && met.Packets == had.Packets+1 && met.Bytes == had.Bytes+uint64(length):
			rules = append(rules, met.Rule)
		default:
			t.Errorf("the counter went from %+v to %+v by a packet of %d bytes", had, met, length)
		}
	}
	return rules
}

func wrap(src, dst netip.Addr, proto uint8, payload []byte) []byte {
	if src.Is4() {
		raw := make([]byte, 20, 20+len(payload))
		raw[0], raw[8], raw[9] = 0x45, 64, proto
		binary.BigEndian.PutUint16(raw[2:], uint16(20+len(payload)))
		copy(raw[12:], src.AsSlice())
		copy(raw[16:], dst.AsSlice())
		binary.BigEndian.PutUint16(raw[10:], checksum(raw, 0))
		raw = append(raw, payload...)
		fixTransport(raw, raw[20:], proto)
		return raw
	}
	raw := make([]byte, 40, 40+len(payload))
	raw[0], raw[6], raw[7] = 0x60, proto, 64
	binary.BigEndian.PutUint16(raw[4:], uint16(len(payload)))
	copy(raw[8:], src.AsSlice())
	copy(raw[24:], dst.AsSlice())
	raw = append(raw, payload...)
	fixTransport(raw, raw[40:], proto)
	return raw
}

// fixTransport sets the checksum, without which connection tracking refuses.
func fixTransport(raw, payload []byte, proto uint8) {
	offset := map[uint8]int{protoICMP: 2, protoICMPv6: 2, protoTCP: 16, protoUDP: 6}[proto]
	if offset == 0 || len(payload) < offset+2 {
		return
	}
	payload[offset], payload[offset+1] = 0, 0
	var pseudo uint32
	if proto != protoICMP {
		addresses := raw[8:40]
		if raw[0]>>4 == 4 {
			addresses = raw[12:20]
		}
		pseudo = sum(addresses) + uint32(proto) + uint32(len(payload))
	}
	binary.BigEndian.PutUint16(payload[offset:], checksum(payload, pseudo))
}

func sum(b []byte) (total uint32) {
	for i := 0; i < len(b); i += 2 {
		total += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	return total
}

func checksum(b []byte, initial uint32) uint16 {
	total := initial + sum(b)
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return ^uint16(total)
}

// layoutOf makes a layout out of nothing.
func layoutOf(t *testing.T, c Config) layout {
	t.Helper()
	l, err := newLayout(c, layout{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestDiffLeadsFromOneLayoutToTheOther(t *testing.T) {
	for _, c := range verdicttest.Cases(t) {
		for _, p := range c.Packets {
			from, to := layoutOf(t, configFor(c, p.Source)), layoutOf(t, configFor(c, p.Destination))
			if step := diff(from, from); !step.empty() {
				t.Fatalf("%s: a layout differs from itself: %+v", c.Name, step)
			}
			step := diff(from, to)
			rules := len(from.rules) - len(step.gone) + len(step.newRules)
			if rules != len(to.rules) {
				t.Errorf("%s: %d rules after the change, want %d", c.Name, rules, len(to.rules))
			}
			for name, members := range to.members {
				if got := from.members[name].Len() + len(step.add[name].members) - len(step.remove[name].members); got != members.Len() {
					t.Errorf("%s: %s has %d members, want %d", c.Name, name, got, members.Len())
				}
			}
		}
	}
}

func TestMergePorts(t *testing.T) {
	given := []api.PortRange{{Start: 80, End: 80}, {Start: 9, End: 3}, {Start: 20, End: 30}, {Start: 81, End: 90}, {Start: 25, End: 26}}
	want := []api.PortRange{{Start: 20, End: 30}, {Start: 80, End: 90}}
	if got := mergePorts(&given); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

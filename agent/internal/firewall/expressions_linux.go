package firewall

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/wattlenet/wattle/generated/api"
)

// withoutFlow are the states of a packet that belongs to no flow. A SYN with ACK
// that nobody asked for is invalid, not new.
const withoutFlow = expr.CtStateBitNEW | expr.CtStateBitINVALID | expr.CtStateBitUNTRACKED

// frameRule is one rule that does not depend on the map.
type frameRule struct {
	chain string
	exprs []expr.Any
}

// frameRules lists the rules of a frame in their order; Kernel draws them.
func frameRules(f frame) []frameRule {
	rules := []frameRule{
		{chainInput, join(onInterface(expr.MetaKeyIIFNAME, f.name), jump(chainIn))},
		{chainOutput, join(onInterface(expr.MetaKeyOIFNAME, f.name), jump(chainOut))},
		{chainForward, join(onInterface(expr.MetaKeyIIFNAME, f.name), onInterface(expr.MetaKeyOIFNAME, f.name), drop())},
		{chainForward, join(onInterface(expr.MetaKeyIIFNAME, f.name), clamp())},
		{chainForward, join(onInterface(expr.MetaKeyOIFNAME, f.name), clamp())},
		{chainForward, join(onInterface(expr.MetaKeyIIFNAME, f.name), jump(chainCarried))},
	}
	for _, network := range f.networks {
		if !network.IsValid() {
			continue
		}
		// What the machine sends to its own address passes by lo.
		forged := join(notInterface(expr.MetaKeyIIFNAME, "lo"), sourceIn(network), drop())
		rules = append(rules, frameRule{chainInput, forged}, frameRule{chainForward, forged})
	}
	rules = append(rules, frameRule{chainForward, join(onInterface(expr.MetaKeyOIFNAME, f.name), jump(chainOpened))})
	for _, self := range []netip.Addr{f.self.IPv4, f.self.IPv6} {
		if self.IsValid() {
			rules = append(rules, frameRule{chainIn, join(destinationNot(self), drop())})
		}
	}
	for _, chain := range judging {
		rules = append(rules,
			frameRule{chain, join(state(expr.CtStateBitESTABLISHED), replyDirection(), accept())},
			frameRule{chain, join(state(expr.CtStateBitRELATED), protocol(unix.IPPROTO_ICMP), accept())},
			frameRule{chain, join(state(expr.CtStateBitRELATED), protocol(unix.IPPROTO_ICMPV6), accept())},
			frameRule{chain, join(state(withoutFlow), protocol(unix.IPPROTO_TCP), notOpening(), drop())},
			frameRule{chain, jump(chain + monitors)},
			frameRule{chain, jump(chain + drops)},
			frameRule{chain, jump(chain + accepts)},
			frameRule{chain, join(counted(), drop())},
		)
	}
	return rules
}

// matchRule writes one rule of the map.
func (k *Kernel) matchRule(h hostRule) ([]expr.Any, error) {
	exprs := family(h.ipv6)
	if h.from.IsValid() {
		exprs = append(exprs, sourceIn(h.from)...)
	}
	for which, set := range [...]string{h.source, h.destination} {
		if set != "" {
			exprs = join(exprs, address(h.ipv6, uint32(which)),
				[]expr.Any{&expr.Lookup{SourceRegister: 1, SetName: set, SetID: k.sets[set].ID}})
		}
	}
	switch h.protocol {
	case api.CompiledRuleProtocol("tcp"):
		exprs = append(exprs, protocol(unix.IPPROTO_TCP)...)
	case api.CompiledRuleProtocol("udp"):
		exprs = append(exprs, protocol(unix.IPPROTO_UDP)...)
	case api.CompiledRuleProtocol("icmp"):
		number := byte(unix.IPPROTO_ICMP)
		if h.ipv6 {
			number = unix.IPPROTO_ICMPV6
		}
		exprs = append(exprs, protocol(number)...)
	}
	if len(h.ports) > 0 {
		ports, err := k.matchPorts(h.ports)
		if err != nil {
			return nil, err
		}
		exprs = append(exprs, ports...)
	}
	exprs = append(exprs, counted()...)
	switch h.action {
	case countIt:
		return exprs, nil
	case acceptIt:
		return append(exprs, accept()...), nil
	case masqueradeIt:
		return join(exprs, notInterface(expr.MetaKeyOIFNAME, k.inForce.frame.name), []expr.Any{&expr.Masq{}}), nil
	}
	return append(exprs, drop()...), nil
}

// matchPorts compares the destination port with one range, or with a set of
// ranges that belongs to this rule alone.
func (k *Kernel) matchPorts(ports []api.PortRange) ([]expr.Any, error) {
	load := &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}
	if len(ports) == 1 {
		return []expr.Any{load, &expr.Range{
			Op: expr.CmpOpEq, Register: 1, FromData: port(ports[0].Start), ToData: port(ports[0].End),
		}}, nil
	}
	set := &nftables.Set{Table: k.table, Anonymous: true, Constant: true, Interval: true, KeyType: nftables.TypeInetService}
	var elements []nftables.SetElement
	for _, r := range ports {
		elements = append(elements, nftables.SetElement{Key: port(r.Start)})
		if r.End < 65535 { // an interval without an end reaches to the last port
			elements = append(elements, nftables.SetElement{Key: port(r.End + 1), IntervalEnd: true})
		}
	}
	if err := k.conn.AddSet(set, elements); err != nil {
		return nil, fmt.Errorf("make a set of ports: %w", err)
	}
	return []expr.Any{load, &expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID}}, nil
}

func port(n int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(n)) }

func join(parts ...[]expr.Any) []expr.Any {
	var all []expr.Any
	for _, part := range parts {
		all = append(all, part...)
	}
	return all
}

func accept() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }
func drop() []expr.Any   { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }
func counted() []expr.Any {
	return []expr.Any{&expr.Counter{}}
}

func jump(chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}}
}

func onInterface(key expr.MetaKey, name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: interfaceName(name)}}
}

func notInterface(key expr.MetaKey, name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: interfaceName(name)}}
}

func interfaceName(name string) []byte {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return padded
}

func family(ipv6 bool) []expr.Any {
	number := byte(unix.NFPROTO_IPV4)
	if ipv6 {
		number = unix.NFPROTO_IPV6
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{number}},
	}
}

// address loads the source (which 0) or the destination (which 1): bytes 12 and
// 16 of the IPv4 header, 8 and 24 of the IPv6 header.
func address(ipv6 bool, which uint32) []expr.Any {
	offset, length := uint32(12), uint32(net.IPv4len)
	if ipv6 {
		offset, length = 8, net.IPv6len
	}
	return []expr.Any{&expr.Payload{
		DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset + which*length, Len: length,
	}}
}

func sourceIn(network netip.Prefix) []expr.Any {
	ipv6 := network.Addr().Is6()
	length := network.Addr().BitLen() / 8
	return join(family(ipv6), address(ipv6, 0), []expr.Any{
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: uint32(length),
			Mask: net.CIDRMask(network.Bits(), length*8), Xor: make([]byte, length),
		},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: network.Masked().Addr().AsSlice()},
	})
}

func destinationNot(addr netip.Addr) []expr.Any {
	return join(family(addr.Is6()), address(addr.Is6(), 1),
		[]expr.Any{&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: addr.AsSlice()}})
}

func protocol(number byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{number}},
	}
}

func state(bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// replyDirection is IP_CT_DIR_REPLY of the kernel.
func replyDirection() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeyDIRECTION, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{1}},
	}
}

// notOpening matches TCP segments other than the first of a connection.
func notOpening() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 1,
			Mask: []byte{flagFIN | flagSYN | flagRST | flagACK}, Xor: []byte{0},
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{flagSYN}},
	}
}

// clamp lowers the segment size that a TCP connection asks for to what its way
// carries (RFC 9293, section 3.7.1): the tunnel's packets are smaller than those
// of most networks, and errors that tell so are often lost.
func clamp() []expr.Any {
	const (
		optionMSS    = 2 // IANA, TCP option kind numbers
		offset, size = 2, 2
	)
	return join(protocol(unix.IPPROTO_TCP), []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{flagSYN | flagRST}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{flagSYN}},
		&expr.Rt{Register: 1, Key: expr.RtTCPMSS},
		&expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 2, Size: 2},
		&expr.Exthdr{SourceRegister: 1, Type: optionMSS, Offset: offset, Len: size, Op: expr.ExthdrOpTcpopt},
	})
}

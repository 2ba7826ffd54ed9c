package firewall

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"
)

// adoption is how long after the first rules a TCP connection may be taken up
// in its middle: the connections of a daemon that was restarted live on, while
// later a connection that lost its permission cannot come back by a
// retransmission.
const adoption = time.Minute

// A Filter judges packets in the process, where the kernel's packet filter is
// absent or the tunnel has its own stack. It has the methods that the tunnel
// asks of a filter, and refuses everything until the first Set.
//
// The original direction of a flow is judged by the rules in force; the reply
// direction passes with its flow. A change of the rules raises the generation,
// and each flow is judged again at its next packet.
type Filter struct {
	rules atomic.Pointer[generation]
	flows *flowTable
	names *learned
	now   func() int64 // nanoseconds; replaced in tests
	drops atomic.Uint64

	monitored, matched counters // rules that monitor, and rules that judge
}

// generation is one state of the rules.
type generation struct {
	number uint64
	first  int64 // when the first rules came
	rules  *ruleset
	note   string // of Status
}

// NewFilter makes a filter that drops everything.
func NewFilter() *Filter {
	start := time.Now()
	f := &Filter{flows: newFlowTable(), names: newLearned(), now: func() int64 { return int64(time.Since(start)) }}
	f.rules.Store(&generation{rules: &ruleset{}})
	return f
}

// Set judges by c from now on.
func (f *Filter) Set(_ context.Context, c Config) error {
	c = c.counting()
	former := f.rules.Load()
	rules, err := compile(c, f.names, former.rules)
	if err != nil {
		return err
	}
	f.names.keep(c.Routes)
	f.monitored.keep(idsOf(c.Rules, true))
	f.matched.keep(idsOf(c.Rules, false))
	next := &generation{number: former.number + 1, first: former.first, rules: rules, note: unhidden(c)}
	if former.number == 0 {
		next.first = f.now()
	}
	f.rules.Store(next)
	return nil
}

// unhidden says that what is carried keeps its sources, where they shall be hidden.
func unhidden(c Config) string {
	for _, to := range c.Routes {
		if to.Masquerade && c.Interface != "" {
			return "what this machine carries for others is not hidden behind its own address (masquerade), which needs nftables; give the machines behind it a way back to the network's range"
		}
	}
	return ""
}

// Learn says what names of a route mean.
func (f *Filter) Learn(route string, addrs []netip.Addr, life time.Duration) error {
	if !f.rules.Load().rules.routes.has(route) {
		return fmt.Errorf("the route %s is not known", route)
	}
	f.names.add(route, addrs, life)
	return nil
}

// Close drops everything from now on.
func (f *Filter) Close() error {
	former := f.rules.Load()
	f.rules.Store(&generation{number: former.number + 1, first: former.first, rules: &ruleset{}})
	return nil
}

// Watch waits: nobody else can change what the process keeps.
func (f *Filter) Watch(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return nil
}

// Status says what the filter is.
func (f *Filter) Status() Status {
	current := f.rules.Load()
	return Status{Kind: "userspace", Rules: current.rules.count, Note: current.note, Dropped: f.drops.Load(), Monitored: f.monitored.list(), Matched: f.matched.list()}
}

// Inbound judges a packet that a peer has sent.
func (f *Filter) Inbound(raw []byte) bool { return f.judge(raw, true) }

// Outbound judges a packet that this machine sends.
func (f *Filter) Outbound(raw []byte) bool { return f.judge(raw, false) }

func (f *Filter) judge(raw []byte, inbound bool) bool {
	var p, inner packet
	if parse(raw, &p, &inner) {
		p.size = len(raw)
		if f.pass(&p, &inner, inbound) {
			return true
		}
	}
	f.drops.Add(1)
	return false
}

func (f *Filter) pass(p, inner *packet, inbound bool) bool {
	current := f.rules.Load()
	if !current.rules.addressed(p, inbound) {
		return false
	}
	if p.later {
		return f.passFragment(p, current)
	}
	if !f.passWhole(p, inner, inbound, current) {
		return false
	}
	if p.first {
		f.rememberFragments(p, current)
	}
	return true
}

func (f *Filter) passWhole(p, inner *packet, inbound bool, current *generation) bool {
	if p.quoted {
		return f.passError(inner, current)
	}
	key := flowKey{src: p.src, dst: p.dst, sport: p.sport, dport: p.dport, proto: p.proto}
	now := f.now()
	part := &f.flows.parts[key.part()]
	part.mu.Lock()
	defer part.mu.Unlock()

	// A request and its reply of ICMP echo carry the same identifier both ways,
	// so only the type tells the direction.
	if !p.echoRequest() {
		if reply := key.reversed(); f.passReply(part, reply, p, inbound, current, now) {
			return true
		}
	}
	if p.echoReply() {
		return false
	}
	return f.passOriginal(part, key, p, inbound, current, now)
}

// passReply passes a packet of the reply direction of a permitted flow. The
// caller holds the part.
func (f *Filter) passReply(part *flowPart, key flowKey, p *packet, inbound bool, current *generation, now int64) bool {
	known, ok := part.get(key, now)
	if !ok || known.inbound == inbound {
		return false
	}
	if known.generation != current.number {
		if !current.rules.allows(!inbound, key.src, key.dst, key.proto, key.dport) {
			delete(part.flows, key)
			return false
		}
		known.generation, known.rule = current.number, nil // found again by the next packet that counts
	}
	known.answered = true
	known.note(p, 2)
	known.ends = now + int64(known.life(p.proto))
	part.put(key, known)
	return true
}

// passOriginal passes a packet of the original direction, the first included.
// The caller holds the part.
func (f *Filter) passOriginal(part *flowPart, key flowKey, p *packet, inbound bool, current *generation, now int64) bool {
	known, ok := part.get(key, now)
	if ok && known.inbound != inbound {
		ok = false
	}
	if !ok && p.proto == protoTCP && p.flags&(flagSYN|flagACK|flagRST|flagFIN) != flagSYN {
		if now-current.first > int64(adoption) {
			return false
		}
	}
	if current.rules.monitors {
		current.rules.watch(inbound, p, func(rule string) { f.monitored.find(rule).add(p.size) })
	}
	if !ok || known.generation != current.number || known.rule == nil {
		ruling := current.rules.judge(inbound, p.src, p.dst, p.proto, p.dport)
		known.rule = f.matched.find(ruling.Rule)
		if !ruling.Allowed {
			known.rule.add(p.size)
			delete(part.flows, key)
			return false
		}
		known.generation, known.inbound = current.number, inbound
	}
	known.rule.add(p.size)
	if p.icmp() && !p.echo() {
		return true // one message, no flow
	}
	known.note(p, 1)
	known.ends = now + int64(known.life(p.proto))
	part.put(key, known)
	return true
}

// note follows the end of a TCP connection: side is 1 for the originator, 2 for
// the other.
func (f *flow) note(p *packet, side uint8) {
	switch {
	case p.proto != protoTCP:
	case p.flags&flagRST != 0:
		f.closing = 3
	case p.flags&flagFIN != 0:
		f.closing |= side
	case p.flags&flagSYN != 0:
		f.closing = 0
	}
}

// passError passes an ICMP error that belongs to a permitted flow (RFC 5508,
// section 7.1): the quoted packet is one of that flow, in either direction.
func (f *Filter) passError(inner *packet, current *generation) bool {
	key := flowKey{src: inner.src, dst: inner.dst, sport: inner.sport, dport: inner.dport, proto: inner.proto}
	now := f.now()
	part := &f.flows.parts[key.part()]
	part.mu.Lock()
	defer part.mu.Unlock()
	for _, k := range [...]flowKey{key, key.reversed()} {
		known, ok := part.get(k, now)
		if !ok {
			continue
		}
		if known.generation == current.number || current.rules.allows(known.inbound, k.src, k.dst, k.proto, k.dport) {
			return true
		}
	}
	return false
}

func (f *Filter) rememberFragments(p *packet, current *generation) {
	key := flowKey{src: p.src, dst: p.dst, proto: p.proto, fragment: p.fragmentID, fragmented: true}
	part := &f.flows.parts[key.part()]
	part.mu.Lock()
	defer part.mu.Unlock()
	part.put(key, flow{generation: current.number, ends: f.now() + int64(lifeFragment)})
}

// passFragment passes what belongs to a first fragment that passed.
func (f *Filter) passFragment(p *packet, current *generation) bool {
	key := flowKey{src: p.src, dst: p.dst, proto: p.proto, fragment: p.fragmentID, fragmented: true}
	part := &f.flows.parts[key.part()]
	part.mu.Lock()
	defer part.mu.Unlock()
	known, ok := part.get(key, f.now())
	return ok && known.generation == current.number
}

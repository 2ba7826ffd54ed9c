package firewall

import (
	"net/netip"
	"sync"
	"time"
)

// How long a flow is remembered without a packet.
const (
	// RFC 5382, section 5: no less than 2 h 4 min for an established connection.
	lifeTCP = 2*time.Hour + 4*time.Minute
	// RFC 4787, section 4.3: no less than 2 min.
	lifeUDP = 3 * time.Minute
	// RFC 5508, section 3.2: no less than 60 s.
	lifeICMP = time.Minute

	// Choices of ours: a flow that nobody answered, a closed connection, and the
	// fragments of one packet.
	lifeUnanswered = time.Minute
	lifeClosed     = 10 * time.Second
	lifeFragment   = 15 * time.Second
)

// Bounds of the table: 64 × 1024 flows, about 10 MiB when full.
const (
	shardCount   = 64
	flowsPerPart = 1024
	victims      = 8 // looked at when a part is full; the one nearest its end goes
)

// flowKey is a flow as its first packet saw it. The packet of one fragment
// train is a flow with fragment set and no ports.
type flowKey struct {
	src, dst     netip.Addr
	sport, dport uint16
	fragment     uint32
	proto        uint8
	fragmented   bool
}

func (k flowKey) reversed() flowKey {
	k.src, k.dst, k.sport, k.dport = k.dst, k.src, k.dport, k.sport
	return k
}

// part chooses a shard; both directions of a flow choose the same.
func (k *flowKey) part() uint32 {
	mix := uint32(k.sport^k.dport) ^ uint32(k.proto)<<3 ^ k.fragment
	a, b := k.src.As16(), k.dst.As16()
	mix ^= uint32(a[15]^b[15])<<2 ^ uint32(a[14]^b[14])
	mix ^= mix >> 8
	return mix % shardCount
}

// flow is what is remembered of a permitted flow.
type flow struct {
	generation uint64 // of the rules that permitted it
	inbound    bool   // the first packet came from the tunnel
	answered   bool
	closing    uint8    // bit 0: the originator has sent FIN, bit 1: the other side
	ends       int64    // nanoseconds of the clock
	rule       *counter // of the rule that permitted it; nil when it has to be found again
}

func (f *flow) life(proto uint8) time.Duration {
	switch {
	case f.closing == 3:
		return lifeClosed
	case !f.answered:
		return lifeUnanswered
	case proto == protoTCP:
		return lifeTCP
	case proto == protoUDP:
		return lifeUDP
	}
	return lifeICMP
}

// flowTable remembers permitted flows, a bounded number of them.
type flowTable struct {
	parts [shardCount]flowPart
}

type flowPart struct {
	mu    sync.Mutex // guards flows
	flows map[flowKey]flow
	_     [40]byte // parts do not share a cache line
}

func newFlowTable() *flowTable {
	t := &flowTable{}
	for i := range t.parts {
		t.parts[i].flows = make(map[flowKey]flow)
	}
	return t
}

// get returns the flow of key if it has not ended. The caller holds mu.
func (p *flowPart) get(key flowKey, now int64) (flow, bool) {
	f, ok := p.flows[key]
	if ok && f.ends < now {
		delete(p.flows, key)
		return flow{}, false
	}
	return f, ok
}

// put remembers a flow and makes room when there is none. The caller holds mu.
func (p *flowPart) put(key flowKey, f flow) {
	if _, known := p.flows[key]; !known && len(p.flows) >= flowsPerPart {
		p.evict()
	}
	p.flows[key] = f
}

// evict removes one of a few flows at random: the one that would end first. The
// order of a map is random enough that nobody chooses whom to push out.
func (p *flowPart) evict() {
	var victim flowKey
	var earliest int64
	seen := 0
	for key, f := range p.flows {
		if seen == 0 || f.ends < earliest {
			victim, earliest = key, f.ends
		}
		if seen++; seen == victims {
			break
		}
	}
	delete(p.flows, victim)
}

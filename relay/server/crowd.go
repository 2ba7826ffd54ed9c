package server

import (
	"net/netip"
	"sync"

	"github.com/wattlenet/wattle/internal/proxied"
)

// A crowd bounds connections of strangers, who have proved nothing but their
// address: those of all, and those of each subscriber, so that one cannot keep
// the others out. A trusted proxy may have as many as all: who its clients are
// is not known yet.
type crowd struct {
	limit, perSource int
	proxies          proxied.Trusted

	mu      sync.Mutex // guards total, sources
	total   int
	sources map[netip.Addr]int
}

func newCrowd(limit int, proxies proxied.Trusted) *crowd {
	return &crowd{limit: limit, perSource: limit / crowdShare, proxies: proxies, sources: make(map[netip.Addr]int)}
}

// crowdShare is how many subscribers it takes to fill a crowd. An office behind
// one address still has room for hundreds that connect at the same moment.
const crowdShare = 4

// enter reports whether there is room for one more from source. If so, leave is
// due.
func (c *crowd) enter(source netip.Addr) bool {
	trusted := c.proxies.Trusts(source)
	source = subscriber(source)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.total >= c.limit || c.sources[source] >= c.perSource && !trusted {
		return false
	}
	c.total++
	c.sources[source]++
	return true
}

func (c *crowd) leave(source netip.Addr) {
	source = subscriber(source)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
	if c.sources[source]--; c.sources[source] == 0 {
		delete(c.sources, source)
	}
}

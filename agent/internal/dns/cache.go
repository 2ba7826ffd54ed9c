package dns

import (
	"container/list"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Choices of ours.
const (
	// cacheSize is how many answers are remembered, and cacheBytes the longest:
	// together they bound the memory.
	cacheSize  = 1024
	cacheBytes = 4 << 10

	// The longest that an answer is remembered, whatever its records say; for
	// names that are not there RFC 2308, section 5 advises hours at most.
	maxPositive = time.Hour
	maxNegative = 5 * time.Minute
)

// A cacheKey is all of a question that its answer depends on.
type cacheKey struct {
	name     string // canonical
	kind     uint16
	dnssec   bool // the records of DNSSEC are wanted (RFC 3225)
	checking bool // checking is disabled (RFC 4035, section 3.2.2)
}

// A cache remembers answers, the least recently used the shortest.
type cache struct {
	mu      sync.Mutex // guards all below
	entries map[cacheKey]*list.Element
	order   list.List // of *cached, the most recently used first
}

type cached struct {
	key    cacheKey
	answer *dns.Msg // never changed
	since  time.Time
	until  time.Time
}

func newCache() *cache { return &cache{entries: map[cacheKey]*list.Element{}} }

// get returns a copy of an answer, its times shortened by what has passed; nil
// when none is remembered.
func (c *cache) get(key cacheKey, now time.Time) *dns.Msg {
	c.mu.Lock()
	defer c.mu.Unlock()
	element := c.entries[key]
	if element == nil {
		return nil
	}
	entry := element.Value.(*cached)
	if !now.Before(entry.until) {
		c.drop(element)
		return nil
	}
	c.order.MoveToFront(element)
	answer := entry.answer.Copy()
	age(answer, now.Sub(entry.since))
	return answer
}

// put remembers an answer as long as its records and RFC 2308 allow.
func (c *cache) put(key cacheKey, answer *dns.Msg, now time.Time) {
	life := lifetime(answer)
	if life <= 0 || answer.Len() > cacheBytes {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if element := c.entries[key]; element != nil {
		c.drop(element)
	}
	for len(c.entries) >= cacheSize {
		c.drop(c.order.Back())
	}
	c.entries[key] = c.order.PushFront(&cached{key, answer.Copy(), now, now.Add(life)})
}

// drop forgets one answer. The caller holds mu.
func (c *cache) drop(element *list.Element) {
	c.order.Remove(element)
	delete(c.entries, element.Value.(*cached).key)
}

// lifetime is how long an answer may be remembered; zero: not at all. What is
// not there counts as long as the start of authority says (RFC 2308, section 5);
// without one it is not remembered.
func lifetime(answer *dns.Msg) time.Duration {
	positive := answer.Rcode == dns.RcodeSuccess && len(answer.Answer) > 0 && concludes(answer)
	if !positive {
		if answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError {
			return 0
		}
		for _, record := range answer.Ns {
			if soa, ok := record.(*dns.SOA); ok {
				life := seconds(min(soa.Hdr.Ttl, soa.Minttl, shortest(answer.Answer)))
				return min(life, maxNegative)
			}
		}
		return 0
	}
	return min(seconds(shortest(answer.Answer)), maxPositive)
}

// concludes reports whether an answer holds a record of the type that was asked
// for, and not only the names that lead to where one is missing.
func concludes(answer *dns.Msg) bool {
	kind := answer.Question[0].Qtype
	for _, record := range answer.Answer {
		if kind == dns.TypeANY || record.Header().Rrtype == kind {
			return true
		}
	}
	return false
}

// shortest is the least time of some records in seconds. A time with the highest
// bit set counts as zero (RFC 2181, section 8).
func shortest(records []dns.RR) uint32 {
	least := uint32(1<<31 - 1)
	for _, record := range records {
		ttl := record.Header().Ttl
		if ttl >= 1<<31 {
			ttl = 0
		}
		least = min(least, ttl)
	}
	return least
}

func seconds(n uint32) time.Duration { return time.Duration(n) * time.Second }

// age takes from every time what has passed.
func age(answer *dns.Msg, passed time.Duration) {
	gone := uint32(passed / time.Second)
	for _, section := range [][]dns.RR{answer.Answer, answer.Ns} {
		for _, record := range section {
			head := record.Header()
			head.Ttl -= min(head.Ttl, gone)
		}
	}
}

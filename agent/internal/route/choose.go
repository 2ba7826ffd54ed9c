package route

import (
	"cmp"
	"slices"
	"time"
)

// Choices of ours.
const (
	// hold is how long another router must be the better one before traffic moves
	// to it, and how long one that failed is not the first choice.
	hold = 30 * time.Second

	// margin is how much shorter the round trip of a better router is.
	margin = 0.8
)

// A Candidate is a machine that leads to a destination.
type Candidate struct {
	Peer string // its id

	// Metric is compared first; the lowest wins.
	Metric int
}

// A Sight is what is known of a router at one moment. The zero value is a
// router that nobody has spoken to lately.
type Sight struct {
	Down    bool          // it was asked and does not answer
	Answers bool          // it has answered lately
	RTT     time.Duration // 0: not measured
	Busy    bool          // flows run through it
}

// A Chooser chooses the router of each destination:
//
//	the present one is no candidate any more   the best of the others, now
//	the present one does not answer            the same
//	another is better for 30 s: its metric is  that one, once no flows run
//	lower, or its round trip by a fifth        through the present one
//
// A router that comes and goes is therefore left once and not taken back before
// it has answered for 30 s. The zero value works. It is not safe for concurrent use.
type Chooser struct {
	choices map[string]*choice
	failed  map[string]time.Time // by peer, when it was seen down last
}

type choice struct {
	peer   string
	better string    // who is better than peer; empty: nobody
	since  time.Time // of better
}

// Choose returns the router for a destination, empty without candidates.
func (c *Chooser) Choose(now time.Time, destination string, candidates []Candidate, see func(peer string) Sight) string {
	if c.choices == nil {
		c.choices, c.failed = map[string]*choice{}, map[string]time.Time{}
	}
	if len(candidates) == 0 {
		delete(c.choices, destination)
		return ""
	}
	for _, candidate := range candidates {
		if see(candidate.Peer).Down {
			c.failed[candidate.Peer] = now
		}
	}
	present := c.choices[destination]
	at := -1
	if present != nil {
		at = slices.IndexFunc(candidates, func(x Candidate) bool { return x.Peer == present.peer })
	}
	if at < 0 {
		c.choices[destination] = &choice{peer: c.best(now, candidates, see)}
		return c.choices[destination].peer
	}
	sight := see(present.peer)
	if sight.Down {
		if next := c.best(now, candidates, see); !see(next).Down {
			*present = choice{peer: next}
		}
		return present.peer
	}
	better := betterThan(candidates[at], sight, candidates, see)
	if better != present.better {
		present.better, present.since = better, now
	}
	if better != "" && now.Sub(present.since) >= hold && !sight.Busy {
		*present = choice{peer: better}
	}
	return present.peer
}

// Waiting returns the router that is better than the one in use and waits for
// its time; empty when there is none.
func (c *Chooser) Waiting(destination string) string {
	if present := c.choices[destination]; present != nil {
		return present.better
	}
	return ""
}

// Keep forgets the destinations for which keep returns false.
func (c *Chooser) Keep(keep func(destination string) bool) {
	for destination := range c.choices {
		if !keep(destination) {
			delete(c.choices, destination)
		}
	}
}

// best returns the first choice when the present router is of no use.
func (c *Chooser) best(now time.Time, candidates []Candidate, see func(string) Sight) string {
	rank := func(peer string) int {
		failed, ever := c.failed[peer]
		switch {
		case see(peer).Down:
			return 2
		case ever && now.Sub(failed) < hold:
			return 1
		}
		return 0
	}
	return slices.MinFunc(candidates, func(a, b Candidate) int {
		return cmp.Or(rank(a.Peer)-rank(b.Peer), a.Metric-b.Metric, nearer(see(a.Peer).RTT, see(b.Peer).RTT))
	}).Peer
}

func nearer(a, b time.Duration) int {
	if a == 0 || b == 0 {
		return 0 // the order of the candidates decides
	}
	return cmp.Compare(a, b)
}

// betterThan returns the best of those that are better than the present one.
func betterThan(present Candidate, sight Sight, candidates []Candidate, see func(string) Sight) string {
	found := Candidate{}
	for _, x := range candidates {
		other := see(x.Peer)
		if x.Peer == present.Peer || other.Down || !other.Answers {
			continue
		}
		shorter := sight.RTT > 0 && other.RTT > 0 && float64(other.RTT) < margin*float64(sight.RTT)
		if x.Metric > present.Metric || x.Metric == present.Metric && !shorter {
			continue
		}
		if found.Peer == "" || cmp.Or(x.Metric-found.Metric, nearer(other.RTT, see(found.Peer).RTT)) < 0 {
			found = x
		}
	}
	return found.Peer
}

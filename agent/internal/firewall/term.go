package firewall

import (
	"slices"
	"time"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
)

// counting is the Config with the rules only that count at its time.
func (c Config) counting() Config {
	ends := func(r api.CompiledRule) bool { return !mapstate.TermOf(r).Holds(c.At) }
	if slices.ContainsFunc(c.Rules, ends) {
		c.Rules = slices.DeleteFunc(slices.Clone(c.Rules), ends)
	}
	return c
}

// Turn returns when a rule next begins or ends, after At; zero for never. The
// Config must be set again then, with that time in At.
func (c Config) Turn() (next time.Time) {
	for _, rule := range c.Rules {
		turn := mapstate.TermOf(rule).Next(c.At)
		if !turn.IsZero() && (next.IsZero() || turn.Before(next)) {
			next = turn
		}
	}
	return next
}

package engine

import (
	"context"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/wattlenet/wattle/agent/internal/dns"
)

// overlay knows the ranges of the network, and who wants to know what names mean
// and when they are not answered any more.
type overlay struct {
	networks   atomic.Pointer[[]netip.Prefix]
	answered   atomic.Pointer[func(context.Context, dns.Answered)]
	unanswered atomic.Pointer[func()]
}

// answer passes on what a name turned out to be.
func (o *overlay) answer(ctx context.Context, a dns.Answered) {
	if told := o.answered.Load(); told != nil {
		(*told)(ctx, a)
	}
}

// unanswer passes on that the resolver has lost a socket.
func (o *overlay) unanswer() {
	if told := o.unanswered.Load(); told != nil {
		(*told)()
	}
}

func (o *overlay) set(networks []netip.Prefix) { o.networks.Store(&networks) }

func (o *overlay) contains(addr netip.Addr) bool {
	networks := o.networks.Load()
	if networks == nil {
		return false
	}
	return slices.ContainsFunc(*networks, func(p netip.Prefix) bool { return p.Contains(addr) })
}

package server

import (
	"fmt"
	"sync/atomic"

	"github.com/spf13/pflag"
)

// Quotas that hold when the configuration does not name others.
const (
	// DefaultAllocations stays below the number of ephemeral ports.
	DefaultAllocations = 16384
	// DefaultAllocationsPerPeer leaves room for one allocation over each
	// transport, and for those that a roaming peer left behind.
	DefaultAllocationsPerPeer = 16
	// DefaultChannelsPerPeer is twice what one allocation can have (RFC 8656,
	// section 12), since a peer that moves has two.
	DefaultChannelsPerPeer = 2 * (lastChannel - firstChannel + 1)
)

// Quotas bound what clients may hold and spend.
type Quotas struct {
	// Allocations is how many the relay gives out at once. Zero means
	// DefaultAllocations.
	Allocations int
	// PerPeer bounds one peer over all its allocations, which is whom a
	// credential is made for. Zero means DefaultAllocationsPerPeer,
	// DefaultChannelsPerPeer and no limit of bandwidth.
	PerPeer Quota
	// PerAccount bounds all peers of one account together. Zero means no limit.
	PerAccount Quota
}

// A Quota bounds one peer or one account.
type Quota struct {
	Allocations int   // at once
	Channels    int   // bound at once
	Bandwidth   int64 // bytes per second, sent and received
}

// Flags adds the quotas to a command line, each name behind prefix.
func (q *Quotas) Flags(flags *pflag.FlagSet, prefix string) {
	flags.IntVar(&q.Allocations, prefix+"allocations", DefaultAllocations, "allocations of the relay at once")
	for _, one := range []struct {
		of              string
		quota           *Quota
		allocations, ch int
	}{
		{"peer", &q.PerPeer, DefaultAllocationsPerPeer, DefaultChannelsPerPeer},
		{"account", &q.PerAccount, 0, 0},
	} {
		limit := ""
		if one.allocations == 0 {
			limit = "; 0 for no limit"
		}
		flags.IntVar(&one.quota.Allocations, prefix+"allocations-per-"+one.of, one.allocations, "allocations of one "+one.of+" at once"+limit)
		flags.IntVar(&one.quota.Channels, prefix+"channels-per-"+one.of, one.ch, "channels of one "+one.of+" at once, each leads to one other peer"+limit)
		flags.Int64Var(&one.quota.Bandwidth, prefix+"bandwidth-per-"+one.of, 0, "bytes per second that one "+one.of+" may send and receive through the relay; 0 for no limit")
	}
}

// negative reports whether a quota makes no sense.
func (q *Quotas) negative() bool {
	return min(q.Allocations, q.PerPeer.Allocations, q.PerPeer.Channels, q.PerAccount.Allocations, q.PerAccount.Channels) < 0 ||
		min(q.PerPeer.Bandwidth, q.PerAccount.Bandwidth) < 0
}

// A limit names the quota that a request or a packet was beyond.
type limit int

const (
	relayAllocations limit = iota
	peerAllocations
	peerChannels
	peerBandwidth
	accountAllocations
	accountChannels
	accountBandwidth
	allocationPermissions
	limits // how many there are
)

// limitNames are the values of the label reason.
var limitNames = [limits]string{
	relayAllocations: "relay_allocations", peerAllocations: "peer_allocations", peerChannels: "peer_channels",
	peerBandwidth: "peer_bandwidth", accountAllocations: "account_allocations", accountChannels: "account_channels",
	accountBandwidth: "account_bandwidth", allocationPermissions: "permissions",
}

func (l limit) String() string { return limitNames[l] }

// A quotaError says that somebody has as much as he may.
type quotaError struct {
	limit limit
	has   int
}

// Error is told to the client.
func (e *quotaError) Error() string {
	what := map[limit]string{
		relayAllocations:      "the relay's quota of allocations",
		peerAllocations:       "this machine's quota of allocations at this relay",
		peerChannels:          "this machine's quota of channels at this relay",
		accountAllocations:    "the account's quota of allocations at this relay",
		accountChannels:       "the account's quota of channels at this relay",
		allocationPermissions: "the quota of permissions of one allocation",
	}[e.limit]
	return fmt.Sprintf("%s is used up: %d", what, e.has)
}

// usage is what one peer, or one account, holds and spends.
type usage struct {
	quota       Quota
	of          quotaLimits
	allocations int // guarded by ledger.mu
	channels    atomic.Int64
	meter       meter
}

// quotaLimits are the names of the quotas of a peer, or of an account.
type quotaLimits struct{ allocations, channels, bandwidth limit }

var (
	ofPeer    = quotaLimits{peerAllocations, peerChannels, peerBandwidth}
	ofAccount = quotaLimits{accountAllocations, accountChannels, accountBandwidth}
)

func newUsage(quota Quota, of quotaLimits) *usage {
	return &usage{quota: quota, of: of, meter: meter{rate: quota.Bandwidth}}
}

// allocate returns a quotaError when there is no room for an allocation.
// Called with ledger.mu held.
func (u *usage) allocate() *quotaError {
	if u.quota.Allocations > 0 && u.allocations >= u.quota.Allocations {
		return &quotaError{u.of.allocations, u.allocations}
	}
	return nil
}

// bind returns a quotaError when there is no room for a channel.
func (u *usage) bind() *quotaError {
	if has := u.channels.Load(); u.quota.Channels > 0 && has >= int64(u.quota.Channels) {
		return &quotaError{u.of.channels, int(has)}
	}
	return nil
}

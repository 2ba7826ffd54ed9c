// Package firewall enforces the rules of the network map on the packets of the tunnel.
package firewall

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/RoaringBitmap/roaring"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/table"
)

// A Config is everything that the firewall enforces. Without rules everything
// is dropped. Who has handed one over changes nothing in it afterwards.
type Config struct {
	// Interface is the name of the tunnel's interface; empty in netstack mode.
	Interface string

	// Self is the ordinal of this machine, and one of Peers.
	Self uint32

	// Peers are this machine and the peers that the map shows, by ordinal. An
	// address belongs to one of them.
	Peers table.Table[uint32, Addresses]

	// Networks are the ranges of the network. Nothing from them may arrive by
	// another way than the tunnel.
	Networks []netip.Prefix

	// Sets are the sets of ordinals that the rules name, by id: the source set of
	// a rule with direction in, the destination set of one with direction out;
	// this machine stands at the other end.
	Sets table.Table[string, *roaring.Bitmap]

	// Routes are the destinations outside of the overlay that rules name, by id.
	Routes map[string]Destination

	// KeepPaths answers connections that came in by another interface than the
	// tunnel's there, whatever routes lead into the tunnel. Kernel only.
	KeepPaths bool

	// Rules are the compiled rules of the map.
	Rules []api.CompiledRule

	// At is the present time. Rules whose time has not come or is over do not
	// count; Turn tells when that changes.
	At time.Time
}

// Addresses are the overlay addresses of a peer.
type Addresses struct {
	IPv4, IPv6 netip.Addr
}

// Options are what opening needs.
type Options struct {
	Logger *slog.Logger // required

	// Interface is the name of the tunnel's interface; required.
	Interface string

	// KeepHostClosed leaves the host's own firewall alone, also where it drops
	// what comes by the tunnel.
	KeepHostClosed bool
}

// An Enforcer applies a Config. Set may be called again with the same or
// another Config at any time; what it costs grows with what is other about its
// tables, not with them. After Close nothing of the firewall is left on the host.
type Enforcer interface {
	Set(ctx context.Context, c Config) error

	// Learn says that names of a route mean these addresses for at least that
	// long. The next packet is judged by it. A route that is not of the Config is
	// an error.
	Learn(route string, addrs []netip.Addr, life time.Duration) error

	// Watch calls changed when a Set of the same Config has something to put
	// right, until ctx ends.
	Watch(ctx context.Context, changed func()) error

	Status() Status
	Close() error
}

// Status says how the rules are enforced.
type Status struct {
	Kind    string // nftables or userspace
	Rules   int    // compiled rules in force
	Dropped uint64 // packets; userspace only
	Note    string // what is wrong; empty when all is well

	// Opened are the chains of the host's own firewall that let the tunnel
	// through to these rules.
	Opened []string

	Monitored []Count // what the rules that monitor have matched, by their ids
	Matched   []Count // the same of the rules that judge; of several that match one counts
}

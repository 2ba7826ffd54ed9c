// Package route leads traffic for destinations outside of the overlay into the tunnel, and lets a machine carry the
// traffic of others.
//
// The host's own table stays as it is. Ours stands beside it and is reached by three rules (Linux):
//
//	5400  to the network's ranges         -> table 22439
//	5410  what table main knows precisely -> main: local subnets stay local
//	5410  answers of services (Inbound)   -> main
//	5420  all that bears no mark          -> table 22439: destinations, exit node
//	      whatever is left, and the agent's own sockets -> main, as without the agent
//
// Rules and routes bear a protocol number of ours, by which they are told from those of others. What is changed stands
// in a journal before it is, so that the leftovers of an agent that was killed are found. A refusal needs no interface:
// it holds while the agent is dead and until the next one has its routes.
package route

import (
	"context"
	"log/slog"
	"net/netip"
)

// A Config is where the traffic of this machine goes, and what it carries for others. The zero value leaves the host as
// it was.
type Config struct {
	// Networks are the ranges of the overlay.
	Networks []netip.Prefix

	// Destinations are led into the tunnel. 0.0.0.0/0 and ::/0 take everything that the host does not know precisely.
	Destinations []netip.Prefix

	// Refused is answered as unreachable, and not led anywhere else. It outlives the tunnel's interface, so that nothing
	// leaks when the agent is killed.
	Refused []netip.Prefix

	// LocalToo leads into the tunnel, or refuses, what the host knows precisely as well.
	LocalToo bool

	// Inbound leads by the host's own table what a service of this machine answers
	// to who came in at another address than those of the tunnel: by TCP or UDP,
	// from a port that no outgoing connection is given. It is for a machine whose
	// packet filter does not keep the paths of such connections.
	Inbound bool

	// Carried are the destinations whose traffic this machine carries for others. 0.0.0.0/0 and ::/0 stand for the
	// interface of the default route.
	Carried []netip.Prefix
}

// A Host is the routing of one machine. Set may be called again with the same or another Config at any time, and also
// repairs what others have removed. After Close nothing is left on the host.
type Host interface {
	Set(ctx context.Context, c Config) error
	Status() Status

	// Suspend ends the Host as Close does, unless its Config refuses something:
	// then that goes on being refused, and Suspend reports it. The next Host with
	// the same journal takes over from there with its first Set; Undo ends it.
	Suspend() (refuses bool, err error)

	Close() error
}

// JournalFile is the name of the file in the state folder that keeps what the
// host had before.
const JournalFile = "routing.json"

// Options are what opening and Undo need.
type Options struct {
	Logger *slog.Logger

	// Interface is the name of the tunnel's interface; Undo reads it in the journal.
	Interface string

	// Journal is the path of the file that keeps what the host had before.
	Journal string
	// KeepRefused has Undo leave alone what refuses traffic: a daemon starts again, and nothing shall leak until it has
	// its routes.
	KeepRefused bool
}

// Status says what holds after the last Set.
type Status struct {
	// Local are subnets of the host that destinations overlap: they stay local.
	Local []Local

	// Notes are sentences about what does not work, with the next step.
	Notes []string
}

// A Local is a destination that the host reaches by itself, in whole or in part.
type Local struct {
	Destination netip.Prefix
	Subnet      netip.Prefix
	Interface   string
}

// whole reports whether a prefix is everything of its family.
func whole(p netip.Prefix) bool { return p.Bits() == 0 }

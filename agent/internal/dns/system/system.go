// Package system decides which name servers the programs of this machine ask.
//
// What the machine asked before is written to a journal before anything changes
// and comes back on Close, or by Undo after a crash.
package system

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
)

// A Config says what is asked of whom. Its zero value is: as it was before us.
type Config struct {
	// Interface is the one that leads to the network; not empty unless Config is
	// zero.
	Interface string

	// Servers answer. Only systemd-resolved and macOS take a port other than 53.
	Servers []netip.AddrPort

	// Search are the domains that single labels are tried in, the first one first.
	Search []string

	// Match are the domains whose names are asked of Servers. Where a machine can
	// ask one set of servers only, all names are.
	Match []string

	// All says that every name is asked of Servers.
	All bool
}

func (c Config) isZero() bool { return len(c.Servers) == 0 }

func (c Config) equal(o Config) bool {
	return c.Interface == o.Interface && c.All == o.All && slices.Equal(c.Servers, o.Servers) &&
		slices.Equal(c.Search, o.Search) && slices.Equal(c.Match, o.Match)
}

// Former is what a machine asks, or asked before us.
type Former struct {
	Servers []netip.AddrPort
	Search  []string
}

// A Kind is who decides what this machine asks.
type Kind string

// The kinds, in the order in which they are looked for.
const (
	Auto           Kind = "auto"
	Resolved       Kind = "systemd-resolved"
	NetworkManager Kind = "networkmanager"
	Resolvconf     Kind = "resolvconf"
	Scutil         Kind = "scutil" // macOS
	NRPT           Kind = "nrpt"   // Windows: the name resolution policy table
	File           Kind = "file"
	Off            Kind = "off" // nothing is touched
)

// Kinds are the names of all kinds.
var Kinds = []Kind{Auto, Resolved, NetworkManager, Resolvconf, Scutil, NRPT, File, Off}

// Status tells how a machine is set.
type Status struct {
	Kind   Kind
	Set    Config // what is in force; zero: nothing of ours
	Former Former

	// Note is a sentence about what is not as it should be, such as another
	// program that writes the same file; empty when all is well.
	Note string
}

// A Setter decides which name servers the programs of this machine ask. Its
// methods may be called at once.
type Setter interface {
	// Set makes the machine ask as c says. The same again does nothing. An error
	// names the cause and what to do; what was in force before may be gone then,
	// and the next Set tries again.
	Set(ctx context.Context, c Config) error

	// Former returns what the machine asks without us, as far as is known now.
	Former() Former

	// Watch keeps what was set in force and calls changed when Former is another,
	// until ctx ends. It may be called once.
	Watch(ctx context.Context, changed func()) error

	// Status tells how the machine is set.
	Status() Status

	// Close puts back what was before. It may be called again after an error, and
	// nothing else after it.
	Close() error
}

// Options say where and how to look.
type Options struct {
	Logger  *slog.Logger // required
	Journal string       // required: path of the file that remembers what to put back

	Kind Kind // "" is Auto

	// Path is the file of name servers; "" is /etc/resolv.conf.
	Path string
}

// resolvConf is where programs read which name servers to ask (resolv.conf(5)).
const resolvConf = "/etc/resolv.conf"

func (o Options) path() string {
	if o.Path == "" {
		return resolvConf
	}
	return o.Path
}

// Open puts back what a crash may have left, and returns the Setter for this
// machine. The error names a kind that was asked for and is not here, or what
// could not be put back.
func Open(ctx context.Context, o Options) (Setter, error) {
	if err := Undo(ctx, o); err != nil {
		return nil, err
	}
	if o.Kind == Off {
		return off{}, nil
	}
	return find(ctx, o)
}

// unknown is the error for a kind that this machine does not have.
func unknown(kind Kind, cause error) error {
	return fmt.Errorf("the name servers of this machine cannot be set with %s: %w; choose another with --dns, or off", kind, cause)
}

// Unable is the Setter of a machine whose name servers cannot be set, for the
// reason in its status. It touches nothing.
func Unable(reason error) Setter { return off{note: reason.Error()} }

// off touches nothing.
type off struct{ note string }

func (off) Set(context.Context, Config) error { return nil }
func (off) Former() Former                    { return Former{} }
func (o off) Status() Status                  { return Status{Kind: Off, Note: o.note} }
func (off) Close() error                      { return nil }

// Watch waits.
func (off) Watch(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return nil
}

package cli

import (
	"github.com/spf13/pflag"

	"github.com/wattlenet/wattle/agent/internal/forward"
	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/internal/program"
)

// forwardFlags say what the daemon carries between programs of this host and
// the overlay.
type forwardFlags struct {
	proxy   string
	out, in []string
}

func (f *forwardFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.proxy, "proxy", "", "answer SOCKS5 and HTTP CONNECT into the network at this address of the host, such as 127.0.0.1:1080")
	flags.StringSliceVar(&f.out, "forward-out", nil, "lead a port of this host into the network: [tcp:|udp:][ADDRESS:]PORT=PEER:PORT, such as 5432=db-1:5432; may be repeated")
	flags.StringSliceVar(&f.in, "forward-in", nil, "lead a port of this machine in the network to a service of the host: [tcp:|udp:]PORT=[ADDRESS:]PORT, such as 80=127.0.0.1:8080; may be repeated")
}

// config reads the flags; an error is one of usage.
func (f *forwardFlags) config() (c forward.Config, err error) {
	if f.proxy != "" {
		if c.Proxy, err = forward.ParseListen(f.proxy); err != nil {
			return c, program.Usage("--proxy %w", err)
		}
	}
	for _, text := range f.out {
		rule, err := forward.ParseOut(text)
		if err != nil {
			return c, program.Usage("--forward-out %w", err)
		}
		c.Out = append(c.Out, rule)
	}
	for _, text := range f.in {
		rule, err := forward.ParseIn(text)
		if err != nil {
			return c, program.Usage("--forward-in %w", err)
		}
		c.In = append(c.In, rule)
	}
	return c, nil
}

// forwardRows writes a line for each listener.
func forwardRows(row func(name, format string, args ...any), forwards []local.Forward) {
	for _, f := range forwards {
		leads := ""
		if f.Target != "" {
			leads = " to " + f.Target
		}
		state := count(f.Connections, "connection")
		if f.Error != "" {
			state = f.Error
		}
		row("forward", "%s %s %s%s, %s", f.Kind, f.Network, f.Listen, leads, state)
	}
}

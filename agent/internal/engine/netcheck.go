package engine

import (
	"cmp"
	"context"
	"net/url"

	"github.com/wattlenet/wattle/agent/internal/control"
	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/agent/internal/mark"
	"github.com/wattlenet/wattle/agent/internal/netcheck"
	"github.com/wattlenet/wattle/internal/program"
)

// Netcheck measures what the network around the machine lets through, past the
// tunnel. It works before enrolment, too.
func (e *Engine) Netcheck(ctx context.Context, request local.NetcheckRequest) (netcheck.Report, error) {
	mine, running, _ := e.now()
	c := netcheck.Config{
		Logger: e.log, Control: mark.Socket, Servers: netcheck.Named(request.STUN), ManagementURL: request.ManagementURL,
	}
	pin := request.CAPin
	if mine != nil {
		pin = cmp.Or(pin, mine.CAPin)
		c.ManagementURL = cmp.Or(c.ManagementURL, mine.ManagementURL)
	}
	if running != nil {
		c.Servers = append(running.memory.servers(), c.Servers...)
	}
	if len(c.Servers) == 0 {
		c.Servers = netcheck.BesideManagement(c.ManagementURL)
	}
	if address, err := url.Parse(c.ManagementURL); err == nil && c.ManagementURL != "" {
		check := control.TLS
		if running != nil {
			check = running.client.TLS // knows how far the clock is off
		}
		if c.TLS, err = check(address.Hostname(), pin); err != nil {
			return netcheck.Report{}, local.Errorf(program.ExitUsage, "%v", err)
		}
	}
	return netcheck.Run(ctx, c)
}

// servers are the STUN servers and relays that the control plane has named.
func (m *pathMemory) servers() []netcheck.Server {
	m.mu.Lock()
	defer m.mu.Unlock()
	var servers []netcheck.Server
	for _, relay := range m.relays {
		servers = append(servers, netcheck.ServersOf(regionOf(relay), relay.Urls)...)
	}
	return servers
}

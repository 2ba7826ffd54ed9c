package engine

import (
	"cmp"
	"maps"
	"slices"

	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
)

// destination is a range or a name outside of the overlay that the map shows.
type destination struct {
	view    api.CompiledRoute
	routers []string // names, the preferred first
}

func (d *desired) planRoutes(m *mapstate.Map) {
	for _, view := range slices.SortedFunc(maps.Values(m.Routes), byName) {
		planned := destination{view: view}
		for _, candidate := range m.Candidates(view) {
			planned.routers = append(planned.routers, m.Peers[candidate.Ordinal].Name)
		}
		d.routes = append(d.routes, planned)
	}
}

func byName(a, b api.CompiledRoute) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Id, b.Id))
}

func (r destination) describe() local.Route {
	described := local.Route{
		Name: r.view.Name, Role: string(r.view.Role), Domains: []string{}, Routers: append([]string{}, r.routers...),
		Masquerade: r.view.Masquerade != nil && *r.view.Masquerade,
	}
	if r.view.Prefix != nil {
		described.Prefix = *r.view.Prefix
	}
	if r.view.Domains != nil {
		described.Domains = append(described.Domains, *r.view.Domains...)
	}
	return described
}

package state

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/netmap"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// nameserverBody is what is kept of a nameserver group besides its name.
type nameserverBody struct {
	Description   string           `json:"description"`
	Nameservers   []api.Nameserver `json:"nameservers"`
	Groups        []string         `json:"groups"`
	Domains       []string         `json:"domains"`
	Primary       bool             `json:"primary"`
	SearchDomains bool             `json:"search_domains_enabled"`
	Enabled       bool             `json:"enabled"`
}

// nameserverGroups is the noun of the DNS servers that machines ask.
var nameserverGroups = &noun[nameserverBody, api.NameserverGroup]{
	kind: "nameserver-group", title: "nameserver group",
	creating: api.PermissionNameserversCreate, changing: api.PermissionNameserversUpdate, deleting: api.PermissionNameserversDelete,
	in:     func(a *account) *ordered[object[nameserverBody]] { return &a.dns.nameservers },
	unique: func(name string, _ nameserverBody) (string, string) { return "name", name },
	refs:   func(b nameserverBody) []store.Ref { return groupRefs("groups", b.Groups) },
	show:   func(_ *account, g object[nameserverBody]) api.NameserverGroup { return showNameservers(g) },
	compiled: func(_ *account, g object[nameserverBody]) []netmap.Change {
		return []netmap.Change{netmap.NameserverPut{Nameserver: compiledNameservers(g)}}
	},
	gone: func(_ *account, g object[nameserverBody]) []netmap.Change {
		return []netmap.Change{netmap.NameserverRemove{ID: g.ID}}
	},
}

func showNameservers(g object[nameserverBody]) api.NameserverGroup {
	return api.NameserverGroup{
		Id: g.ID, Name: g.Name, Description: g.Body.Description, Nameservers: g.Body.Nameservers, Groups: g.Body.Groups, Domains: g.Body.Domains,
		Primary: g.Body.Primary, SearchDomainsEnabled: g.Body.SearchDomains, Enabled: g.Body.Enabled, Version: g.Version,
	}
}

// compiledNameservers is the nameserver group as the network map takes it.
func compiledNameservers(g object[nameserverBody]) netmap.Nameserver {
	out := netmap.Nameserver{ID: g.ID, Servers: g.Body.Nameservers, Domains: g.Body.Domains, Search: g.Body.SearchDomains}
	if g.Body.Enabled {
		out.Groups = g.Body.Groups
	}
	return out
}

// ListNameserverGroups lists the nameserver groups.
func (s *State) ListNameserverGroups(_ context.Context, p auth.Principal, params api.ListNameserverGroupsParams) ([]api.NameserverGroup, string, error) {
	return nameserverGroups.list(s, p, page{params.Ids, params.Limit, params.Cursor}, withName[nameserverBody](params.Name))
}

// GetNameserverGroup reads a nameserver group.
func (s *State) GetNameserverGroup(_ context.Context, p auth.Principal, id string) (api.NameserverGroup, error) {
	return nameserverGroups.get(s, p, "", id)
}

// CreateNameserverGroup creates a nameserver group. A taken name is a conflict.
func (s *State) CreateNameserverGroup(ctx context.Context, p auth.Principal, req api.NameserverGroupRequest) (answer api.NameserverGroup, err error) {
	req.ApplyDefaults()
	if err := checkNameservers(req); err != nil {
		return answer, err
	}
	return nameserverGroups.create(ctx, s, p, func(w *write) (string, nameserverBody, error) {
		body, err := w.nameserverBody(req)
		return req.Name, body, err
	})
}

// UpdateNameserverGroup replaces a nameserver group.
func (s *State) UpdateNameserverGroup(
	ctx context.Context, p auth.Principal, id string, req api.NameserverGroupRequest, ifMatch string,
) (api.NameserverGroup, error) {
	req.ApplyDefaults()
	return nameserverGroups.update(ctx, s, p, "", id, ifMatch, func(w *write, _ object[nameserverBody]) (string, nameserverBody, error) {
		if err := checkNameservers(req); err != nil {
			return "", nameserverBody{}, err
		}
		body, err := w.nameserverBody(req)
		return req.Name, body, err
	})
}

// DeleteNameserverGroup removes a nameserver group.
func (s *State) DeleteNameserverGroup(ctx context.Context, p auth.Principal, id, ifMatch string) error {
	return nameserverGroups.delete(ctx, s, p, "", id, ifMatch, nil)
}

// checkNameservers finds what the contract's own validation cannot see.
func checkNameservers(req api.NameserverGroupRequest) error {
	var more []problem.FieldError
	switch domains := len(*req.Domains); {
	case *req.Primary && domains > 0:
		more = append(more, problem.Field("domains", "must be empty, since a primary group is asked for every name"))
	case !*req.Primary && domains == 0:
		more = append(more, problem.Field("domains", "must name a domain, unless the group is primary"))
	}
	if *req.Primary && *req.SearchDomainsEnabled {
		more = append(more, problem.Field("search_domains_enabled", "needs domains, and a primary group has none"))
	}
	for i, server := range req.Nameservers {
		addr, err := netip.ParseAddr(server.Ip)
		if err == nil && (addr.IsUnspecified() || addr.IsMulticast()) {
			more = append(more, problem.Field(fmt.Sprintf("nameservers[%d].ip", i), "is the address of no server: %s", addr))
		}
		more = append(more, checkTransport(fmt.Sprintf("nameservers[%d]", i), server)...)
	}
	return faults(req.Validate(), more...)
}

// checkTransport finds a server that cannot be asked in the way that it shall be.
func checkTransport(path string, server api.NameserverRequest) []problem.FieldError {
	usual, encrypted := map[api.NameserverRequestNsType]int{api.NameserverRequestNsTypeTls: 853, api.NameserverRequestNsTypeHttps: 443}[*server.NsType]
	if !encrypted || *server.Port != 53 {
		return nil
	}
	return []problem.FieldError{problem.Field(path+".port", "is that of DNS in the clear; a server that is asked over %s usually has %d", *server.NsType, usual)}
}

// nameserverBody turns a request into what is kept.
func (w *write) nameserverBody(req api.NameserverGroupRequest) (nameserverBody, error) {
	body := nameserverBody{
		Description: *req.Description, Domains: append([]string{}, *req.Domains...), Primary: *req.Primary,
		SearchDomains: *req.SearchDomainsEnabled, Enabled: *req.Enabled,
	}
	for _, server := range req.Nameservers {
		body.Nameservers = append(body.Nameservers, api.Nameserver{Ip: server.Ip, NsType: api.NameserverNsType(*server.NsType), Port: *server.Port, TlsName: *server.TlsName})
	}
	var err error
	body.Groups, err = w.groupIDs("groups", req.Groups)
	return body, err
}

// groupIDs returns the ids of the groups that a field of a request names by id or by name.
func (w *write) groupIDs(field string, texts []string) ([]string, error) {
	var asked groupTexts
	asked.add(field, texts)
	ids, _, wrong, err := w.resolve(asked)
	if err != nil || len(wrong) > 0 {
		return nil, faultsOr(err, wrong)
	}
	list, wrong := resolved(field, texts, ids)
	return list, faults(nil, wrong...)
}

func faultsOr(err error, wrong []problem.FieldError) error {
	if err != nil {
		return err
	}
	return faults(nil, wrong...)
}

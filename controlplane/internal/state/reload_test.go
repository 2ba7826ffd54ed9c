package state

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/oapi-codegen/nullable"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// A picture is everything that an account's memory holds.
type picture struct {
	Row      store.Account
	All      string
	Users    map[string]store.User
	Tokens   map[string]store.Token
	Keys     map[string]store.SetupKey
	Groups   map[string]group
	Peers    map[string]store.Peer
	Orders   [][]string
	Members  map[string]map[string]int64
	GroupsOf map[string]map[string]bool
	Reach    map[string][]string
	Digests  map[string]api.MapPosition
	Nouns    map[string]any
	Meets    map[string]map[string]bool
	Indexes  []index
}

func look(t testing.TB, s *State, accountID string) picture {
	t.Helper()
	a := s.accounts[accountID]
	var rows []store.Object
	err := s.store.Read(t.Context(), func(tx *store.Tx) (err error) {
		rows, err = store.AccountObjects(t.Context(), tx, accountID)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	pic := picture{
		Row: a.row, All: a.all, Users: a.users.byID, Tokens: a.tokens.byID, Keys: a.keys.byID, Groups: a.groups.byID,
		Peers: a.peers.byID, Members: a.members, GroupsOf: map[string]map[string]bool{}, Reach: map[string][]string{}, Digests: map[string]api.MapPosition{}, Nouns: map[string]any{},
		Meets: a.meets,
	}
	pic.Indexes = []index{a.resourcesOf, a.routersOf, a.inGroup, a.reaching}
	for peer, groups := range a.groupsOf {
		if len(groups) > 0 {
			pic.GroupsOf[peer] = groups
		}
	}
	for _, order := range [][]place{a.users.order, a.tokens.order, a.keys.order, a.groups.order, a.peers.order} {
		var ids []string
		for _, at := range order {
			ids = append(ids, at.id)
		}
		pic.Orders = append(pic.Orders, ids)
	}
	for _, row := range rows {
		if n, ok := nounOf(row.Kind); ok {
			pic.Nouns[row.ID] = n.again(a, row.ID)
		}
	}
	for id := range a.peers.byID {
		pic.Reach[id] = must(a.engine.Accessible(id))(t)
		at := must(a.engine.Position(id))(t)
		at.Serial = 0 // a reload begins its history anew
		pic.Digests[id] = at
	}
	return pic
}

// reloaded reads the account anew, from the store, into a second state.
func (f *fixture) reloaded() picture {
	f.t.Helper()
	second, err := New(f.t.Context(), f.cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	return look(f.t, second, f.owner.AccountID)
}

func TestMemoryEqualsReload(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			f := fresh(t)
			walk := walker{f: f, t: t, rand: rand.New(rand.NewPCG(seed, 1))}
			for step := range 80 {
				walk.step()
				if step%20 != 19 {
					continue
				}
				if diff := cmp.Diff(f.reloaded(), look(t, f.State, f.owner.AccountID), cmpopts.EquateEmpty()); diff != "" {
					t.Fatalf("step %d: reload (-) and memory (+) differ:\n%s", step, diff)
				}
			}
			if err := f.VerifyAudit(t.Context(), f.owner.AccountID); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A walker makes random writes; refusals are part of the walk.
type walker struct {
	f     *fixture
	t     *testing.T
	rand  *rand.Rand
	count int
}

func pick[T any](w *walker, list []T) (v T, ok bool) {
	if len(list) == 0 {
		return v, false
	}
	return list[w.rand.IntN(len(list))], true
}

func (w *walker) step() {
	f, ctx := w.f, w.t.Context()
	w.count++
	name := fmt.Sprintf("n%d", w.rand.IntN(20))
	groups := must2(f.ListGroups(ctx, f.owner, api.ListGroupsParams{}))(w.t)
	peers := must2(f.ListPeers(ctx, f.owner, api.ListPeersParams{}))(w.t)
	policies := must2(f.ListPolicies(ctx, f.owner, api.ListPoliciesParams{}))(w.t)
	keys := must2(f.ListSetupKeys(ctx, f.owner, api.ListSetupKeysParams{}))(w.t)
	some := []string{}
	for _, at := range w.rand.Perm(len(peers))[:w.rand.IntN(len(peers)+1)] {
		some = append(some, peers[at].Id)
	}
	g, _ := pick(w, groups)
	p, hasPeer := pick(w, peers)
	pol, hasPolicy := pick(w, policies)
	k, _ := pick(w, keys)
	rule := api.PolicyRuleRequest{Name: name, Sources: ids(g.Id), Destinations: ids("All")}
	switch w.rand.IntN(23) {
	case 21, 22:
		w.posture(name)
	case 0, 1:
		_, _ = f.CreateGroup(ctx, f.owner, api.GroupRequest{Name: name, Peers: ids(some...)})
	case 2, 3:
		_, _ = f.UpdateGroup(ctx, f.owner, g.Id, api.GroupRequest{Name: name, Peers: ids(some...)}, "")
	case 4:
		_ = f.DeleteGroup(ctx, f.owner, g.Id, "")
	case 5, 6, 7:
		_, _ = f.Enroll(ctx, auth.Principal{}, request(f.network.ReusableSetupKey, name), somewhere)
	case 8:
		if hasPeer {
			_ = f.DeletePeer(ctx, f.owner, p.Id, "")
		}
	case 9:
		if hasPeer {
			_, _ = f.UpdatePeer(ctx, f.owner, p.Id, api.PeerRequest{Name: &name, ApprovalRequired: new(w.rand.IntN(2) == 0)}, "")
			_, _ = f.CreateGroupMembership(ctx, f.owner, g.Id, api.GroupMembershipRequest{PeerId: p.Id})
		}
	case 10:
		_, _ = f.CreatePolicy(ctx, f.owner, api.PolicyRequest{Name: name, Rules: []api.PolicyRuleRequest{rule}})
	case 11:
		if hasPolicy {
			_, _ = f.UpdatePolicy(ctx, f.owner, pol.Id, api.PolicyRequest{Name: name, Rules: []api.PolicyRuleRequest{rule}}, "")
		}
	case 12:
		_, _ = f.CreateSetupKey(ctx, f.owner, api.SetupKeyRequest{Name: name, AutoGroups: &[]string{g.Id}})
		_, _ = f.UpdateSetupKey(ctx, f.owner, k.Id, api.SetupKeyUpdate{AutoGroups: []string{g.Id}}, "")
	case 13:
		if hasPolicy && w.count%3 == 0 {
			_ = f.DeletePolicy(ctx, f.owner, pol.Id, "")
		}
		if hasPeer {
			_ = f.DeleteGroupMembership(ctx, f.owner, g.Id, p.Id, "")
		}
		settings := api.AccountSettingsRequest{DnsDomain: new(name + ".internal")}
		settings.RoutingPeerDnsResolutionEnabled.Set(w.rand.IntN(2) == 0)
		settings.LazyConnectionEnabled.Set(w.rand.IntN(2) == 0)
		_, _ = f.UpdateAccountSettings(ctx, f.owner, settings, "")
	case 14:
		w.user(name, g.Id)
	case 15, 16, 17:
		w.names(name, g.Id)
	default:
		w.network(name, g.Id, p.Id)
	}
}

// names makes, changes or deletes zones, records, nameservers and the DNS settings.
func (w *walker) names(name, group string) {
	f, ctx := w.f, w.t.Context()
	zones := must2(f.ListDNSZones(ctx, f.owner, api.ListDnsZonesParams{}))(w.t)
	servers := must2(f.ListNameserverGroups(ctx, f.owner, api.ListNameserverGroupsParams{}))(w.t)
	zone, hasZone := pick(w, zones)
	server, hasServer := pick(w, servers)
	want := api.DnsZoneRequest{Name: name, Domain: zone.Domain, DistributionGroups: []string{group}, Enabled: new(w.rand.IntN(4) > 0)}
	asked := api.NameserverGroupRequest{Name: name, Nameservers: []api.NameserverRequest{{Ip: "192.0.2.53"}}, Groups: []string{group}, Primary: new(true)}
	record := api.DnsRecordRequest{Name: name + "." + zone.Domain, Type: "A", Content: fmt.Sprintf("192.0.2.%d", w.rand.IntN(4))}
	switch pick := w.rand.IntN(12); {
	case pick < 2 || !hasZone:
		want.Domain = name + ".example"
		_, _ = f.CreateDNSZone(ctx, f.owner, want)
	case pick < 3:
		_, _ = f.UpdateDNSZone(ctx, f.owner, zone.Id, want, "")
	case pick < 4:
		_ = f.DeleteDNSZone(ctx, f.owner, zone.Id, "")
	case pick < 8 || len(zone.Records) == 0:
		_, _ = f.CreateDNSRecord(ctx, f.owner, zone.Id, record)
	case pick < 9:
		_, _ = f.UpdateDNSRecord(ctx, f.owner, zone.Id, zone.Records[0].Id, record, "")
	case pick < 10:
		_ = f.DeleteDNSRecord(ctx, f.owner, zone.Id, zone.Records[0].Id, "")
	case pick < 11:
		_, _ = f.CreateNameserverGroup(ctx, f.owner, asked)
		if hasServer {
			_, _ = f.UpdateNameserverGroup(ctx, f.owner, server.Id, asked, "")
		}
	default:
		_, _ = f.ReplaceDNSSettings(ctx, f.owner, api.DnsSettingsRequest{DisabledManagementGroups: []string{group}}, "")
		if hasServer {
			_ = f.DeleteNameserverGroup(ctx, f.owner, server.Id, "")
		}
	}
}

// network makes, changes or deletes a network, one of its resources or routers, or a route.
func (w *walker) network(name, group, peer string) {
	f, ctx := w.f, w.t.Context()
	networks := must2(f.ListNetworks(ctx, f.owner, api.ListNetworksParams{}))(w.t)
	n, has := pick(w, networks)
	if !has || w.rand.IntN(4) == 0 {
		_, _ = f.CreateNetwork(ctx, f.owner, api.NetworkRequest{Name: name})
		return
	}
	address, _ := pick(w, []string{"10.0.0.1", "10.0.0.0/24", "*.example.org"})
	enabled := w.rand.IntN(2) == 0
	resource := api.NetworkResourceRequest{Name: name, Address: address, Groups: &[]string{group}, Enabled: &enabled}
	id, _ := pick(w, n.Resources)
	switch w.rand.IntN(9) {
	case 0, 1:
		made, err := f.CreateNetworkResource(ctx, f.owner, n.Id, resource)
		if err == nil {
			end := nullable.NewNullableWithValue(api.RuleResource{Id: made.Id, Type: api.RuleResourceType(made.Type)})
			rule := api.PolicyRuleRequest{Name: name, Sources: ids("All"), DestinationResource: end}
			_, _ = f.CreatePolicy(ctx, f.owner, api.PolicyRequest{Name: name, Rules: []api.PolicyRuleRequest{rule}})
		}
	case 2:
		_, _ = f.UpdateNetworkResource(ctx, f.owner, n.Id, id, resource, "")
	case 3:
		kept, err := f.GetNetworkResource(ctx, f.owner, n.Id, id)
		if err == nil {
			refs := nullable.NewNullableWithValue([]api.ResourceReference{{Id: id, Type: api.ResourceReferenceType(kept.Type)}})
			_, _ = f.UpdateGroup(ctx, f.owner, group, api.GroupRequest{Name: name, Resources: refs}, "")
		}
	case 4:
		_, _ = f.CreateGroupResource(ctx, f.owner, group, api.GroupResourceRequest{ResourceId: id})
	case 5:
		_ = f.DeleteGroupResource(ctx, f.owner, group, id, "")
		_ = f.DeleteNetworkResource(ctx, f.owner, n.Id, id, "")
	case 6:
		req := api.NetworkRouterRequest{Peer: nullable.NewNullableWithValue(peer), Enabled: &enabled}
		if w.count%2 == 0 {
			req = api.NetworkRouterRequest{PeerGroups: ids(group)}
		}
		_, _ = f.CreateNetworkRouter(ctx, f.owner, n.Id, req)
		router, _ := pick(w, n.Routers)
		_, _ = f.UpdateNetworkRouter(ctx, f.owner, n.Id, router, req, "")
	case 7:
		req := api.RouteRequest{NetworkId: name, Network: nullable.NewNullableWithValue("10.1.0.0/16"), PeerGroups: ids(group), Groups: []string{"All"}, Enabled: &enabled}
		made, err := f.CreateRoute(ctx, f.owner, req)
		if err == nil && w.count%2 == 0 {
			_ = f.DeleteRoute(ctx, f.owner, made.Id, "")
		}
	case 8:
		_ = f.DeleteNetwork(ctx, f.owner, n.Id, "")
	}
}

// posture makes, changes or removes checks, names them in policies and has machines report.
func (w *walker) posture(name string) {
	f, ctx := w.f, w.t.Context()
	checks := must2(f.ListPostureChecks(ctx, f.owner, api.ListPostureChecksParams{}))(w.t)
	c, has := pick(w, checks)
	path := fmt.Sprintf("/bin/%d", w.rand.IntN(3))
	switch roll := w.rand.IntN(8); {
	case !has || roll == 0:
		_, _ = f.CreatePostureCheck(ctx, f.owner, guard(name, path))
	case roll == 1:
		_, _ = f.UpdatePostureCheck(ctx, f.owner, c.Id, guard(name, path), "")
	case roll == 2:
		_ = f.DeletePostureCheck(ctx, f.owner, c.Id, "")
	case roll < 5:
		_, _ = f.CreatePolicy(ctx, f.owner, api.PolicyRequest{
			Name: name, SourcePostureChecks: &[]string{c.Id}, Rules: []api.PolicyRuleRequest{{Name: name, Sources: ids("All"), Destinations: ids("All")}},
		})
	default:
		peers := must2(f.ListPeers(ctx, f.owner, api.ListPeersParams{}))(w.t)
		if p, has := pick(w, peers); has {
			f.reports(p, running(path))
		}
	}
}

// user makes, changes or deletes a user; deleting one takes its tokens along.
func (w *walker) user(name, group string) {
	f, ctx := w.f, w.t.Context()
	users := must2(f.ListUsers(ctx, f.owner, api.ListUsersParams{ServiceUser: new(true)}))(w.t)
	u, has := pick(w, users)
	switch {
	case !has || w.count%3 == 0:
		made, err := f.CreateUser(ctx, f.owner, api.UserRequest{Name: &name, IsServiceUser: new(true), AutoGroups: &[]string{group}})
		if err == nil {
			_, _ = f.CreateToken(ctx, f.owner, made.Id, api.TokenRequest{Name: name, ExpiresIn: 1})
		}
	case w.count%3 == 1:
		req := as(u)
		req.IsBlocked, req.AutoGroups = !req.IsBlocked, []string{group}
		_, _ = f.UpdateUser(ctx, f.owner, u.Id, req, "")
	default:
		_ = f.DeleteUser(ctx, f.owner, u.Id, "")
	}
}

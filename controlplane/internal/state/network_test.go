package state

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/oapi-codegen/nullable"

	"github.com/wattlenet/wattle/controlplane/internal/netmap"
	"github.com/wattlenet/wattle/generated/api"
)

// told are the changes that the network map would be built of, without peers,
// groups and settings.
func (f *fixture) told(t *testing.T) (list []netmap.Change) {
	t.Helper()
	all, err := f.accounts[f.owner.AccountID].whole()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		switch c := c.(type) {
		case netmap.PeerPut, netmap.GroupPut, netmap.SettingsPut:
		case netmap.PolicyPut:
			for i := range c.Policy.Rules {
				c.Policy.Rules[i].ID = ""
			}
			if c.Policy.Rules[0].SourceResource+c.Policy.Rules[0].DestinationResource != "" {
				list = append(list, c)
			}
		default:
			list = append(list, c)
		}
	}
	return list
}

// What is kept of networks and routes reaches the network map in its own words.
func TestNetworksReachTheMap(t *testing.T) {
	f, ctx := fresh(t), t.Context()
	peer := f.enroll("gateway")
	web, all := f.group("web"), f.accounts[f.network.AccountID].all
	lan := must(f.CreateNetwork(ctx, f.owner, api.NetworkRequest{Name: "lan"}))(t)
	put := func(name, address string) api.NetworkResource {
		return must(f.CreateNetworkResource(ctx, f.owner, lan.Id, api.NetworkResourceRequest{Name: name, Address: address, Groups: &[]string{"web"}}))(t)
	}
	host, length, subnet, wild := put("host", "10.0.0.5"), put("length", "fd00::5/128"), put("subnet", "10.1.0.0/16"), put("wild", "*.example.org")
	router := must(f.CreateNetworkRouter(ctx, f.owner, lan.Id, api.NetworkRouterRequest{Peer: nullable.NewNullableWithValue(peer.Id), Metric: new(7)}))(t)
	spare := must(f.CreateNetworkRouter(ctx, f.owner, lan.Id, api.NetworkRouterRequest{PeerGroups: ids("web"), Masquerade: new(false)}))(t)
	route := must(f.CreateRoute(ctx, f.owner, api.RouteRequest{
		NetworkId: "old", Network: nullable.NewNullableWithValue("192.0.2.0/24"), Peer: nullable.NewNullableWithValue(peer.Id), Groups: []string{"All"},
		AccessControlGroups: ids("web"), Metric: new(3), SkipAutoApply: new(true),
	}))(t)
	names := must(f.CreateRoute(ctx, f.owner, api.RouteRequest{
		NetworkId: "names", Domains: ids("a.example.org", "b.example.org"), PeerGroups: ids("web"), Groups: []string{"web"}, KeepRoute: new(false),
	}))(t)
	end := nullable.NewNullableWithValue(api.RuleResource{Id: subnet.Id, Type: api.RuleResourceTypeSubnet})
	policy := must(f.CreatePolicy(ctx, f.owner, api.PolicyRequest{Name: "p", Rules: []api.PolicyRuleRequest{{Name: "r", Sources: ids("web"), DestinationResource: end}}}))(t)

	groups := []string{web.Id}
	resource := func(r api.NetworkResource, prefix netip.Prefix, domain string) netmap.Change {
		return netmap.ResourcePut{Resource: netmap.Resource{ID: r.Id, Name: r.Name, Network: lan.Id, Prefix: prefix, Domain: domain, Groups: groups}}
	}
	want := []netmap.Change{
		resource(host, netip.MustParsePrefix("10.0.0.5/32"), ""), resource(length, netip.MustParsePrefix("fd00::5/128"), ""),
		resource(subnet, netip.MustParsePrefix("10.1.0.0/16"), ""), resource(wild, netip.Prefix{}, "*.example.org"),
		netmap.RouterPut{Router: netmap.Router{ID: router.Id, Network: lan.Id, Peer: peer.Id, Metric: 7, Masquerade: true}},
		netmap.RouterPut{Router: netmap.Router{ID: spare.Id, Network: lan.Id, Groups: groups, Metric: 9999}},
		netmap.RoutePut{Route: netmap.Route{
			ID: route.Id, NetworkID: "old", Prefix: netip.MustParsePrefix("192.0.2.0/24"), Peer: peer.Id, Groups: []string{all},
			AccessControlGroups: groups, Metric: 3, Masquerade: true, KeepRoute: true, SkipAutoApply: true,
		}},
		netmap.RoutePut{Route: netmap.Route{
			ID: names.Id, NetworkID: "names", Domains: []string{"a.example.org", "b.example.org"}, PeerGroups: groups, Groups: groups, Metric: 9999, Masquerade: true,
		}},
		netmap.PolicyPut{Policy: netmap.Policy{ID: policy.Id, Enabled: true, Rules: []netmap.Rule{{
			Enabled: true, Bidirectional: true, Protocol: "all", Sources: groups, DestinationResource: subnet.Id,
		}}}},
	}
	equal := cmp.Options{cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Prefix{})}
	if diff := cmp.Diff(want, f.told(t), equal); diff != "" {
		t.Fatalf("want (-) and got (+) differ:\n%s", diff)
	}

	off := must(f.UpdateNetworkResource(ctx, f.owner, lan.Id, host.Id, api.NetworkResourceRequest{Name: "host", Address: "10.0.0.5", Enabled: new(false)}, ""))(t)
	_ = must(f.UpdateNetworkRouter(ctx, f.owner, lan.Id, spare.Id, api.NetworkRouterRequest{PeerGroups: ids("web"), Enabled: new(false)}, ""))(t)
	_ = must(f.UpdateRoute(ctx, f.owner, names.Id, api.RouteRequest{NetworkId: "names", Domains: ids("a.example.org"), PeerGroups: ids("web"), Groups: []string{"web"}, Enabled: new(false)}, ""))(t)
	want[0], want[5], want[7] = netmap.ResourceRemove{ID: off.Id}, netmap.RouterRemove{ID: spare.Id}, netmap.RouteRemove{ID: names.Id}
	if diff := cmp.Diff(want, f.told(t), equal); diff != "" {
		t.Fatalf("disabled: want (-) and got (+) differ:\n%s", diff)
	}
}

// While routing peers resolve no domains, what is given by one is not in the map,
// whether it was there before the setting or came after it.
func TestDomainsThatNobodyResolves(t *testing.T) {
	f, ctx := fresh(t), t.Context()
	lan := must(f.CreateNetwork(ctx, f.owner, api.NetworkRequest{Name: "lan"}))(t)
	resource := func(name, address string) string {
		return must(f.CreateNetworkResource(ctx, f.owner, lan.Id, api.NetworkResourceRequest{Name: name, Address: address}))(t).Id
	}
	route := func(name string) string {
		return must(f.CreateRoute(ctx, f.owner, api.RouteRequest{
			NetworkId: name, Domains: ids(name + ".example.org"), PeerGroups: ids(f.group(name).Id), Groups: []string{"All"},
		}))(t).Id
	}
	resolve := func(on bool) {
		var change api.AccountSettingsRequest
		change.RoutingPeerDnsResolutionEnabled.Set(on)
		_ = must(f.UpdateAccountSettings(ctx, f.owner, change, ""))(t)
	}
	check := func(when string, resources, routes []string) {
		t.Helper()
		var there, told, led []string
		for _, r := range f.accounts[f.owner.AccountID].engine.Resources() {
			there = append(there, r.ID)
		}
		for _, c := range f.told(t) {
			switch c := c.(type) {
			case netmap.ResourcePut:
				told = append(told, c.Resource.ID)
			case netmap.RoutePut:
				led = append(led, c.Route.ID)
			}
		}
		if !sameSet(there, resources) || !sameSet(told, resources) || !sameSet(led, routes) {
			t.Errorf("%s: resources %v, anew %v, want %v; routes %v, want %v", when, there, told, resources, led, routes)
		}
	}
	subnet, wild, old := resource("subnet", "10.1.0.0/16"), resource("wild", "*.example.org"), route("old")
	check("at first", []string{subnet, wild}, []string{old})
	resolve(false)
	late, young := resource("late", "db.example.org"), route("young")
	check("off", []string{subnet}, nil)
	resolve(true)
	check("on again", []string{subnet, wild, late}, []string{old, young})
}

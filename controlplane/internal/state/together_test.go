package state

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/oapi-codegen/nullable"

	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/generated/api"
)

// What is wrong with a request is told at once, whoever of contract, rules and
// references refuses it, and nothing of the request is kept.
func TestAllThatIsWrongIsTold(t *testing.T) {
	f := fresh(t)
	zone := f.zone("corp.example")
	machine := f.enroll("laptop")
	robot, _ := f.service("robot", "user")
	unknown := []string{"unknown"}
	rule := func(protocol api.PolicyRuleRequestProtocol, sources string) api.PolicyRuleRequest {
		r := api.PolicyRuleRequest{Name: string(protocol) + sources, Sources: ids(sources), Destinations: ids("All"), Protocol: &protocol}
		r.Ports.Set([]string{"80"})
		return r
	}
	for name, c := range map[string]struct {
		ask   func() error
		wrong []string
	}{
		"settings": {func() error {
			_, err := f.UpdateAccountSettings(t.Context(), f.owner, api.AccountSettingsRequest{
				DnsDomain: &zone.Domain, NetworkRange: new("10.0.0.0/30"), PeerLoginExpiration: nullable.NewNullableWithValue(1),
				PeerExposeGroups: nullable.NewNullableWithValue(unknown), NetworkTrafficLogsGroups: nullable.NewNullableWithValue(unknown),
				RegularUsersViewBlocked: nullable.NewNullableWithValue(false),
			}, "")
			return err
		}, []string{"dns_domain", "network_range", "network_traffic_logs_groups[0]", "peer_expose_groups[0]", "peer_login_expiration"}},
		"range of no form": {func() error { // the contract and the rule refuse it
			_, err := f.UpdateAccountSettings(t.Context(), f.owner, api.AccountSettingsRequest{NetworkRange: new("10.0.0.1/8")}, "")
			return err
		}, []string{"network_range"}},
		"policy": {func() error {
			_, err := f.CreatePolicy(t.Context(), f.owner, api.PolicyRequest{
				Name: "p", Rules: []api.PolicyRuleRequest{rule("icmp", "All"), rule("tcp", "unknown")}, SourcePostureChecks: &unknown,
			})
			return err
		}, []string{"rules[0].ports", "rules[1].sources[0]", "source_posture_checks[0]"}},
		"new user": {func() error {
			_, err := f.CreateUser(t.Context(), f.owner, api.UserRequest{IsServiceUser: new(true), Role: new(api.UserRequestRoleOwner), AutoGroups: &unknown})
			return err
		}, []string{"auto_groups[0]", "role"}},
		"user": {func() error {
			_, err := f.UpdateUser(t.Context(), f.owner, robot.Id, api.UserUpdate{
				Role: api.UserUpdateRoleOwner, AutoGroups: unknown, Email: nullable.NewNullableWithValue("robot@example.org"),
			}, "")
			return err
		}, []string{"auto_groups[0]", "email", "role"}},
		"peer": {func() error {
			_, err := f.UpdatePeer(t.Context(), f.owner, machine.Id, api.PeerRequest{Name: new(""), Ip: new("8.8.8.8"), Ipv6: new("2001:db8::1")}, "")
			return err
		}, []string{"ip", "ipv6", "name"}},
		"zone": {func() error {
			_, err := f.CreateDNSZone(t.Context(), f.owner, api.DnsZoneRequest{Name: "", Domain: must(f.GetAccountSettings(t.Context(), f.owner))(t).DnsDomain, DistributionGroups: unknown})
			return err
		}, []string{"distribution_groups[0]", "domain", "name"}},
	} {
		t.Run(name, func(t *testing.T) {
			before := f.dump()
			var p *problem.Problem
			if err := c.ask(); !errors.As(err, &p) || p.Kind != problem.KindInvalid {
				t.Fatalf("got %v, want a problem of kind invalid", err)
			}
			var fields []string
			for _, fault := range p.Errors {
				fields = append(fields, fault.Field)
			}
			slices.Sort(fields)
			if diff := cmp.Diff(c.wrong, fields); diff != "" {
				t.Errorf("(-want +got)\n%s\n%v", diff, p.Errors)
			}
			if diff := cmp.Diff(before, f.dump()); diff != "" {
				t.Errorf("something was kept (-before +after)\n%s", diff)
			}
		})
	}
}

package state

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/oapi-codegen/nullable"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/geo"
	"github.com/wattlenet/wattle/controlplane/internal/geo/geotest"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/generated/api"
)

// guard is a check for one running program.
func guard(name, path string) api.PostureCheckRequest {
	return api.PostureCheckRequest{Name: name, Checks: api.PostureChecksRequest{ProcessCheck: nullable.NewNullableWithValue(
		api.ProcessCheckRequest{Processes: []api.ProcessRequest{{LinuxPath: nullable.NewNullableWithValue(path)}}})}}
}

// guarded has two machines, and the first reaches the second while it meets the check.
func guarded(f *fixture, req api.PostureCheckRequest) (check api.PostureCheck, source, destination api.Peer) {
	f.t.Helper()
	for _, p := range must2(f.ListPolicies(f.t.Context(), f.owner, api.ListPoliciesParams{}))(f.t) {
		if err := f.DeletePolicy(f.t.Context(), f.owner, p.Id, ""); err != nil {
			f.t.Fatal(err)
		}
	}
	source, destination = f.enroll("source"), f.enroll("destination")
	f.group("sources", source.Id)
	f.group("destinations", destination.Id)
	check = must(f.CreatePostureCheck(f.t.Context(), f.owner, req))(f.t)
	_, err := f.CreatePolicy(f.t.Context(), f.owner, api.PolicyRequest{
		Name: "p", SourcePostureChecks: &[]string{check.Id},
		Rules: []api.PolicyRuleRequest{{Name: "r", Sources: ids("sources"), Destinations: ids("destinations")}},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return check, source, destination
}

func (f *fixture) sees(a, b api.Peer) bool {
	f.t.Helper()
	return must(f.Engine(f.owner.AccountID))(f.t).Sees(a.Id, b.Id)
}

func (f *fixture) reports(p api.Peer, change func(*api.MachineFacts)) {
	f.t.Helper()
	facts := api.MachineFacts{Hostname: p.Hostname, Os: "linux", KernelVersion: "6.1", AgentVersion: "0.1.0"}
	if change != nil {
		change(&facts)
	}
	agent := auth.Principal{Kind: auth.KindAgent, AccountID: f.owner.AccountID, PeerID: p.Id, ID: p.Id}
	if err := f.ReportAgent(f.t.Context(), agent, api.StatusReport{Facts: facts}, somewhere); err != nil {
		f.t.Fatal(err)
	}
}

func running(paths ...string) func(*api.MachineFacts) {
	return func(f *api.MachineFacts) { f.RunningProcesses = &paths }
}

func TestAccessFollowsTheProcess(t *testing.T) {
	f := fresh(t)
	check, source, destination := guarded(f, guard("guard", "/usr/bin/guard"))
	if f.sees(source, destination) {
		t.Error("a machine that told nothing has access")
	}
	f.reports(source, running("/usr/bin/guard"))
	if !f.sees(source, destination) || !f.sees(destination, source) {
		t.Error("the program runs, and there is no access")
	}
	before := must(f.Engine(f.owner.AccountID))(t).Serial()
	f.reports(source, running("/usr/bin/guard"))
	if now := must(f.Engine(f.owner.AccountID))(t).Serial(); now != before {
		t.Errorf("a report that changes nothing moved the serial from %d to %d", before, now)
	}
	f.reports(source, running())
	if f.sees(source, destination) {
		t.Error("the program ended, and there is access")
	}
	events := must2(f.ListAuditEvents(t.Context(), f.owner, api.ListAuditEventsParams{}))(t)
	if e := events[0]; e.ActivityCode != "peer.posture" || e.TargetId != source.Id || !strings.Contains(fmt.Sprint(*e.After), "/usr/bin/guard does not run") {
		t.Errorf("the audit tells %+v", e)
	}
	f.reports(source, running("/usr/bin/guard"))
	if _, err := f.UpdatePostureCheck(t.Context(), f.owner, check.Id, guard("guard", "/usr/bin/other"), ""); err != nil {
		t.Fatal(err)
	}
	if f.sees(source, destination) {
		t.Error("the check asks about another program, and there is access")
	}
}

// The facts of a moment ago count, whether they came before or after the check.
func TestNewChecksJudgeWhatWasReported(t *testing.T) {
	f := fresh(t)
	_, source, destination := guarded(f, api.PostureCheckRequest{Name: "version", Checks: api.PostureChecksRequest{
		NbVersionCheck: nullable.NewNullableWithValue(api.MinVersion{MinVersion: "0.1"}),
	}})
	if !f.sees(source, destination) {
		t.Error("what it told when it enrolled does not count")
	}
	third := f.enroll("third")
	if must(f.Engine(f.owner.AccountID))(t).Sees(third.Id, destination.Id) {
		t.Error("a machine outside of the sources has access")
	}
	if diff := f.reloadDiff(); diff != "" {
		t.Errorf("a reload (-) differs (+):\n%s", diff)
	}
}

func (f *fixture) reloadDiff() string {
	return cmp.Diff(f.reloaded(), look(f.t, f.State, f.owner.AccountID), cmpopts.EquateEmpty())
}

func TestPostureSurvivesARestart(t *testing.T) {
	f := fresh(t)
	_, source, destination := guarded(f, guard("guard", "/usr/bin/guard"))
	f.reports(source, running("/usr/bin/guard"))
	second, err := New(t.Context(), f.cfg) // nothing but the writes themselves reached the store
	if err != nil {
		t.Fatal(err)
	}
	if !must(second.Engine(f.owner.AccountID))(t).Sees(source.Id, destination.Id) {
		t.Error("after a restart there is no access")
	}
	if diff := f.reloadDiff(); diff != "" {
		t.Errorf("a reload (-) differs (+):\n%s", diff)
	}
}

// A machine that is away for long is not believed any more; one that holds its stream is.
func TestOldFactsDoNotCount(t *testing.T) {
	f := fresh(t)
	_, source, destination := guarded(f, guard("guard", "/usr/bin/guard"))
	f.reports(source, running("/usr/bin/guard"))
	a := f.accounts[f.owner.AccountID]
	away := func() {
		a.present.update(source.Id, func(seen *presence) { seen.lastSeen = now().Add(-factsLife - time.Minute) })
		a.since = now().Add(-2 * factsLife)
		if err := f.assessAll(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	f.SetPresence(source.Id, "s", true, somewhere)
	if away(); !f.sees(source, destination) {
		t.Error("a machine that holds its stream is not believed")
	}
	f.SetPresence(source.Id, "s", false, somewhere)
	if away(); f.sees(source, destination) {
		t.Error("a machine that is away for more than an hour is believed")
	}
	f.SetPresence(source.Id, "s", true, somewhere)
	if !f.sees(source, destination) {
		t.Error("a machine that came back is not believed")
	}
}

func TestLocationFollowsTheAddress(t *testing.T) {
	f := fresh(t)
	places, err := geo.Open(geotest.Write(t, "Test-City", map[string]geo.Place{
		"192.0.2.0/24": {Country: "DE", City: "Berlin", GeonameID: 2950159}, "198.51.100.0/24": {Country: "FR"},
	}))
	if err != nil {
		t.Fatal(err)
	}
	cfg := f.cfg
	cfg.Places = places
	located, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	f.State = located
	_, source, destination := guarded(f, inGermany())
	if shown := must(f.GetPeer(t.Context(), f.owner, source.Id))(t); shown.CountryCode != "DE" || shown.CityName != "Berlin" || shown.GeonameId != 2950159 {
		t.Errorf("the peer is shown in %q, %q (%d)", shown.CountryCode, shown.CityName, shown.GeonameId)
	}
	if !f.sees(source, destination) {
		t.Error("a machine in the country has no access")
	}
	f.SetPresence(source.Id, "s", true, netip.MustParseAddr("198.51.100.7"))
	if f.sees(source, destination) {
		t.Error("a machine that went abroad has access")
	}
	f.SetPresence(source.Id, "t", true, netip.MustParseAddr("192.0.2.9"))
	if !f.sees(source, destination) {
		t.Error("a machine that came home has no access")
	}
	if cities := must(f.ListCities(t.Context(), "DE"))(t); len(cities) != 1 || cities[0].CityName != "Berlin" {
		t.Errorf("cities are %+v", cities)
	}
}

func inGermany() api.PostureCheckRequest {
	return api.PostureCheckRequest{Name: "place", Checks: api.PostureChecksRequest{GeoLocationCheck: nullable.NewNullableWithValue(api.GeoLocationCheckRequest{
		Action: api.GeoLocationCheckRequestActionAllow, Locations: []api.GeoLocationRequest{{CountryCode: "DE"}},
	})}}
}

func TestLocationFailsClosedWithoutADatabase(t *testing.T) {
	f := fresh(t)
	_, source, destination := guarded(f, inGermany())
	if f.sees(source, destination) {
		t.Error("without a database a machine meets a location check")
	}
	_, err := f.ListCities(t.Context(), "DE")
	refused(t, err, problem.KindPrecondition, "", "--geo-database")
	_, err = f.GetCountry("XX")
	refused(t, err, problem.KindNotFound, "", "country not found")
}

func TestPostureChecksAreChecked(t *testing.T) {
	f := fresh(t)
	check, _, _ := guarded(f, guard("guard", "/usr/bin/guard"))
	_, err := f.CreatePostureCheck(t.Context(), f.owner, guard("guard", "/x"))
	refused(t, err, problem.KindConflict, "", "guard")
	_, err = f.CreatePostureCheck(t.Context(), f.owner, api.PostureCheckRequest{Name: "none"})
	refused(t, err, problem.KindInvalid, "checks", "at least one of")
	_, err = f.CreatePostureCheck(t.Context(), f.owner, guard("relative", "bin/guard"))
	refused(t, err, problem.KindInvalid, "checks.process_check.processes[0].linux_path", "whole path")
	twice := inGermany()
	places, _ := twice.Checks.GeoLocationCheck.Get()
	places.Locations = append(places.Locations, places.Locations[0], api.GeoLocationRequest{CountryCode: "XX"})
	twice.Checks.GeoLocationCheck.Set(places)
	_, err = f.CreatePostureCheck(t.Context(), f.owner, twice)
	refused(t, err, problem.KindInvalid, "checks.geo_location_check.locations[1]", "occurs twice")
	refused(t, err, problem.KindInvalid, "checks.geo_location_check.locations[2].country_code", "unknown country code")
	err = f.DeletePostureCheck(t.Context(), f.owner, check.Id, "")
	refused(t, err, problem.KindPrecondition, "", `policy "p"`)
	if list := must(f.ListPostureCheckReferrers(t.Context(), f.owner, check.Id))(t); len(list) != 1 || list[0].Field != "source_posture_checks" {
		t.Errorf("referrers are %+v", list)
	}
	_, err = f.ListPostureCheckReferrers(t.Context(), f.owner, "nothing")
	refused(t, err, problem.KindNotFound, "", "posture check not found")
	_, err = f.CreatePolicy(t.Context(), f.owner, api.PolicyRequest{
		Name: "q", SourcePostureChecks: &[]string{check.Id, "nothing"},
		Rules: []api.PolicyRuleRequest{{Name: "r", Sources: ids("All"), Destinations: ids("All")}},
	})
	refused(t, err, problem.KindInvalid, "source_posture_checks[1]", "unknown posture check id")
}

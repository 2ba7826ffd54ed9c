package rest_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/generated/api"
)

func TestOfParallelSetupsOneWins(t *testing.T) {
	plane := controlplanetest.NewWithoutOwner(t)
	got := ask(t, plane, "GET", "/api/instance", "", "Authorization", anonymous)
	expect(t, "before", got.body, "setup_required", true)
	var wait sync.WaitGroup
	answers := make([]answer, 4)
	for i := range answers {
		wait.Go(func() {
			body := fmt.Sprintf(`{"email":"owner%d@example.org","password":"correct horse battery %d","name":"o","create_pat":true,"pat_expire_in":1}`, i, i)
			answers[i] = ask(t, plane, "POST", "/api/setup", body, "Authorization", anonymous)
		})
	}
	wait.Wait()
	won := 0
	for _, got := range answers {
		switch got.status {
		case http.StatusOK:
			won++
			if got.header.Get("Cache-Control") != "no-store" {
				t.Errorf("a cache may keep the first token: %q", got.header.Get("Cache-Control"))
			}
			plane.Token, _ = dig(t, got.body, "personal_access_token").(string)
		case http.StatusPreconditionFailed:
			if p := got.problem(t); p.Type != api.ProblemSetupDone {
				t.Errorf("refused with %s", p.Type)
			}
		default:
			t.Errorf("%d %s", got.status, got.body)
		}
	}
	if won != 1 {
		t.Fatalf("%d of %d setups won", won, len(answers))
	}
	if got := ask(t, plane, "GET", "/api/users/current", ""); got.status != http.StatusOK {
		t.Errorf("the first token: %d", got.status)
	}
	got = ask(t, plane, "GET", "/api/instance", "", "Authorization", anonymous)
	expect(t, "after", got.body, "setup_required", false)
}

func TestVersionsGuardWrites(t *testing.T) {
	plane := controlplanetest.New(t)
	group := "/api/groups/" + created(t, plane, "/api/groups", `{"name":"web"}`)
	old := ask(t, plane, "GET", group, "").header.Get("ETag")
	changed := ask(t, plane, "PUT", group, `{"name":"www"}`, "If-Match", old)
	if changed.status != http.StatusOK || changed.header.Get("ETag") == old || changed.header.Get("ETag") == "" {
		t.Fatalf("%d, ETag %q after %q", changed.status, changed.header.Get("ETag"), old)
	}
	for _, method := range []string{"PUT", "DELETE"} {
		body := map[string]string{"PUT": `{"name":"late"}`}[method]
		if got := ask(t, plane, method, group, body, "If-Match", old); got.problem(t).Status != http.StatusPreconditionFailed {
			t.Errorf("stale %s: %d", method, got.status)
		}
	}
	if got := ask(t, plane, "GET", group, "", "If-None-Match", old); got.status != http.StatusOK {
		t.Errorf("changed since: %d", got.status)
	}
	if got := ask(t, plane, "DELETE", group, "", "If-Match", changed.header.Get("ETag")); got.status != http.StatusOK {
		t.Errorf("present version: %d %s", got.status, got.body)
	}
	if got := ask(t, plane, "GET", group, ""); got.problem(t).Message != "group not found" {
		t.Errorf("deleted: %d %s", got.status, got.body)
	}
}

func TestPagesFollowEachOther(t *testing.T) {
	plane := controlplanetest.New(t)
	for i := range 5 {
		created(t, plane, "/api/policies", fmt.Sprintf(`{"name":"p%d","rules":[{"name":"r","sources":["All"],"destinations":["All"]}]}`, i))
	}
	var whole []api.Policy
	if err := json.Unmarshal(ask(t, plane, "GET", "/api/policies", "").body, &whole); err != nil {
		t.Fatal(err)
	}
	var names, want []string
	for _, policy := range whole {
		want = append(want, policy.Name)
	}
	for path := "/api/policies?limit=2"; path != ""; {
		got := ask(t, plane, "GET", path, "")
		var page []api.Policy
		if err := json.Unmarshal(got.body, &page); err != nil || len(page) == 0 || len(page) > 2 {
			t.Fatalf("%s: %d policies: %s", path, len(page), got.body)
		}
		for _, policy := range page {
			names = append(names, policy.Name)
		}
		link := got.header.Get("Link")
		if path, _, _ = strings.Cut(strings.TrimPrefix(link, "<"), ">"); link != "" && !strings.HasSuffix(link, `; rel="next"`) {
			t.Fatalf("Link %q", link)
		}
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("pages differ from the whole list (-want +got):\n%s", diff)
	}
}

func TestRepeatedCreateMakesOneObject(t *testing.T) {
	plane := controlplanetest.New(t)
	for path, body := range map[string]string{
		"/api/groups":     `{"name":"web"}`,
		"/api/setup-keys": `{"name":"k"}`,
	} {
		first := ask(t, plane, "POST", path, body, "Idempotency-Key", "of "+path)
		second := ask(t, plane, "POST", path, body, "Idempotency-Key", "of "+path)
		if first.status != http.StatusOK || second.status != http.StatusOK || string(first.body) != string(second.body) {
			t.Errorf("%s:\n%d %s\n%d %s", path, first.status, first.body, second.status, second.body)
		}
		if second.header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("%s was carried out twice", path)
		}
		if tag := first.header.Get("ETag"); tag == "" || second.header.Get("ETag") != tag {
			t.Errorf("%s: ETag %q, repeated %q", path, tag, second.header.Get("ETag"))
		}
	}
	if got := ask(t, plane, "POST", "/api/groups", `{"name":"other"}`, "Idempotency-Key", "another"); got.status != http.StatusOK {
		t.Errorf("another key: %d %s", got.status, got.body)
	}
	if got := ask(t, plane, "POST", "/api/groups", `{"name":"third"}`, "Idempotency-Key", "another"); got.status < 400 || got.status >= 500 {
		t.Errorf("the same key for another request: %d %s", got.status, got.body)
	}
	// A refusal is not kept: its cause may go away.
	for range 2 {
		if got := ask(t, plane, "POST", "/api/groups", `{"name":""}`, "Idempotency-Key", "refused"); got.problem(t).Status != http.StatusUnprocessableEntity {
			t.Errorf("refusal: %d", got.status)
		}
	}
	if got := ask(t, plane, "POST", "/api/groups", `{"name":"x"}`, "Idempotency-Key", strings.Repeat("k", 129)); got.problem(t).Status != http.StatusUnprocessableEntity {
		t.Errorf("huge key: %d", got.status)
	}
}

// An ordinary caller sees its own account, whatever it asks for.
func TestAccountOfOrdinaryCallersIsTheirOwn(t *testing.T) {
	plane := controlplanetest.New(t)
	created(t, plane, "/api/groups", `{"name":"web"}`)
	own := ask(t, plane, "GET", "/api/groups", "")
	for _, account := range []string{"none", "", plane.AccountID} {
		if got := ask(t, plane, "GET", "/api/groups?account="+account, ""); got.status != http.StatusOK || string(got.body) != string(own.body) {
			t.Errorf("account %q: %d %s", account, got.status, got.body)
		}
	}
	group := created(t, plane, "/api/groups?account=none&strict=true", `{"name":"db"}`)
	if got := ask(t, plane, "GET", "/api/groups/"+group, ""); got.status != http.StatusOK {
		t.Errorf("made with ?account= and not in the own account: %d", got.status)
	}
}

func TestAuditNamesTheWayAndTheRequest(t *testing.T) {
	plane := controlplanetest.New(t)
	for managedBy, channel := range map[string]string{"terraform": "terraform", "": "api", "nonsense": "api"} {
		id := "request-" + channel + "-" + managedBy
		if got := ask(t, plane, "POST", "/api/groups", `{"name":"by `+managedBy+`"}`, "X-Managed-By", managedBy, "X-Request-ID", id); got.status != http.StatusOK {
			t.Fatalf("%d %s", got.status, got.body)
		}
		var events []api.AuditEvent
		if err := json.Unmarshal(ask(t, plane, "GET", "/api/events/audit?limit=1", "").body, &events); err != nil || len(events) != 1 {
			t.Fatalf("%d events, %v", len(events), err)
		}
		if got := events[0]; string(got.Channel) != channel || got.RequestId != id || got.InitiatorId != plane.OwnerID {
			t.Errorf("%+v", got)
		}
	}
}

func TestObjectInUseNamesWhatUsesIt(t *testing.T) {
	plane := controlplanetest.New(t)
	group := created(t, plane, "/api/groups", `{"name":"web"}`)
	policy := created(t, plane, "/api/policies", `{"name":"p","rules":[{"name":"r","sources":["`+group+`"],"destinations":["`+group+`"]}]}`)
	got := ask(t, plane, "DELETE", "/api/groups/"+group, "")
	p := got.problem(t)
	if got.status != http.StatusBadRequest || !strings.HasPrefix(p.Message, "group has been linked to") || p.Referrers == nil || (*p.Referrers)[0].Id != policy {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestAgentsHalfOfTheContract(t *testing.T) {
	plane := controlplanetest.New(t)
	machine := controlplanetest.NewMachine(t, plane)
	as := func(method, path, body string) answer {
		t.Helper()
		return ask(t, plane, method, path, body, "Authorization", machine.Authorization(t))
	}
	facts := `"facts":{"hostname":"renamed","os":"linux","arch":"arm64","kernel_version":"6","agent_version":"2"}`
	if got := as("POST", "/agent/v1/status", `{`+facts+`}`); got.status != http.StatusOK {
		t.Errorf("report: %d %s", got.status, got.body)
	}
	got := ask(t, plane, "GET", "/api/peers/"+machine.PeerID, "")
	expect(t, "peer", got.body, "hostname", "renamed")
	if got := as("POST", "/agent/v1/status", `{}`); got.problem(t).Status != http.StatusUnprocessableEntity {
		t.Errorf("report without facts: %d", got.status)
	}
	if got := as("GET", "/agent/v1/blobs/"+strings.Repeat("0", 64), ""); got.problem(t).Status != http.StatusNotFound {
		t.Errorf("unknown blob: %d", got.status)
	}
	other := controlplanetest.NewMachine(t, plane)
	if got := as("POST", "/agent/v1/signal", `{"to":"`+other.PeerID+`","box":"aGVsbG8="}`); got.problem(t).Type != api.ProblemPeerOffline {
		t.Errorf("signal to nobody: %d %s", got.status, got.body)
	}
	if got := as("GET", "/agent/v1/stream?digest=short", ""); got.problem(t).Status != http.StatusUnprocessableEntity {
		t.Errorf("bad digest: %d", got.status)
	}
	if got := as("GET", "/api/groups", ""); got.problem(t).Status != http.StatusUnauthorized {
		t.Errorf("an agent at the users' door: %d", got.status)
	}
	if got := as("DELETE", "/agent/v1/peer", ""); got.status != http.StatusOK {
		t.Errorf("withdraw: %d %s", got.status, got.body)
	}
	if got := as("POST", "/agent/v1/status", `{`+facts+`}`); got.problem(t).Status != http.StatusUnauthorized {
		t.Errorf("a removed machine: %d", got.status)
	}
}

func TestStreamBeginsWithHelloAndCarriesSignals(t *testing.T) {
	plane := controlplanetest.New(t)
	sender, receiver := controlplanetest.NewMachine(t, plane), controlplanetest.NewMachine(t, plane)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, plane.URL+"/agent/v1/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", receiver.Authorization(t))
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	lines := bufio.NewScanner(response.Body)
	next := func() map[string]any {
		t.Helper()
		if !lines.Scan() {
			t.Fatalf("the stream ended: %v", lines.Err())
		}
		var event map[string]any
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			t.Fatal(err)
		}
		return event
	}
	if hello := next(); hello["type"] != "hello" || hello["api"] != 1.0 {
		t.Fatalf("first line: %v", hello)
	}
	for event := next(); event["type"] != "caught_up"; event = next() {
	}
	got := ask(t, plane, "POST", "/agent/v1/signal", `{"to":"`+receiver.PeerID+`","box":"aGVsbG8="}`, "Authorization", sender.Authorization(t))
	if got.status != http.StatusOK {
		t.Fatalf("signal: %d %s", got.status, got.body)
	}
	event := next()
	for event["type"] == "delta" || event["type"] == "caught_up" {
		event = next()
	}
	if event["type"] != "signal" || event["from"] != sender.PeerID || event["box"] != "aGVsbG8=" {
		t.Errorf("%v", event)
	}
}

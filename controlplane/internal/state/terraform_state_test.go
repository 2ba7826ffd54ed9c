package state

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/generated/api"
)

func content(serial int, lineage, text string) string {
	return fmt.Sprintf(`{"version":4,"serial":%d,"lineage":%q,"outputs":{"x":{"value":%q}}}`, serial, lineage, text)
}

func (f *fixture) put(name, text, lock string) (api.TerraformStateVersion, error) {
	f.t.Helper()
	return f.PutTerraformState(f.t.Context(), f.owner, name, strings.NewReader(text), lock)
}

func TestStateVersionsFollowEachOther(t *testing.T) {
	f := fresh(t)
	if _, err := f.GetTerraformState(t.Context(), f.owner, "net"); err == nil {
		t.Fatal("a state that nobody wrote is there")
	}
	first := must(f.put("net", content(1, "a", "one"), ""))(t)
	again := must(f.put("net", content(1, "a", "one"), ""))(t)
	if first.Version != 1 || again.Version != 1 {
		t.Errorf("the same bytes twice make versions %d and %d", first.Version, again.Version)
	}
	for name, text := range map[string]string{
		"same serial, other bytes": content(1, "a", "two"), "older": content(0, "a", "zero"), "other lineage": content(9, "b", "one"),
	} {
		if _, err := f.put("net", text, ""); err == nil {
			t.Errorf("%s: accepted", name)
		} else {
			refused(t, err, problem.KindSerial, "", "state has")
		}
	}
	for _, text := range []string{"", "null", "[]", "{", `{"serial":1}`, `{"serial":-1,"lineage":"a"}`, `{"serial":"1","lineage":"a"}`} {
		_, err := f.put("net", text, "")
		refused(t, err, problem.KindMalformed, "", "no Terraform state")
	}
	must(f.put("net", content(2, "a", "two"), ""))(t)
	got := must(f.GetTerraformState(t.Context(), f.owner, "net"))(t)
	if string(got) != content(2, "a", "two") {
		t.Errorf("read %s", got)
	}
	must(f.put("other.name_1", content(1, "b", "x"), ""))(t)
	if list := must(f.ListTerraformStates(t.Context(), f.owner))(t); len(list) != 2 || list[0].Name != "net" || list[0].Serial != 2 || list[0].Lock != nil {
		t.Errorf("%+v", list)
	}
	for _, name := range []string{"", ".", "..", "a/b", "-x", strings.Repeat("x", 129), "ü"} {
		_, err := f.put(name, content(1, "a", ""), "")
		refused(t, err, problem.KindInvalid, "state_name", "must begin")
	}
}

func TestOldStateComesBackAboveAll(t *testing.T) {
	f := fresh(t)
	for i := range 3 {
		must(f.put("net", content(i+1, "a", fmt.Sprint(i+1)), ""))(t)
	}
	restored := must(f.RestoreTerraformState(t.Context(), f.owner, "net", 1, ""))(t)
	if restored.Version != 4 || restored.Serial != 4 {
		t.Errorf("restored as %+v", restored)
	}
	if got := must(f.GetTerraformState(t.Context(), f.owner, "net"))(t); !bytes.Contains(got, []byte(`"value": "1"`)) {
		t.Errorf("restored %s", got)
	}
	if old := must(f.GetTerraformStateVersion(t.Context(), f.owner, "net", 3))(t); string(old) != content(3, "a", "3") {
		t.Errorf("version 3 is %s", old)
	}
	_, err := f.put("net", content(4, "a", "from a plan before"), "")
	refused(t, err, problem.KindSerial, "", "plan again")
	for _, none := range []int64{-1, 0, 5} {
		_, err := f.GetTerraformStateVersion(t.Context(), f.owner, "net", none)
		refused(t, err, problem.KindNotFound, "", "not found")
	}
}

func TestStateVersionsAreBounded(t *testing.T) {
	f := fresh(t)
	for i := range keptStateVersions + 3 {
		must(f.put("net", content(i+1, "a", ""), ""))(t)
	}
	versions := must(f.ListTerraformStateVersions(t.Context(), f.owner, "net"))(t)
	if len(versions) != keptStateVersions || versions[0].Version != keptStateVersions+3 || versions[len(versions)-1].Version != 4 {
		t.Errorf("%d versions from %d to %d", len(versions), versions[len(versions)-1].Version, versions[0].Version)
	}
	if err := f.DeleteTerraformState(t.Context(), f.owner, "net", ""); err != nil {
		t.Fatal(err)
	}
	refused(t, f.DeleteTerraformState(t.Context(), f.owner, "net", ""), problem.KindNotFound, "", "not found")
	if v := must(f.put("net", content(1, "b", ""), ""))(t); v.Version != 1 {
		t.Errorf("a new state begins with version %d", v.Version)
	}
}

func TestStateIsLocked(t *testing.T) {
	f := fresh(t)
	who, operation := "anna@laptop", "OperationTypeApply"
	lock := api.TerraformLock{ID: "one", Who: &who, Operation: &operation}
	other := api.TerraformLock{ID: "two"}
	for range 2 { // a repeated request is no second lock
		must(f.LockTerraformState(t.Context(), f.owner, "net", lock))(t)
	}
	_, err := f.LockTerraformState(t.Context(), f.owner, "net", other)
	refused(t, err, problem.KindLocked, "", "locked by anna@laptop (OperationTypeApply) with the lock one")
	if held, ok := errors.AsType[*problem.Problem](err); !ok || held.Members.(*api.TerraformLock).ID != "one" {
		t.Errorf("%v does not tell the lock", err)
	}
	for _, wrong := range []string{"", "two"} {
		_, err := f.put("net", content(1, "a", ""), wrong)
		refused(t, err, problem.KindLocked, "", "anna@laptop")
	}
	must(f.put("net", content(1, "a", ""), "one"))(t)
	refused(t, f.DeleteTerraformState(t.Context(), f.owner, "net", ""), problem.KindLocked, "", "anna@laptop")
	_, err = f.RestoreTerraformState(t.Context(), f.owner, "net", 1, "")
	refused(t, err, problem.KindLocked, "", "anna@laptop")
	refused(t, f.UnlockTerraformState(t.Context(), f.owner, "net", "two"), problem.KindLocked, "", "anna@laptop")

	// The lock outlives the process.
	f.State = must(New(t.Context(), f.cfg))(t)
	if list := must(f.ListTerraformStates(t.Context(), f.owner))(t); len(list) != 1 || list[0].Lock == nil || list[0].Lock.ID != "one" {
		t.Errorf("after a restart: %+v", list)
	}
	for range 2 {
		if err := f.UnlockTerraformState(t.Context(), f.owner, "net", "one"); err != nil {
			t.Fatal(err)
		}
	}
	must(f.LockTerraformState(t.Context(), f.owner, "net", other))(t)
	if err := f.UnlockTerraformState(t.Context(), f.owner, "net", ""); err != nil {
		t.Fatal(err)
	}
	must(f.LockTerraformState(t.Context(), f.owner, "empty", other))(t)
	if err := f.UnlockTerraformState(t.Context(), f.owner, "empty", "two"); err != nil {
		t.Fatal(err)
	}
	if list := must(f.ListTerraformStates(t.Context(), f.owner))(t); len(list) != 1 || list[0].Lock != nil {
		t.Errorf("in the end: %+v", list)
	}
	events, _, err := f.ListAuditEvents(t.Context(), f.owner, api.ListAuditEventsParams{})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, event := range events {
		seen[event.ActivityCode]++
	}
	for code, want := range map[string]int{
		"terraform-state.write": 1, "terraform-state.lock": 3, "terraform-state.unlock": 2, "terraform-state.force-unlock": 1,
	} {
		if seen[code] != want {
			t.Errorf("%d events %s, want %d", seen[code], code, want)
		}
	}
}

func TestStateIsSealedAndAuditedWithoutContent(t *testing.T) {
	f := fresh(t)
	const secret = "a-very-secret-password"
	must(f.put("net", content(1, "a", secret), ""))(t)
	events := must(f.auditText())(t)
	if !strings.Contains(events, "terraform-state.write") || strings.Contains(events, secret) {
		t.Error(events)
	}
	files, err := filepath.Glob(filepath.Join(f.dir, "control.db*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(raw, []byte(secret)) {
			t.Errorf("%s holds the state in clear", filepath.Base(file))
		}
	}
}

func (f *fixture) auditText() (string, error) {
	events, _, err := f.ListAuditEvents(f.t.Context(), f.owner, api.ListAuditEventsParams{})
	text := ""
	for _, event := range events {
		text += event.ActivityCode + " "
		for _, side := range []*map[string]any{event.Before, event.After} {
			if side != nil {
				text += fmt.Sprint(*side)
			}
		}
	}
	return text, err
}

func TestStateIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: moves 64 MiB")
	}
	f := fresh(t)
	head, tail := `{"serial":1,"lineage":"a","x":"`, `"}`
	whole := head + strings.Repeat("x", MaxTerraformState-len(head)-len(tail)) + tail
	must(f.put("net", whole, ""))(t)
	if got := must(f.GetTerraformState(t.Context(), f.owner, "net"))(t); string(got) != whole {
		t.Errorf("read %d bytes of %d", len(got), len(whole))
	}
	_, err := f.put("net", whole+" ", "")
	refused(t, err, problem.KindTooLarge, "", "at most 64 MiB")
}

func TestCloudInitSaysWhatIsMissing(t *testing.T) {
	f := fresh(t)
	ask := func(change func(*api.CloudInitRequest)) (api.CloudInit, error) {
		install := api.CloudInitRequestInstallBinary
		req := api.CloudInitRequest{Install: &install, SetupKey: orNull("wtk_x"), AgentUrl: orNull("https://d.example/wattle"), AgentSha256: orNull(strings.Repeat("a", 64))}
		change(&req)
		return f.RenderCloudInit(t.Context(), req)
	}
	whole := must(ask(func(*api.CloudInitRequest) {}))(t)
	if whole.ManagementUrl != "https://wattle.test" || !strings.HasPrefix(whole.UserData, "#cloud-config\n") {
		t.Errorf("%+v", whole)
	}
	none, pack := api.CloudInitRequestInstallNone, api.CloudInitRequestInstallPackage
	for field, change := range map[string]func(*api.CloudInitRequest){
		"agent_url":    func(r *api.CloudInitRequest) { r.AgentUrl = orNull("") },
		"agent_sha256": func(r *api.CloudInitRequest) { r.AgentSha256 = orNull("") },
	} {
		_, err := ask(change)
		refused(t, err, problem.KindInvalid, field, "must say")
	}
	_, err := ask(func(r *api.CloudInitRequest) { r.Install = &none })
	refused(t, err, problem.KindInvalid, "agent_url", "has no use")
	_, err = ask(func(r *api.CloudInitRequest) { r.Install = &pack })
	refused(t, err, problem.KindInvalid, "agent_url", "must end with")
	_, err = ask(func(r *api.CloudInitRequest) { r.SetupKeyFile = orNull("/run/key") })
	if err == nil {
		t.Error("a key and a file of a key at once")
	}
}

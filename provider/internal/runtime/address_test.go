package runtime

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wattlenet/wattle/generated/terraform"
)

func TestParseImport(t *testing.T) {
	top := &terraform.Noun{Key: "id", Lookup: []string{"name"}}
	child := &terraform.Noun{Key: "id", Lookup: []string{"name"}, Parents: []string{"group_id"}}
	type parsed struct {
		Parents          []string
		ID, Field, Value string
	}
	for _, c := range []struct {
		noun *terraform.Noun
		id   string
		want parsed
		says string // of the error
	}{
		{top, "g1", parsed{[]string{}, "g1", "", ""}, ""},
		{top, "name=web", parsed{[]string{}, "", "name", "web"}, ""},
		{top, "name=a/b=c", parsed{[]string{}, "", "name", "a/b=c"}, ""},
		{top, "colour=red", parsed{}, "by colour, by which none is looked up: write it as ID or name=VALUE"},
		{top, "", parsed{}, "empty part"},
		{child, "g1/p1", parsed{[]string{"g1"}, "p1", "", ""}, ""},
		{child, "g1/name=a/b", parsed{[]string{"g1"}, "", "name", "a/b"}, ""},
		{child, "p1", parsed{}, "GROUP_ID/ID or GROUP_ID/name=VALUE"},
		{child, "/p1", parsed{}, "empty part"},
	} {
		parents, id, field, value, err := parseImport(c.noun, c.id)
		if c.says != "" {
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%q: error %v, want ... %s ...", c.id, err, c.says)
			}
			continue
		}
		if diff := cmp.Diff(c.want, parsed{parents, id, field, value}); err != nil || diff != "" {
			t.Errorf("%q: %v %s", c.id, err, diff)
		}
	}
}

func FuzzParseImport(f *testing.F) {
	f.Add("a/name=b")
	noun := &terraform.Noun{Key: "id", Lookup: []string{"name"}, Parents: []string{"group_id"}}
	f.Fuzz(func(t *testing.T, id string) {
		parents, key, field, _, err := parseImport(noun, id)
		if err == nil && (len(parents) != 1 || (key == "") == (field == "")) {
			t.Errorf("%q: parents %q, key %q, field %q", id, parents, key, field)
		}
	})
}

package conformance

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	tfstate "github.com/hashicorp/terraform-plugin-testing/terraform"

	"github.com/wattlenet/wattle/generated/terraform"
)

// imports take the object in by its id and by each field that looks it up: the
// state is that of the object that was made, and a plan with an import block
// changes nothing.
func (s *subject) imports(values map[string]string) (steps []resource.TestStep) {
	if s.Key == "" {
		return nil
	}
	for _, field := range append([]string{s.Key}, s.Lookup...) {
		if field != s.Key && values[field] == "" {
			continue
		}
		steps = append(steps, resource.TestStep{
			ImportStateVerifyIgnore:              s.shown(values),
			ResourceName:                         s.address(),
			ImportState:                          true,
			ImportStateVerify:                    true,
			ImportStateVerifyIdentifierAttribute: s.Key,
			ImportStateIdFunc:                    s.importID(field),
		})
	}
	return append(steps, resource.TestStep{
		ResourceName:      s.address(),
		ImportState:       true,
		ImportStateKind:   resource.ImportBlockWithID,
		ImportStateIdFunc: s.importID(s.Key),
	})
}

// shown are the optIn attributes that the values leave out. What the object has
// of them, an import shows and a create does not.
func (s *subject) shown(values map[string]string) (names []string) {
	for _, a := range s.Attributes {
		if a.OptIn && values[a.Name] == "" {
			names = append(names, a.Name)
		}
	}
	return names
}

// importID is what names the object by its id or by a field that looks it up.
func (s *subject) importID(field string) resource.ImportStateIdFunc {
	return func(state *tfstate.State) (string, error) {
		it := state.RootModule().Resources[s.address()]
		if it == nil {
			return "", fmt.Errorf("%s is not in the state", s.address())
		}
		var parts []string
		for _, p := range s.Parents {
			parts = append(parts, it.Primary.Attributes[p])
		}
		last := it.Primary.Attributes[field]
		if field != s.Key {
			last = field + "=" + last
		}
		return strings.Join(append(parts, last), "/"), nil
	}
}

// itemPath is the path of the object.
func (s *subject) itemPath(state *tfstate.State) (string, error) {
	it := state.RootModule().Resources[s.address()]
	if it == nil {
		return "", fmt.Errorf("%s is not in the state", s.address())
	}
	path := s.Path
	for _, p := range s.Parents {
		path = strings.ReplaceAll(path, "{"+p+"}", url.PathEscape(it.Primary.Attributes[p]))
	}
	return path + "/" + url.PathEscape(it.Primary.Attributes[s.Key]), nil
}

// testMany: six objects are read by three single requests and one list, and
// both ways give the same state.
func (s *subject) testMany(t *testing.T) {
	if s.minimal()["name"] == "" {
		t.Skip("SKIPPED: objects without a name cannot be multiplied")
	}
	values := s.minimal()
	values["count"] = "6"
	s.number(values, "${count.index}")
	config := s.config(values)
	var before int
	s.test(t,
		resource.TestStep{Config: config},
		resource.TestStep{PreConfig: func() { before = s.proxy.count() }, Config: config, PlanOnly: true},
	)
	lists, items := 0, 0
	for _, r := range s.proxy.since(before) {
		path, _, _ := strings.Cut(r.uri, "?")
		switch {
		case strings.Contains(r.uri, "dry_run="): // the end of the test, which previews the destruction
		case r.method != http.MethodGet || !sameFolder(s.Path, path):
		case strings.Count(path, "/") == strings.Count(s.Path, "/"):
			lists++
		default:
			items++
		}
	}
	// Terraform refreshes and plans in one process: never more than the first
	// three ask for themselves.
	if lists == 0 || items > 3 {
		t.Errorf("%d lists and %d single reads, want the list after three single reads", lists, items)
	}
}

// sameFolder reports whether path lies at or below the pattern.
func sameFolder(pattern, path string) bool {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	for i, part := range want {
		if i >= len(got) || !strings.HasPrefix(part, "{") && part != got[i] {
			return false
		}
	}
	return true
}

// dataSources find the object by its id and by each field that looks it up,
// and in the list.
func (s *subject) dataSources() (more []string, check resource.TestCheckFunc) {
	var checks []resource.TestCheckFunc
	var parents strings.Builder
	for _, p := range s.Parents {
		fmt.Fprintf(&parents, "  %s = %s.%s\n", p, s.address(), p)
	}
	if s.Key == "" {
		return []string{fmt.Sprintf("data %q \"one\" {\n  depends_on = [%s]\n}\n", s.Type, s.address())}, nil
	}
	fields := []string{s.Key}
	for _, f := range s.Lookup {
		if s.minimal()[f] != "" {
			fields = append(fields, f)
		}
	}
	for i, f := range fields {
		more = append(more, fmt.Sprintf("data %q \"by%d\" {\n%s  %s = %s.%s\n  depends_on = [%s]\n}\n", s.Type, i, parents.String(), f, s.address(), f, s.address()))
		checks = append(checks, resource.TestCheckResourceAttrPair(fmt.Sprintf("data.%s.by%d", s.Type, i), s.Key, s.address(), s.Key))
	}
	list := terraform.ProviderName + "_" + s.Plural
	more = append(more, fmt.Sprintf("data %q \"all\" {\n%s  depends_on = [%s]\n}\n", list, parents.String(), s.address()))
	checks = append(checks, resource.TestCheckResourceAttrWith("data."+list+".all", s.Plural+".#", func(n string) error {
		if n == "0" {
			return fmt.Errorf("the list is empty")
		}
		return nil
	}))
	return more, resource.ComposeAggregateTestCheckFunc(checks...)
}

package main

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// The kinds of noun.
const (
	kindCollection = "collection" // POST makes one, DELETE removes it
	kindSingleton  = "singleton"  // always there: GET, and PUT or PATCH
	kindAdopted    = "adopted"    // comes by itself: no POST
	kindData       = "data"       // only read
	kindRendered   = "rendered"   // POST answers with a value that nobody keeps: a data source with arguments
)

// noun is what x-terraform-resource declares: a resource, its data sources and
// the operations behind them, found by their paths.
type noun struct {
	Name, Go, Type string // setup_key, SetupKey, wattle_setup_key
	Plural         string // setup_keys
	Kind           string
	Doc            string
	Path, ItemPath string
	Lookup         []string
	Version        int64
	Gone           []string     // attributes of released contracts that nothing replaces
	Parents        []*attribute // path parameters before the last
	Key            string       // attribute that holds the id; empty for singletons
	KeyField       string       // Go field of the object that holds it
	Object         string       // Go type of the answer to GET
	CreateObject   string       // Go type of the answer to POST, a superset of Object
	CreateBody     string
	UpdateBody     string
	Create, Read   *operation
	Update, Delete *operation
	List           *operation
	Referrers      *operation   // what refers to an object; nil where nobody can ask
	Resource       []*attribute // sorted by name
	Data           []*attribute
	Secrets        []*attribute // secret: create
	WriteOnly      []*attribute // secret: write
	OneOf          [][]string
	AtMostOneOf    [][]string
	AtLeastOneOf   [][]string
	Example        map[string]any   // see exampleValue
	Examples       []map[string]any // further ones, see others
	Revision       bool
	Shared         []shared // fields of CreateObject that Object has too
	schema         *openapi3.Schema
	pointer        string
}

// newNouns finds every noun of the contract with its operations and attributes.
func newNouns(m *model) ([]*noun, error) {
	r := &reporter{doc: m.doc}
	var out []*noun
	for _, name := range slices.Sorted(maps.Keys(m.doc.spec.Components.Schemas)) {
		s := m.doc.spec.Components.Schemas[name].Value
		if ext, ok := s.Extensions["x-terraform-resource"].(map[string]any); ok {
			if n := m.noun(r, name, s, ext); n != nil {
				out = append(out, n)
			}
		}
	}
	slices.SortFunc(out, func(a, b *noun) int { return strings.Compare(a.Name, b.Name) })
	if err := r.err(); err != nil {
		return nil, err
	}
	return out, nil
}

func (m *model) noun(r *reporter, object string, s *openapi3.Schema, ext map[string]any) *noun {
	pointer := "/components/schemas/" + object + "/x-terraform-resource"
	n := &noun{Object: goName(object), Doc: s.Description, Kind: kindCollection, schema: s, pointer: pointer}
	n.Name, _ = ext["name"].(string)
	n.Path, _ = ext["path"].(string)
	if n.Name == "" || n.Path == "" {
		r.add(pointer, "noun", "needs name and path")
		return nil
	}
	n.Go, n.Type, n.Plural = goName(n.Name), m.Provider+"_"+n.Name, plural(n.Name)
	if kind, ok := ext["kind"].(string); ok {
		n.Kind = kind
	}
	if ext["only"] == "data" {
		n.Kind = kindData
	}
	if v, ok := ext["version"].(float64); ok {
		n.Version = int64(v)
	}
	n.Gone = formerNames(ext["was"])
	for _, l := range anyStrings(ext["lookup"]) {
		n.Lookup = append(n.Lookup, snake(l))
	}
	if !m.findOperations(r, n) {
		return nil
	}
	m.attributes(r, n)
	n.checkRenames(r)
	return n
}

// findOperations finds the operations by path and method and refuses missing
// and surplus ones.
func (m *model) findOperations(r *reporter, n *noun) bool {
	before := len(r.list)
	at := func(path, method string) *operation {
		for _, o := range m.Operations {
			if o.Path == path && o.Method == method {
				return o
			}
		}
		return nil
	}
	if m.doc.spec.Paths.Value(n.Path) == nil {
		r.add(n.pointer+"/path", "noun", "path %s is not in the contract", n.Path)
		return false
	}
	want := map[string]**operation{}
	var forbidden []string
	switch n.Kind {
	case kindSingleton:
		want["GET "+n.Path], want[singletonUpdate(m.doc.spec.Paths.Value(n.Path))+" "+n.Path] = &n.Read, &n.Update
		n.Delete = at(n.Path, http.MethodDelete) // back to the defaults, where the contract has it
		forbidden = []string{"POST " + n.Path}
	case kindRendered:
		want["POST "+n.Path] = &n.Create
		forbidden = []string{"GET " + n.Path, "PUT " + n.Path, "PATCH " + n.Path, "DELETE " + n.Path}
	default:
		for path := range m.doc.spec.Paths.Map() {
			rest, ok := strings.CutPrefix(path, n.Path+"/{")
			if ok && strings.Count(rest, "}") == 1 && strings.HasSuffix(rest, "}") {
				n.ItemPath = path
			}
		}
		if n.ItemPath == "" {
			r.add(n.pointer+"/path", "noun", "no item path %s/{id} in the contract", n.Path)
			return false
		}
		want["GET "+n.Path], want["GET "+n.ItemPath] = &n.List, &n.Read
		switch n.Kind {
		case kindCollection:
			want["POST "+n.Path], want["DELETE "+n.ItemPath] = &n.Create, &n.Delete
			n.Update = at(n.ItemPath, http.MethodPut)
		case kindAdopted:
			want["PUT "+n.ItemPath], want["DELETE "+n.ItemPath] = &n.Update, &n.Delete
			forbidden = []string{"POST " + n.Path}
		}
		n.Referrers = at(n.ItemPath+"/referrers", http.MethodGet)
		forbidden = append(forbidden, "PATCH "+n.ItemPath, "PATCH "+n.Path, "PUT "+n.Path, "DELETE "+n.Path)
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		method, path, _ := strings.Cut(key, " ")
		if *want[key] = at(path, method); *want[key] == nil {
			r.add("/paths/"+escapePointer(path), "noun", "%s needs %s %s", n.Name, method, path)
		}
	}
	for _, key := range forbidden {
		method, path, _ := strings.Cut(key, " ")
		if o := at(path, method); o != nil {
			r.add(o.pointer, "noun", "%s is a %s noun: %s %s has no place", n.Name, n.Kind, method, path)
		}
	}
	return len(r.list) == before
}

// singletonUpdate is how a singleton is changed: replaced by PUT where the contract has it, else merged by PATCH.
func singletonUpdate(item *openapi3.PathItem) string {
	if item.Put != nil {
		return http.MethodPut
	}
	return http.MethodPatch
}

func bodySchema(o *operation) *openapi3.Schema {
	if o.op.RequestBody == nil {
		return nil
	}
	for _, c := range o.op.RequestBody.Value.Content {
		return c.Schema.Value
	}
	return nil
}

func attributeName(wire string, p *openapi3.SchemaRef) string {
	if p != nil {
		if name, ok := hints(p.Value)["name"].(string); ok {
			return name
		}
	}
	return snake(wire)
}

func anyStrings(v any) []string {
	list, _ := v.([]any)
	var out []string
	for _, x := range list {
		out = append(out, fmt.Sprint(x))
	}
	return out
}

func plural(s string) string {
	switch {
	case strings.HasSuffix(s, "y") && !strings.HasSuffix(s, "ey"):
		return strings.TrimSuffix(s, "y") + "ies"
	case strings.HasSuffix(s, "s"), strings.HasSuffix(s, "x"), strings.HasSuffix(s, "ch"):
		return s + "es"
	}
	return s + "s"
}

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

// shared is a field of two Go structs, and the type that turns one into the
// other; empty when they are the same.
type shared struct{ Name, As string }

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

// attributes decides the attributes of the resource and of the data sources.
func (m *model) attributes(r *reporter, n *noun) {
	var create, update *openapi3.Schema
	if n.Create != nil {
		n.CreateBody, n.CreateObject = n.Create.Body, n.Create.Result.Type
		create = bodySchema(n.Create)
	}
	if n.Update != nil {
		n.UpdateBody = n.Update.Body
		update = bodySchema(n.Update)
	}
	request := create
	if request == nil {
		request = update
	}
	if n.ItemPath != "" {
		params := pathParams(n.ItemPath)
		for _, p := range params[:len(params)-1] {
			n.Parents = append(n.Parents, m.parent(n, p))
		}
		n.Key = "id"
		if n.schema.Properties["id"] == nil {
			n.Key = params[len(params)-1]
		}
		n.KeyField = m.types.fields[n.Object][n.Key].Name
		if n.KeyField == "" {
			r.add(n.pointer, "noun", "the object has neither id nor %s", n.Key)
		}
	}
	n.Revision = m.types.fields[n.Object]["object_version"].Type == "int64" || m.types.fields[n.Object]["version"].Type == "int64"
	tree := m.tree(r, "/components/schemas/", side{request, n.CreateBody, n.UpdateBody}, n.schema, n.Object)
	if request == nil && n.UpdateBody != "" {
		tree = m.tree(r, "/components/schemas/", side{update, "", n.UpdateBody}, n.schema, n.Object)
	}
	if request != nil {
		n.OneOf, n.AtMostOneOf, n.AtLeastOneOf = eitherSets(request)
		for _, wire := range slices.Sorted(maps.Keys(request.Properties)) {
			if p := request.Properties[wire]; isFlat(p) {
				one, most, least := eitherSets(p.Value)
				n.OneOf, n.AtMostOneOf, n.AtLeastOneOf = append(n.OneOf, one...), append(n.AtMostOneOf, most...), append(n.AtLeastOneOf, least...)
			}
		}
		n.Example, _ = request.Example.(map[string]any)
		for _, more := range request.Examples {
			if example, ok := more.(map[string]any); ok {
				n.Examples = append(n.Examples, example)
			}
		}
	}
	noteSets(tree, n.OneOf, n.AtMostOneOf, n.AtLeastOneOf)
	n.Data = n.dataAttributes(tree)
	if n.Kind == kindRendered {
		n.Data = renderedAttributes(tree)
	}
	n.Resource = n.resourceAttributes(tree, update)
	if n.CreateObject != "" && n.CreateObject != n.Object {
		m.createObject(r, n)
	}
	for _, a := range n.Resource {
		switch a.Secret {
		case "create":
			n.Secrets = append(n.Secrets, a)
		case "write":
			n.WriteOnly = append(n.WriteOnly, a)
		}
	}
}

func (m *model) parent(n *noun, name string) *attribute {
	a := &attribute{Name: name, Wire: name, Go: goName(name), Kind: "string", Mode: required, Immutable: true, Parent: true}
	a.References = strings.TrimSuffix(name, "_id")
	a.Description = fmt.Sprintf("The id of the %s.", strings.ReplaceAll(a.References, "_", " "))
	if p := n.schema.Properties[name]; p != nil {
		a.Description = p.Value.Description
		if noun, ok := hints(p.Value)["references"].(string); ok {
			a.References = noun
		}
	}
	return a
}

// createObject finds the secret of a POST answer that is a superset of the
// object, and which fields the two share.
func (m *model) createObject(r *reporter, n *noun) {
	created := m.doc.spec.Components.Schemas[n.CreateObject]
	for wire, f := range m.types.fields[n.CreateObject] {
		switch back := m.types.fields[n.Object][wire]; {
		case back.Name == "":
		case back.Type == f.Type:
			n.Shared = append(n.Shared, shared{Name: f.Name})
			continue
		case m.types.named[f.Type] != "" && m.types.named[f.Type] == m.types.named[back.Type]: // an enum written twice
			n.Shared = append(n.Shared, shared{Name: f.Name, As: "api." + back.Type})
			continue
		default:
			r.add(n.pointer, "R4", "%s of %s and of %s are not of one type", wire, n.CreateObject, n.Object)
			continue
		}
		if created == nil {
			continue
		}
		p := created.Value.Properties[wire]
		if a := m.leaf(wire, p, nil); a.Secret == "create" {
			a.Kind = "string"
			a.Object = f
			n.Resource = append(n.Resource, secretPair(a)...)
		}
	}
	slices.SortFunc(n.Shared, func(a, b shared) int { return strings.Compare(a.Name, b.Name) })
	sortAttributes(n.Resource)
}

// dataAttributes is everything that can be read.
func (n *noun) dataAttributes(tree []*attribute) []*attribute {
	var out []*attribute
	for _, p := range n.Parents {
		q := *p
		out = append(out, &q)
	}
	for _, a := range tree {
		if a.Secret != "" || a.Object.Name == "" || has(out, a.Name) {
			continue
		}
		b := a.forData()
		if a.Wire == n.Key || slices.Contains(n.Lookup, a.Name) {
			b.Mode = optionalComputed
		}
		out = append(out, b)
	}
	sortAttributes(out)
	return out
}

// renderedAttributes is the request of a rendered noun as arguments, and what
// its answer adds. A secret stands in the state of whoever asks, marked sensitive.
func renderedAttributes(tree []*attribute) []*attribute {
	var out []*attribute
	for _, a := range tree {
		b := *a
		b.Sensitive, b.Secret, b.Immutable = a.Secret != "", "", false
		if b.Mode == optional && b.HasDefault && b.Default != nil {
			b.Mode = optionalComputed
		}
		out = append(out, &b)
	}
	return out
}

// resourceAttributes is what a resource manages or shows: no volatile values,
// each secret with its switch.
func (n *noun) resourceAttributes(tree []*attribute, update *openapi3.Schema) []*attribute {
	if n.Kind == kindData || n.Kind == kindRendered {
		return nil
	}
	out := slices.Clone(n.Parents)
	for _, a := range tree {
		if a.Volatile || has(out, a.Name) {
			continue
		}
		a = a.forResource()
		if n.Update == nil && a.Mode != computed || update != nil && n.Create != nil && a.Mode != computed && a.Create.Name != "" && a.Update.Name == "" {
			a.Immutable = true
		}
		a.Restored = n.Kind == kindSingleton && a.OptIn && isNullable(a.schema)
		switch {
		case a.Secret == "create":
			out = append(out, secretPair(a)...)
			continue
		case a.Secret == "write":
			out = append(out, writeOnlyPair(a)...)
			continue
		case n.Kind == kindAdopted && a.Name == n.Key:
			a.Mode, a.Immutable = required, true
			a.References = n.Name
		}
		out = append(out, a)
	}
	if n.Kind == kindAdopted {
		out = append(out, &attribute{
			Name: "deregister_on_destroy", Go: "DeregisterOnDestroy", Kind: "bool", Mode: optional, HasDefault: true, Default: false, Synthetic: true,
			Description: "Whether destroying the resource removes the " + n.Name + " itself; otherwise it is only forgotten.",
		})
	}
	sortAttributes(out)
	return out
}

// secretPair is a secret shown by create and the visible switch that lets it
// into the state.
func secretPair(a *attribute) []*attribute {
	s := *a
	s.Mode, s.Sensitive, s.Secret = computed, true, "create"
	s.Description = oneline(s.Description) + " Null unless `" + s.Name + "_in_state` is true, and after an import."
	prefer := " Prefer the ephemeral resource, which keeps it out."
	if s.Lasting {
		prefer = ""
	}
	sw := &attribute{
		Name: s.Name + "_in_state", Go: goName(s.Name) + "InState", Kind: "bool", Mode: optional, HasDefault: true, Default: false,
		Immutable: true, Synthetic: true,
		Description: "Whether the secret may stand in the state." + prefer,
	}
	s.Switch = sw.Go
	for _, was := range s.Was {
		sw.Was = append(sw.Was, was+"_in_state")
	}
	return []*attribute{&s, sw}
}

// writeOnlyPair is a secret that is only ever sent, and the number whose
// change sends it again.
func writeOnlyPair(a *attribute) []*attribute {
	w := *a
	w.Name, w.Go = a.Name+"_wo", goName(a.Name)+"Wo"
	w.Mode, w.Sensitive, w.WriteOnly, w.HasDefault = optional, true, true, false
	w.Description = oneline(w.Description) + " It is never stored in plan or state (write-only, Terraform 1.11)."
	v := &attribute{
		Name: w.Name + "_version", Go: w.Go + "Version", Kind: "int64", Mode: optional, Synthetic: true,
		Description: "Change it to send `" + w.Name + "` again.",
	}
	w.Switch, w.Was = v.Go, nil // it never stood in a state
	for _, was := range a.Was {
		v.Was = append(v.Was, was+"_wo_version")
	}
	return []*attribute{&w, v}
}

// Ephemeral reports whether the noun also exists for one run only: it has a
// secret, and an object that ends with the run is of use.
func (n *noun) Ephemeral() bool {
	return n.Resource != nil && slices.ContainsFunc(n.Secrets, func(a *attribute) bool { return !a.Lasting })
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

func eitherSets(s *openapi3.Schema) (oneOf, atMost, atLeast [][]string) {
	name := func(sets [][]string) [][]string {
		for _, set := range sets {
			for i, wire := range set {
				set[i] = attributeName(wire, s.Properties[wire])
			}
		}
		return sets
	}
	atLeast = name(leastSets(s))
	for _, set := range atLeast {
		slices.Sort(set)
	}
	return name(stringLists(hints(s)["oneOf"])), name(stringLists(hints(s)["atMostOneOf"])), atLeast
}

// noteSets has attributes say which of them exclude or need each other.
func noteSets(list []*attribute, oneOf, atMost, atLeast [][]string) {
	for _, rule := range []struct {
		words, verb string
		sets        [][]string
	}{{"Exactly one", "must", oneOf}, {"At most one", "may", atMost}, {"At least one", "must", atLeast}} {
		for _, set := range rule.sets {
			sentence := rule.words + " of `" + strings.Join(set, "`, `") + "` " + rule.verb + " be set."
			for _, a := range list {
				if slices.Contains(set, a.Name) && !slices.Contains(a.Sets, sentence) { // a flattened object has said it
					a.Sets = append(a.Sets, sentence)
				}
			}
		}
	}
}

// leastSets are the properties of which minProperties wants one.
func leastSets(s *openapi3.Schema) [][]string {
	if s.MinProps == 0 {
		return nil
	}
	return [][]string{slices.Sorted(maps.Keys(s.Properties))}
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

func has(list []*attribute, name string) bool {
	return slices.ContainsFunc(list, func(a *attribute) bool { return a.Name == name })
}

func sortAttributes(list []*attribute) {
	slices.SortFunc(list, func(a, b *attribute) int { return strings.Compare(a.Name, b.Name) })
}

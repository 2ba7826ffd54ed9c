package main

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

func itoa(i int) string { return strconv.Itoa(i) }

// longestSet is the number of elements from which sets cost Terraform
// noticeably: the price grows with the square.
const longestSet = 256

// lintNoun is a noun while it is checked: schemas with their places.
type lintNoun struct {
	name, object    string
	schema          *openapi3.Schema
	kind            string
	post, put, get  *openapi3.Operation
	list            *openapi3.Operation
	postAt, putAt   string
	create, update  string // component names
	hasReplace      bool
	createS, upateS *openapi3.Schema
}

// nouns is what holds for nouns: R1, R2, R4, R6, R7, R8, R11.
func (l *linter) nouns() {
	for _, name := range slices.Sorted(maps.Keys(l.doc.spec.Components.Schemas)) {
		s := l.doc.spec.Components.Schemas[name].Value
		ext, ok := s.Extensions["x-terraform-resource"].(map[string]any)
		if !ok {
			continue
		}
		if !l.placed(name, ext) {
			continue
		}
		n := l.noun(name, s, ext)
		l.answers(n)
		l.readable(n)
		if n.create != "" {
			l.request(n, n.create, n.createS, s, false)
		}
		if n.update != "" && n.update != n.create {
			l.request(n, n.update, n.upateS, s, n.create != "")
		}
		l.immutable(n)
	}
}

// flattened is what holds for objects whose members stand in their place: the
// object must be there always, and its members need names of their own.
func (l *linter) flattened(at, name string, s *openapi3.Schema) {
	if hints(s)["flatten"] == true && (!schemaIs(s, "object") || len(s.Properties) == 0) {
		l.add(at+"/x-terraform/flatten", "R12", "%s is no object with properties: there is nothing to flatten", name)
	}
	for _, wire := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[wire]
		here := at + "/properties/" + escapePointer(wire)
		if l.doc.has(here + "/x-terraform/flatten") {
			l.add(here+"/x-terraform/flatten", "R12", "%s.%s: flatten stands on the component of the object", name, wire)
			continue
		}
		inner := notNull(p)
		if inner.Value.Items != nil {
			inner = notNull(inner.Value.Items)
		}
		switch {
		case !isFlat(inner):
			continue
		case p.Ref == "" || !slices.Contains(s.Required, wire):
			l.add(here, "R1", "%s.%s is flattened: make it required, neither null nor in a collection, so that its members have a place on the wire", name, wire)
		case !l.topLevel(name):
			l.add(here, "R12", "%s.%s is flattened: that works at the top of a noun only", name, wire)
		}
		for _, member := range slices.Sorted(maps.Keys(inner.Value.Properties)) {
			if s.Properties[member] != nil {
				l.add(here, "R12", "%s of %s.%s would stand beside %s.%s: name one of them differently", member, name, wire, name, member)
			}
		}
	}
}

// topLevel reports whether a schema is a noun, or the body of its creation or change.
func (l *linter) topLevel(name string) bool {
	for object, s := range l.doc.spec.Components.Schemas {
		if ext, ok := s.Value.Extensions["x-terraform-resource"].(map[string]any); ok {
			if n := l.noun(object, s.Value, ext); object == name || n.create == name || n.update == name {
				return true
			}
		}
	}
	return false
}

// placed refuses a noun that does not say what it is called and where it is.
func (l *linter) placed(object string, ext map[string]any) bool {
	at := "/components/schemas/" + object + "/x-terraform-resource"
	name, _ := ext["name"].(string)
	path, _ := ext["path"].(string)
	switch {
	case name == "" || path == "":
		l.add(at, "noun", "needs name and path")
	case l.doc.spec.Paths.Value(path) == nil:
		l.add(at+"/path", "noun", "path %s is not in the contract", path)
	default:
		return true
	}
	return false
}

func (l *linter) noun(object string, s *openapi3.Schema, ext map[string]any) *lintNoun {
	n := &lintNoun{object: object, schema: s}
	n.name, _ = ext["name"].(string)
	n.kind, _ = ext["kind"].(string)
	path, _ := ext["path"].(string)
	at := "/components/schemas/" + object + "/x-terraform-resource/kind"
	if n.kind != "" && n.kind != kindSingleton && n.kind != kindAdopted && n.kind != kindRendered {
		l.add(at, "R12", "kind %s is none of singleton, adopted and rendered", n.kind)
	}
	for p, item := range l.doc.spec.Paths.Map() {
		base := "/paths/" + escapePointer(p)
		rest, child := strings.CutPrefix(p, path+"/{")
		switch {
		case p == path && n.kind == kindSingleton:
			method := singletonUpdate(item)
			n.get, n.put, n.putAt = item.Get, item.GetOperation(method), base+"/"+strings.ToLower(method)
		case p == path:
			n.list, n.post, n.postAt = item.Get, item.Post, base+"/post"
		case child && strings.Count(rest, "}") == 1 && strings.HasSuffix(rest, "}"):
			n.get, n.put, n.putAt = item.Get, item.Put, base+"/put"
		}
	}
	n.create, n.createS = requestSchema(n.post)
	n.update, n.upateS = requestSchema(n.put)
	n.hasReplace = n.put != nil
	return n
}

func requestSchema(op *openapi3.Operation) (string, *openapi3.Schema) {
	if op == nil || op.RequestBody == nil {
		return "", nil
	}
	for _, c := range op.RequestBody.Value.Content {
		if c.Schema != nil && c.Schema.Ref != "" {
			return refName(c.Schema.Ref), c.Schema.Value
		}
	}
	return "", nil
}

func answerSchema(op *openapi3.Operation) (string, *openapi3.Schema) {
	if op == nil {
		return "", nil
	}
	if r := op.Responses.Value("200"); r != nil {
		for _, c := range r.Value.Content {
			s := c.Schema
			if s != nil && s.Value.Type.Is("array") {
				s = s.Value.Items
			}
			if s != nil && s.Ref != "" {
				return refName(s.Ref), s.Value
			}
		}
	}
	return "", nil
}

// answers is R4: one schema for all answers. The answer of POST may have more
// than that, for a secret that is shown once.
func (l *linter) answers(n *lintNoun) {
	for what, op := range map[string]*openapi3.Operation{"GET": n.get, "LIST": n.list, http.MethodPut: n.put} {
		if name, _ := answerSchema(op); op != nil && name != n.object {
			l.add("/components/schemas/"+n.object+"/x-terraform-resource", "R4", "%s of %s answers %s, not %s", what, n.name, named(name), n.object)
		}
	}
	if n.post == nil {
		return
	}
	name, s := answerSchema(n.post)
	if s == nil {
		l.add(n.postAt, "R4", "POST of %s does not answer %s", n.name, n.object)
		return
	}
	for wire, p := range n.schema.Properties {
		if q := s.Properties[wire]; q == nil || q.Value.Type != nil && p.Value.Type != nil && !slices.Equal(*q.Value.Type, *p.Value.Type) {
			l.add(n.postAt, "R4", "POST of %s answers %s, which lacks %s of %s", n.name, name, wire, n.object)
		}
	}
}

func named(s string) string {
	if s == "" {
		return "no component"
	}
	return s
}

// readable is R2 and R7 for what a noun shows.
func (l *linter) readable(n *lintNoun) {
	for _, wire := range slices.Sorted(maps.Keys(n.schema.Properties)) {
		p := n.schema.Properties[wire]
		at := "/components/schemas/" + n.object + "/properties/" + escapePointer(wire)
		h := hints(p.Value)
		if h["volatile"] == true && !p.Value.ReadOnly {
			l.add(at, "R2", "%s.%s is volatile and must be readOnly", n.object, wire)
		}
		requestable := n.createS != nil && n.createS.Properties[wire] != nil || n.upateS != nil && n.upateS.Properties[wire] != nil
		if !p.Value.ReadOnly && !requestable && !isPathParam(n, wire) && len(n.schema.Properties) > 0 {
			l.add(at, "R2", "%s.%s is in no request and must be readOnly", n.object, wire)
		}
		if h["secret"] == "write" || (secretName(wire) && h["secret"] == nil) {
			l.add(at, "R7", "%s.%s is a secret in an answer: mark it secret: create, or leave it out", n.object, wire)
		}
	}
}

func isPathParam(n *lintNoun, wire string) bool {
	ext, _ := n.schema.Extensions["x-terraform-resource"].(map[string]any)
	path, _ := ext["path"].(string)
	return slices.Contains(pathParams(path), wire)
}

// secretName reports names that only secrets have.
func secretName(wire string) bool {
	for _, end := range []string{"password", "secret", "private_key", "plain_token"} {
		if strings.HasSuffix(wire, end) {
			return true
		}
	}
	return false
}

// request is R1, R4, R7, R8 and R11 for what a noun accepts. In the body of an
// update beside a different create, what is left out is decided by create.
func (l *linter) request(n *lintNoun, body string, s, object *openapi3.Schema, partial bool) {
	for _, wire := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[wire]
		at := "/components/schemas/" + body + "/properties/" + escapePointer(wire)
		what := body + "." + wire
		l.presence(at, what, p, slices.Contains(s.Required, wire), partial)
		l.size(at, what, p)
		h := hints(p.Value)
		if h["computed"] == true && h["immutable"] != true {
			l.add(at, "R6", "%s is computed and must be immutable", what)
		}
		if secretName(wire) && h["secret"] != "write" {
			l.add(at, "R7", "%s is a secret: mark it secret: write", what)
		}
		if h["secret"] == "write" {
			continue
		}
		back := object.Properties[wire]
		if back == nil {
			l.add(at, "R4", "%s is accepted and %s does not show it", what, n.object)
			continue
		}
		l.inner(at, notNull(p).Value, notNull(back).Value)
	}
}

// presence is R1.
func (l *linter) presence(at, what string, p *openapi3.SchemaRef, required, partial bool) {
	s, h := p.Value, hints(p.Value)
	if h["volatile"] == true {
		return
	}
	var ways []string
	for way, is := range map[string]bool{
		"required": required, "default": s.Default != nil, "optIn": h["optIn"] == true,
		"computed": h["computed"] == true, "nullable": isNullable(s) && h["optIn"] != true && h["secret"] == nil,
		"secret": h["secret"] == "write",
	} {
		if is {
			ways = append(ways, way)
		}
	}
	slices.Sort(ways)
	switch {
	case len(ways) == 0:
		l.add(at, "R1", "%s is optional and nothing says what its absence means: make it required, give a default, let it be null, or mark it optIn or computed", what)
	case len(ways) > 1 && (!required || h["secret"] != "write"):
		l.add(at, "R1", "%s is %s at once: choose one", what, strings.Join(ways, " and "))
	}
	inner := notNull(p).Value
	if !schemaIs(inner, "array") || h["optIn"] == true || partial && required {
		return
	}
	if isNullable(s) && inner.MinItems < 1 {
		l.add(at, "R1", "%s is a nullable array and needs minItems: 1, so that empty and null are not two spellings of one thing", what)
	}
}

// size is R11.
func (l *linter) size(at, what string, p *openapi3.SchemaRef) {
	s := notNull(p).Value
	if !schemaIs(s, "array") {
		return
	}
	limit, limited := hints(p.Value)["limit"].(float64)
	switch {
	case s.MaxItems == nil:
		l.add(at, "R11", "%s needs maxItems", what)
	case *s.MaxItems > longestSet && (!limited || limit > longestSet):
		l.add(at, "R11", "%s allows %d elements: give maxItems or x-terraform limit of at most %d", what, *s.MaxItems, longestSet)
	}
}

// inner is R8, and R1 inside collections and objects.
func (l *linter) inner(at string, in, back *openapi3.Schema) {
	collection := schemaIs(in, "array")
	if collection {
		if in.Items == nil || back.Items == nil {
			return
		}
		if key, _ := hints(in)["key"].(string); key == "" && in.UniqueItems {
			l.setMembers(at, in.Items)
		}
		in, back = notNull(in.Items).Value, notNull(back.Items).Value
	}
	if !schemaIs(in, "object") || len(in.Properties) == 0 {
		return
	}
	for _, wire := range slices.Sorted(maps.Keys(in.Properties)) {
		p := in.Properties[wire]
		l.presence(at, wire+" inside "+at[strings.LastIndexByte(at, '/')+1:], p, slices.Contains(in.Required, wire), false)
		l.size(at, wire+" inside "+at[strings.LastIndexByte(at, '/')+1:], p)
		if collection && hints(p.Value)["computed"] == true {
			l.add(at, "R8", "%s is chosen by the server inside a collection", wire)
		}
	}
	for _, wire := range slices.Sorted(maps.Keys(back.Properties)) {
		q, mine := back.Properties[wire], in.Properties[wire]
		outer := hints(q.Value)["volatile"] == true || mine != nil && hints(mine.Value)["volatile"] == true
		if collection && mine == nil && q.Value.ReadOnly && !outer {
			l.add(at, "R8", "%s is made by the server inside a collection: mark it volatile, so that Terraform leaves it out", wire)
		}
	}
}

// setMembers refuses defaults inside the members of sets, where the framework
// does not keep them.
func (l *linter) setMembers(at string, items *openapi3.SchemaRef) {
	for wire, p := range notNull(items).Value.Properties {
		if p.Value.Default != nil {
			l.add(at, "R8", "%s has a default inside a set: key the collection, or make it required", wire)
		}
	}
}

// immutable is R6: what PUT does not take must be immutable in POST.
func (l *linter) immutable(n *lintNoun) {
	if n.createS == nil || n.kind != "" {
		return
	}
	for _, wire := range slices.Sorted(maps.Keys(n.createS.Properties)) {
		p := n.createS.Properties[wire]
		if hints(p.Value)["immutable"] == true || hints(p.Value)["volatile"] == true {
			continue
		}
		at := "/components/schemas/" + n.create + "/properties/" + escapePointer(wire)
		switch {
		case !n.hasReplace:
			l.add(at, "R6", "%s.%s cannot be changed, since there is no PUT: mark it immutable", n.create, wire)
		case n.upateS != nil && n.upateS.Properties[wire] == nil:
			l.add(at, "R6", "%s.%s is not in %s: mark it immutable", n.create, wire, n.update)
		}
	}
}

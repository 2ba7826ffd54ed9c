package main

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"github.com/getkin/kin-openapi/openapi3"
)

// model is the contract as the templates see it: checked, sorted, with every
// name decided.
type model struct {
	config
	doc   *document
	types *goTypes

	Operations []*operation
	Problems   []problemKind
	Roles      []role
	Bodies     []*body // schemas that occur in requests
	Params     []*body // query and header parameters of operations
	Versions   []versioned
	Managed    []versioned
	Nouns      []*noun
	Actions    []*action
}

// operation is one method on one path.
type operation struct {
	ID, Method, Path string
	Doc              string
	Permission       string // noun:action, anonymous, self or agent
	Credential       string // none, user or agent
	Writes           bool   // false for GET and HEAD
	NamesOthers      bool   // the answer holds names of other objects, which change without it
	PathParams       []param
	Query            []param
	Preview          *preview // how it can be tried; nil when it cannot
	Headers          []param
	Body             string // Go type of the request body, empty without one
	BodyPlain        bool   // the body is not JSON: an io.Reader
	Result           result
	op               *openapi3.Operation
	item             *openapi3.PathItem
	pointer          string
}

// preview is the parameter that makes an operation a trial, and what a trial answers.
type preview struct{ Wire, Schema, Media string }

// Previewed is the Go type of what a trial answers; empty when nothing can be tried.
func (m *model) Previewed() string {
	for _, o := range m.Operations {
		if o.Preview != nil {
			return o.Preview.Schema
		}
	}
	return ""
}

// param is a path, query or header parameter.
type param struct {
	Wire, Go, Var, Type, Doc string
	List, Required           bool
	Zeroable                 bool // the zero value means something else than absence
}

// result is what a successful answer carries.
type result struct {
	Kind string // none, object, list, stream or bytes
	Type string // Go type of the object, the item or the event
}

// problemKind is one entry of x-problems.
type problemKind struct {
	Value, Name, Title, Doc string
	Status                  int
}

// versioned is a schema that carries the number its ETag is made of.
type versioned struct{ Name, Field string }

type role struct {
	Name        string
	Permissions []string
}

func newModel(c config, doc *document, types *goTypes) (*model, error) {
	m := &model{config: c, doc: doc, types: types}
	for _, path := range slices.Sorted(maps.Keys(doc.spec.Paths.Map())) {
		item := doc.spec.Paths.Value(path)
		ops := item.Operations()
		for _, method := range slices.Sorted(maps.Keys(ops)) {
			m.Operations = append(m.Operations, m.operation(path, method, item, ops[method]))
		}
	}
	slices.SortFunc(m.Operations, func(a, b *operation) int { return strings.Compare(a.ID, b.ID) })
	m.findNaming()
	m.Problems = problemKinds(doc.spec)
	m.Roles = roles(doc.spec)
	m.Bodies = m.bodies()
	m.Params = m.params()
	m.Versions = m.versions()
	m.Managed = m.managed()
	nouns, err := newNouns(m)
	if err != nil {
		return nil, err
	}
	m.Nouns = nouns
	m.Actions = newActions(m)
	return m, nil
}

func (m *model) operation(path, method string, item *openapi3.PathItem, op *openapi3.Operation) *operation {
	o := &operation{
		ID: goName(op.OperationID), Method: method, Path: path,
		Doc:    op.Description,
		Writes: method != http.MethodGet && method != http.MethodHead,
		op:     op, item: item,
		pointer: "/paths/" + escapePointer(path) + "/" + strings.ToLower(method),
	}
	if o.Doc == "" {
		o.Doc = op.Summary
	}
	o.Permission, _ = op.Extensions["x-permission"].(string)
	switch o.Permission {
	case "anonymous":
		o.Credential = "none"
	case "agent":
		o.Credential = "agent"
	default:
		o.Credential = "user"
	}
	if op.Security != nil && len(*op.Security) == 0 {
		o.Credential = "none"
	}
	var all []*openapi3.ParameterRef
	all = append(all, item.Parameters...)
	all = append(all, op.Parameters...)
	for _, ref := range all {
		o.param(ref.Value)
	}
	order := map[string]int{}
	for i, name := range pathParams(path) {
		order[name] = i
	}
	slices.SortFunc(o.PathParams, func(a, b param) int { return order[a.Wire] - order[b.Wire] })
	m.body(o)
	o.Result = m.result(o)
	return o
}

func (o *operation) param(p *openapi3.Parameter) {
	x := param{Wire: p.Name, Go: goName(p.Name), Var: varName(p.Name), Doc: p.Description, Required: p.Required}
	if p.Schema != nil {
		x.Type = scalarType(p.Schema.Value)
		v := p.Schema.Value
		x.Zeroable = x.Type != "string" && (v.Min == nil || *v.Min <= 0) && fmt.Sprint(v.Default) != "0" && fmt.Sprint(v.Default) != "false"
		if p.Schema.Value.Type.Is("array") {
			x.Zeroable = false
			x.List = true
			x.Type = "[]" + scalarType(p.Schema.Value.Items.Value)
		}
	}
	switch p.In {
	case "path":
		x.Type = "string"
		o.PathParams = append(o.PathParams, x)
	case "query":
		if p.Extensions["x-handled-by"] == "preview" {
			o.Preview = &preview{Wire: p.Name, Schema: promised(p, "schema"), Media: promised(p, "type")}
			return
		}
		o.Query = append(o.Query, x)
	case "header":
		o.Headers = append(o.Headers, x)
	}
}

// promised is a member of what a parameter makes the operation answer.
func promised(p *openapi3.Parameter, member string) string {
	answers, _ := p.Extensions["x-answers"].(map[string]any)
	text, _ := answers[member].(string)
	return text
}

// scalarType is the Go type of a parameter's value.
func scalarType(s *openapi3.Schema) string {
	switch {
	case s.Type.Is("integer"):
		return "int64"
	case s.Type.Is("number"):
		return "float64"
	case s.Type.Is("boolean"):
		return "bool"
	}
	return "string"
}

func (m *model) body(o *operation) {
	if o.op.RequestBody == nil || o.op.RequestBody.Value == nil {
		return
	}
	for kind, content := range o.op.RequestBody.Value.Content {
		switch {
		case !strings.Contains(kind, "json"):
			o.BodyPlain = true
		case content.Schema.Ref != "":
			o.Body = refName(content.Schema.Ref)
		default:
			o.Body = o.ID + "JSONRequestBody"
		}
	}
}

func (m *model) result(o *operation) result {
	for _, status := range slices.Sorted(maps.Keys(o.op.Responses.Map())) {
		if !strings.HasPrefix(status, "2") {
			continue
		}
		for kind, content := range o.op.Responses.Value(status).Value.Content {
			if content.Schema == nil {
				return result{Kind: "bytes"}
			}
			s := content.Schema
			switch {
			case kind == "application/x-ndjson" && s.Ref != "":
				return result{Kind: "stream", Type: refName(s.Ref)}
			case !strings.Contains(kind, "json"):
				return result{Kind: "bytes"}
			case s.Ref != "" && m.types.fields[goName(refName(s.Ref))] == nil:
				return result{Kind: "none"} // an object without properties
			case s.Ref != "":
				return result{Kind: "object", Type: goName(refName(s.Ref))}
			case s.Value.Type.Is("array") && s.Value.Items.Ref != "":
				return result{Kind: "list", Type: goName(refName(s.Value.Items.Ref))}
			case len(s.Value.Properties) == 0:
				return result{Kind: "none"}
			default:
				return result{Kind: "object", Type: o.ID + status + "JSONResponse"}
			}
		}
	}
	return result{Kind: "none"}
}

// Paged reports whether the operation answers with a list in pages.
func (o *operation) Paged() bool {
	return o.Result.Kind == "list" && slices.ContainsFunc(o.Query, func(p param) bool { return p.Wire == "cursor" })
}

// Iterator is the name of the SDK's iterator over a list: ListGroups -> Groups.
func (o *operation) Iterator() string { return strings.TrimPrefix(o.ID, "List") }

// Filters are the query parameters a caller chooses; the place of a page is
// the iterator's business.
func (o *operation) Filters() []param {
	return slices.DeleteFunc(slices.Clone(o.Query), func(p param) bool { return p.Wire == "cursor" })
}

// BodyOptional reports whether the request may come without its JSON body.
func (o *operation) BodyOptional() bool { return o.Body != "" && !o.op.RequestBody.Value.Required }

// Conditional reports whether the operation takes If-None-Match.
func (o *operation) Conditional() bool {
	return slices.ContainsFunc(o.Headers, func(p param) bool { return http.CanonicalHeaderKey(p.Wire) == "If-None-Match" })
}

// findNaming marks the operations whose answer names other objects, where a reader
// may ask whether it changed.
func (m *model) findNaming() {
	named := map[string]bool{}
	for _, o := range m.Operations {
		if s := m.doc.spec.Components.Schemas[o.Result.Type]; o.Result.Kind == "object" && o.Conditional() && s != nil && namesOthers(s.Value) {
			named[o.Result.Type] = true
		}
	}
	for _, o := range m.Operations {
		o.NamesOthers = o.Result.Kind == "object" && named[o.Result.Type]
	}
}

// namesOthers reports whether an object shows others by their names: those are the
// components called something like GroupReference.
func namesOthers(s *openapi3.Schema) bool {
	for _, property := range s.Properties {
		inner := notNull(property)
		if inner.Value.Items != nil {
			inner = notNull(inner.Value.Items)
		}
		reference := strings.HasSuffix(refName(inner.Ref), "Reference") && inner.Value.Properties["name"] != nil
		if reference || inner.Ref != "" && namesOthers(inner.Value) {
			return true
		}
	}
	return false
}

// PathExpr is the Go expression of the request path.
func (o *operation) PathExpr() string {
	if len(o.PathParams) == 0 {
		return fmt.Sprintf("%q", o.Path)
	}
	var parts []string
	rest := o.Path
	for _, p := range o.PathParams {
		before, after, _ := strings.Cut(rest, "{"+p.Wire+"}")
		parts = append(parts, fmt.Sprintf("%q", before), "url.PathEscape("+p.Var+")")
		rest = after
	}
	if rest != "" {
		parts = append(parts, fmt.Sprintf("%q", rest))
	}
	return strings.Join(parts, " + ")
}

func pathParams(path string) []string {
	var out []string
	for part := range strings.SplitSeq(path, "{") {
		if name, _, ok := strings.Cut(part, "}"); ok {
			out = append(out, name)
		}
	}
	return out
}

// problemKinds reads x-problems: the kinds of error and what each one means.
func problemKinds(spec *openapi3.T) []problemKind {
	raw, _ := spec.Extensions["x-problems"].(map[string]any)
	var out []problemKind
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		kind := problemKind{Value: "/problems/" + name, Name: goName(name)}
		fields, _ := raw[name].(map[string]any)
		kind.Title, _ = fields["title"].(string)
		kind.Doc, _ = fields["description"].(string)
		if status, ok := fields["status"].(float64); ok {
			kind.Status = int(status)
		}
		out = append(out, kind)
	}
	return out
}

func roles(spec *openapi3.T) []role {
	raw, _ := spec.Extensions["x-roles"].(map[string]any)
	var out []role
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		r := role{Name: name}
		list, ok := raw[name].([]any)
		if nested, isMap := raw[name].(map[string]any); !ok && isMap {
			list, _ = nested["permissions"].([]any)
		}
		for _, p := range list {
			r.Permissions = append(r.Permissions, fmt.Sprint(p))
		}
		slices.Sort(r.Permissions)
		out = append(out, r)
	}
	return out
}

func refName(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }

// goName is the exported Go name of a wire name, as the type generator makes
// it: snake_case, kebab-case and dots become CamelCase.
func goName(s string) string {
	var b strings.Builder
	up := true
	for _, r := range s {
		if r == '_' || r == '-' || r == '.' || r == ' ' || r == ':' || r == '/' {
			up = true
			continue
		}
		if up {
			r = unicode.ToUpper(r)
			up = false
		}
		b.WriteRune(r)
	}
	return b.String()
}

// varName is the Go variable of a wire name.
func varName(s string) string {
	n := goName(s)
	n = strings.ToLower(n[:1]) + n[1:]
	if before, ok := strings.CutSuffix(n, "Id"); ok {
		n = before + "ID"
	}
	switch n {
	case "type", "range", "func", "map", "var", "package", "interface", "default":
		return n + "Value"
	}
	return n
}

// snake is the Terraform name of a wire name.
func snake(s string) string {
	var b strings.Builder
	for i, r := range s {
		if unicode.IsUpper(r) {
			if i > 0 {
				b.WriteByte('_')
			}
			r = unicode.ToLower(r)
		}
		b.WriteRune(r)
	}
	return strings.ReplaceAll(b.String(), "-", "_")
}

type permissionConst struct{ Go, Value string }

// PermissionConsts are the permissions that operations name, each once.
func (m *model) PermissionConsts() []permissionConst {
	seen := map[string]bool{}
	for _, o := range m.Operations {
		seen[o.Permission] = true
	}
	var out []permissionConst
	for _, p := range slices.Sorted(maps.Keys(seen)) {
		out = append(out, permissionConst{"Permission" + goName(strings.ReplaceAll(p, ":", "_")), p})
	}
	return out
}

// CredentialConst is the Go constant of the operation's credential.
func (o *operation) CredentialConst() string {
	return map[string]string{"none": "NoCredential", "user": "UserCredential", "agent": "AgentCredential"}[o.Credential]
}

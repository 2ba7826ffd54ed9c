package main

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// lint refuses a contract from which generated code would surprise: each rule
// has a number, its reasons stand in docs/ARCHITECTURE.md.
//
//	R1  a writable property is exactly one of required, default, nullable, optIn, computed
//	R2  what changes by itself is volatile, and what is volatile is read only
//	R3  an array says whether it is a set, a list or keyed
//	R4  GET, LIST item, POST and PUT answer with one schema; PUT replaces
//	R5  a value has one spelling
//	R6  what create alone accepts is immutable
//	R7  a secret is never a plain readable property
//	R8  nothing inside a collection is chosen by the server
//	R9  item operations declare 404, and 412 where If-Match is
//	R10 what changed since the last release is led on by was and a higher version
//	R11 a set has a largest size, at most 256 for Terraform
//	R12 everything has a description, operations a permission, problems a name
func lint(d *document) error {
	l := &linter{reporter: reporter{doc: d}}
	for _, s := range d.spec.Components.Schemas {
		ext, _ := s.Value.Extensions["x-terraform-resource"].(map[string]any)
		if name, ok := ext["name"].(string); ok {
			l.known = append(l.known, name)
		}
	}
	l.vocabulary()
	l.operations()
	l.problems()
	for _, name := range slices.Sorted(maps.Keys(d.spec.Components.Schemas)) {
		l.component(name, d.spec.Components.Schemas[name].Value)
	}
	l.nouns()
	return l.err()
}

type linter struct {
	reporter
	known   []string // names of nouns
	actions []string // names of actions so far
}

var (
	permission   = regexp.MustCompile(`^(anonymous|self|agent|[a-z][a-z_]*:(create|read|update|delete))$`)
	nounKeys     = []string{"kind", "lookup", "name", "only", "path", "version", "was"}
	propertyKeys = []string{
		"atMostOneOf", "computed", "flatten", "immutable", "key", "limit", "name", "oneOf", "optIn",
		"references", "secret", "volatile", "was",
	}
)

// vocabulary refuses words of the two extension keys that mean nothing.
func (l *linter) vocabulary() {
	for pointer := range l.doc.at {
		var known []string
		switch {
		case strings.HasSuffix(pointer, "/x-terraform-resource"):
			known = nounKeys
		case strings.HasSuffix(pointer, "/x-terraform"):
			known = propertyKeys
		default:
			continue
		}
		for _, key := range l.doc.keys(pointer) {
			if !slices.Contains(known, key) {
				l.add(pointer+"/"+key, "R12", "%s is no word of %s; known are %s", key, pointer[strings.LastIndexByte(pointer, '/')+1:], strings.Join(known, ", "))
			}
		}
	}
}

// described refuses a text that is no sentence.
func (l *linter) described(pointer, what, text string) {
	if len(strings.Fields(text)) == 0 || !strings.ContainsAny(text[len(strings.TrimRight(text, "`\"' )\n"))-1:], ".!?") {
		l.add(pointer, "R12", "%s needs a description of at least a sentence that ends with a full stop", what)
	}
}

func (l *linter) operations() {
	seen := map[string]string{}
	for _, path := range slices.Sorted(maps.Keys(l.doc.spec.Paths.Map())) {
		item := l.doc.spec.Paths.Value(path)
		base := "/paths/" + escapePointer(path)
		l.pathParameters(base, path, item)
		for method, op := range item.Operations() {
			at := base + "/" + strings.ToLower(method)
			if op.OperationID == "" {
				l.add(at, "R12", "%s %s needs an operationId", method, path)
			} else if other := seen[op.OperationID]; other != "" {
				l.add(at+"/operationId", "R12", "operationId %s is taken by %s", op.OperationID, other)
			}
			seen[op.OperationID] = method + " " + path
			l.described(at, method+" "+path, op.Description)
			l.permission(at, op)
			l.conditions(at, path, method, item, op)
			if ext, ok := op.Extensions["x-terraform-action"].(map[string]any); ok {
				l.lintAction(at, method, ext, op.RequestBody != nil)
			}
			for i, p := range op.Parameters {
				if p.Ref == "" {
					l.described(at+"/parameters/"+itoa(i), "parameter "+p.Value.Name, p.Value.Description)
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.doc.spec.Components.Parameters)) {
		l.described("/components/parameters/"+name, "parameter "+name, l.doc.spec.Components.Parameters[name].Value.Description)
	}
}

func (l *linter) permission(at string, op *openapi3.Operation) {
	value, ok := op.Extensions["x-permission"].(string)
	switch {
	case !ok:
		l.add(at, "R12", "%s names no permission: add x-permission", op.OperationID)
	case !permission.MatchString(value):
		l.add(at+"/x-permission", "R12", "permission %q is not noun:create, :read, :update or :delete, nor anonymous, self or agent", value)
	case (value == "anonymous") != (op.Security != nil && len(*op.Security) == 0):
		l.add(at, "R12", "%s: permission anonymous and security: [] go together", op.OperationID)
	}
}

func (l *linter) pathParameters(at, path string, item *openapi3.PathItem) {
	for _, name := range pathParams(path) {
		declared := func(list openapi3.Parameters) bool {
			return slices.ContainsFunc(list, func(p *openapi3.ParameterRef) bool { return p.Value.In == "path" && p.Value.Name == name })
		}
		missing := !declared(item.Parameters)
		for _, op := range item.Operations() {
			if missing && !declared(op.Parameters) {
				l.add(at, "R12", "path parameter %s is not declared", name)
				break
			}
		}
	}
}

// conditions is R9.
func (l *linter) conditions(at, path, method string, item *openapi3.PathItem, op *openapi3.Operation) {
	has := func(status string) bool { return op.Responses.Value(status) != nil }
	if strings.HasSuffix(path, "}") && !has("404") {
		l.add(at, "R9", "%s acts on an item and does not declare 404", op.OperationID)
	}
	var all openapi3.Parameters
	for _, p := range append(append(all, item.Parameters...), op.Parameters...) {
		if p.Value.Name == "If-Match" && !has("412") {
			l.add(at, "R9", "%s takes If-Match and does not declare 412", op.OperationID)
		}
	}
	if op.RequestBody != nil && method != http.MethodGet && !has("422") {
		l.add(at, "R9", "%s takes a body and does not declare 422", op.OperationID)
	}
}

// problems is the part of R12 about kinds of error.
func (l *linter) problems() {
	raw, _ := l.doc.spec.Extensions["x-problems"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		at := "/x-problems/" + name
		fields, _ := raw[name].(map[string]any)
		text, _ := fields["description"].(string)
		l.described(at, "problem "+name, text)
		if status, ok := fields["status"].(float64); !ok || status < 400 || status > 599 {
			l.add(at, "R12", "problem %s needs a status from 400 to 599", name)
		}
		if title, _ := fields["title"].(string); title == "" {
			l.add(at, "R12", "problem %s needs a title", name)
		}
	}
	for _, needed := range []string{"not-found", "conflict", "in-use", "invalid", "precondition-failed", "forbidden", "unauthenticated"} {
		if raw[needed] == nil {
			l.add("/x-problems", "R12", "problem %s is missing: SDK and provider tell it apart", needed)
		}
	}
}

// component is what holds for every schema, noun or not.
func (l *linter) component(name string, s *openapi3.Schema) {
	at := "/components/schemas/" + name
	l.described(at, "schema "+name, s.Description)
	for _, wire := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[wire]
		here := at + "/properties/" + escapePointer(wire)
		text := p.Value.Description
		if p.Ref != "" && l.doc.has(here+"/description") {
			text = l.doc.at[here+"/description"].Value
		}
		l.described(here, name+"."+wire, text)
		l.spelling(here, name+"."+wire, p.Value)
		if p.Ref == "" {
			l.array(here, name+"."+wire, p.Value)
		}
		if noun, ok := hints(p.Value)["references"].(string); ok && !slices.Contains(l.known, noun) {
			l.add(here+"/x-terraform/references", "noun", "%s.%s refers to %s, which is no noun of the contract", name, wire, noun)
		}
	}
	l.secrets(at, name, s)
	l.flattened(at, name, s)
	if s.MinProps > 1 {
		l.add(at+"/minProperties", "R1", "%s wants %d properties: only minProperties: 1 is known, at least one of them all", name, s.MinProps)
	}
	for rule, sets := range map[string][][]string{
		"oneOf": stringLists(hints(s)["oneOf"]), "atMostOneOf": stringLists(hints(s)["atMostOneOf"]), "minProperties": leastSets(s),
	} {
		for _, set := range sets {
			for _, wire := range set {
				if s.Properties[wire] == nil {
					l.add(at+"/x-terraform/"+rule, "R1", "%s names %s, which %s does not have", rule, wire, name)
				} else if v := s.Properties[wire].Value; !isNullable(v) && (rule == "minProperties" || v.Default != false) {
					l.add(at+"/properties/"+escapePointer(wire), "R1", "%s.%s stands in %s and must be nullable, or a switch that is off by default", name, wire, rule)
				}
			}
		}
	}
}

// secrets refuses kinds of secrets that mean nothing.
func (l *linter) secrets(at, name string, s *openapi3.Schema) {
	for _, wire := range slices.Sorted(maps.Keys(s.Properties)) {
		switch kind := hints(s.Properties[wire].Value)["secret"]; kind {
		case nil, "create", "lasting", "write":
		default:
			l.add(at+"/properties/"+escapePointer(wire)+"/x-terraform/secret", "R7", "%s.%s is a secret %v: known are create, lasting and write", name, wire, kind)
		}
	}
}

// array is R3.
func (l *linter) array(at, what string, s *openapi3.Schema) {
	if !schemaIs(s, "array") {
		return
	}
	keyed := hints(s)["key"] != nil
	if !l.doc.has(at+"/uniqueItems") && !keyed {
		l.add(at, "R3", "%s is an array: write uniqueItems: true for a set, uniqueItems: false where order matters, or x-terraform: {key: ...}", what)
	}
	if s.Items == nil || s.Items.Value == nil {
		l.add(at, "R3", "%s is an array without items", what)
		return
	}
	if key, ok := hints(s)["key"].(string); ok {
		f := s.Items.Value.Properties[key]
		if f == nil || !schemaIs(f.Value, "string") || !slices.Contains(s.Items.Value.Required, key) {
			l.add(at, "R3", "%s is keyed by %s, which must be a required string of its items", what, key)
		}
	}
}

var knownFormats = []string{"", "ipv4", "ipv6", "ip", "cidr", "hostname", "domain", "destination", "dns-name", "wildcard-dns-name", "uri", "email", "date-time", "instant", "int32", "int64", "uint32", "float", "double", "byte", "binary"}

// spelling is R5.
func (l *linter) spelling(at, what string, s *openapi3.Schema) {
	if !slices.Contains(knownFormats, s.Format) {
		l.add(at+"/format", "R5", "%s has format %s, for which no one spelling is known; known are %s", what, s.Format, strings.Join(knownFormats[1:], ", "))
	}
	if s.Pattern != "" {
		if _, err := regexp.Compile(s.Pattern); err != nil {
			l.add(at+"/pattern", "R5", "%s: %v", what, err)
		}
		if _, ok := s.Extensions["x-form"].(string); !ok {
			l.add(at+"/pattern", "R5", "%s has a pattern and does not say in words what it asks for: add x-form", what)
		}
	}
	if s.Items != nil && s.Items.Ref == "" {
		l.spelling(at+"/items", what+"[]", s.Items.Value)
	}
	if inner := s.AdditionalProperties.Schema; inner != nil && inner.Ref == "" {
		l.spelling(at+"/additionalProperties", what+"[]", inner.Value)
	}
	if len(s.OneOf) > 0 && s.Discriminator == nil && !isNullable(s) {
		l.add(at+"/oneOf", "R5", "%s uses oneOf, which makes unions: use x-terraform oneOf on the object, or anyOf with null", what)
	}
}

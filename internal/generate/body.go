package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// body is a schema that occurs in a request: what is checked and filled in
// before a handler sees it.
type body struct {
	Name     string
	Required []string // wire names that must be present and not null
	Nullable []string // wire names that may be null
	Checks   []string // Go statements of validate
	Defaults []string // Go statements of ApplyDefaults
	Closed   bool     // unknown members can be told
}

// bodies lists every schema that requests reach, sorted by name.
func (m *model) bodies() []*body {
	seen := map[string]*openapi3.Schema{}
	var reach func(ref *openapi3.SchemaRef)
	reach = func(ref *openapi3.SchemaRef) {
		if ref == nil || ref.Value == nil {
			return
		}
		if ref.Ref != "" {
			name := goName(refName(ref.Ref))
			if seen[name] != nil {
				return
			}
			if m.types.fields[name] != nil {
				seen[name] = ref.Value
			}
		}
		for _, p := range ref.Value.Properties {
			reach(p)
		}
		reach(ref.Value.Items)
		reach(ref.Value.AdditionalProperties.Schema)
		for _, list := range []openapi3.SchemaRefs{ref.Value.AnyOf, ref.Value.OneOf, ref.Value.AllOf} {
			for _, p := range list {
				reach(p)
			}
		}
	}
	for _, o := range m.Operations {
		if o.Body != "" && !o.BodyPlain {
			for _, c := range o.op.RequestBody.Value.Content {
				reach(c.Schema)
			}
		}
	}
	var out []*body
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		out = append(out, m.newBody(name, seen[name], seen))
	}
	return out
}

// params are the parameter structs that have something to check.
func (m *model) params() []*body {
	var out []*body
	for _, o := range m.Operations {
		b := &body{Name: o.ID + "Params"}
		var all openapi3.Parameters
		all = append(append(all, o.item.Parameters...), o.op.Parameters...)
		for _, p := range all {
			if f := m.types.fields[b.Name][p.Value.Name]; f.Name != "" && p.Value.In == "query" {
				b.check(p.Value.Name, f, p.Value.Schema, nil, false)
			}
		}
		if m.types.fields[b.Name] != nil {
			out = append(out, b)
		}
	}
	return out
}

// versions are the schemas with an object version: object_version, or version
// where that is a number.
func (m *model) versions() []versioned {
	var out []versioned
	for _, name := range slices.Sorted(maps.Keys(m.types.fields)) {
		for _, wire := range []string{"object_version", "version"} {
			if f := m.types.fields[name][wire]; f.Type == "int64" {
				out = append(out, versioned{name, f.Name})
				break
			}
		}
	}
	return out
}

func (m *model) newBody(name string, s *openapi3.Schema, all map[string]*openapi3.Schema) *body {
	b := &body{Name: name, Closed: s.AdditionalProperties.Schema == nil}
	b.Required = slices.Clone(s.Required)
	slices.Sort(b.Required)
	for _, wire := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[wire]
		if p.Value.ReadOnly {
			b.Required = slices.DeleteFunc(b.Required, func(x string) bool { return x == wire })
			continue
		}
		if isNullable(p.Value) {
			b.Nullable = append(b.Nullable, wire)
		}
		f := m.types.fields[name][wire]
		if f.Name == "" {
			continue
		}
		b.check(wire, f, p, all, slices.Contains(s.Required, wire))
		b.fill(f, p, all)
	}
	for _, rule := range []string{"oneOf", "atMostOneOf"} {
		for _, set := range stringLists(hints(s)[rule]) {
			b.eitherOr(rule, set, m.types.fields[name])
		}
	}
	for _, set := range leastSets(s) {
		b.eitherOr("minProperties", set, m.types.fields[name])
	}
	return b
}

// check appends the statements that validate one property.
func (b *body) check(wire string, f goField, p *openapi3.SchemaRef, all map[string]*openapi3.Schema, required bool) {
	lines := valueChecks("at+"+strconv.Quote(wire), "v", f.Type, p, all, 0)
	if required && strings.HasPrefix(f.Type, "[]") {
		lines = append([]string{fmt.Sprintf("f.present(at+%q, v != nil)", wire)}, lines...)
	}
	if len(lines) == 0 {
		return
	}
	switch {
	case strings.HasPrefix(f.Type, "*"):
		b.Checks = append(b.Checks, fmt.Sprintf("if r.%s != nil {\nv := *r.%s\n%s\n}", f.Name, f.Name, strings.Join(lines, "\n")))
	case strings.HasPrefix(f.Type, "nullable."):
		b.Checks = append(b.Checks, fmt.Sprintf("if v, err := r.%s.Get(); err == nil {\n%s\n}", f.Name, strings.Join(lines, "\n")))
	default:
		b.Checks = append(b.Checks, fmt.Sprintf("{\nv := r.%s\n%s\n}", f.Name, strings.Join(lines, "\n")))
	}
}

// valueChecks are the statements that validate the value called v of schema p,
// whose field path is the Go expression at.
func valueChecks(at, v, typ string, p *openapi3.SchemaRef, all map[string]*openapi3.Schema, depth int) []string {
	p = notNull(p)
	s := p.Value
	if p.Ref != "" && all[goName(refName(p.Ref))] != nil {
		return []string{fmt.Sprintf("%s.validate(%s+\".\", f)", v, at)}
	}
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	switch {
	case schemaIs(s, "string") && !strings.HasSuffix(typ, "time.Time"):
		if len(s.Enum) > 0 {
			say("f.oneOf(%s, string(%s), %s)", at, v, quotedList(s.Enum))
		}
		if s.MinLength > 0 || s.MaxLength != nil {
			say("f.length(%s, string(%s), %d, %s)", at, v, s.MinLength, limit(s.MaxLength))
		}
		if s.Pattern != "" {
			say("f.pattern(%s, string(%s), %q, %q)", at, v, s.Pattern, form(s))
		}
		if s.Format != "" && s.Format != "date-time" && s.Format != "byte" && s.Format != "binary" {
			say("f.format(%s, string(%s), %q)", at, v, s.Format)
		}
	case schemaIs(s, "integer") || schemaIs(s, "number"):
		if s.Min != nil {
			say("f.atLeast(%s, float64(%s), %v)", at, v, *s.Min)
		}
		if s.Max != nil {
			say("f.atMost(%s, float64(%s), %s)", at, v, strconv.FormatFloat(*s.Max, 'f', -1, 64))
		}
	case schemaIs(s, "array"):
		if s.MinItems > 0 || s.MaxItems != nil {
			say("f.items(%s, len(%s), %d, %s)", at, v, s.MinItems, limit(s.MaxItems))
		}
		elem := notNull(s.Items)
		if s.UniqueItems && !schemaIs(elem.Value, "object") {
			say("unique(f, %s, %s)", at, v)
		}
		if key, _ := hints(s)["key"].(string); key != "" {
			say("uniqueKey(f, %s, %q, %s, func(x %s) string { return string(x.%s) })", at, key, v, strings.TrimPrefix(strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(typ, "*"), "nullable.Nullable["), "]"), "[]"), goName(key))
		}
		index := "i" + strconv.Itoa(depth)
		inner := valueChecks("at", "v", "", elem, all, depth+1)
		if len(inner) > 0 {
			say("for %s, v := range %s {\nat := element(%s, %s)\n%s\n}", index, v, at, index, strings.Join(inner, "\n"))
		}
	case s.AdditionalProperties.Schema != nil:
		inner := valueChecks("at", "v", "", s.AdditionalProperties.Schema, all, depth+1)
		if len(inner) > 0 {
			say("for _, key := range sortedKeys(%s) {\nv := %s[key]\nat := member(%s, key)\n%s\n}", v, v, at, strings.Join(inner, "\n"))
		}
	}
	return out
}

// fill appends the statements that put a default in place of an absent or
// null property.
func (b *body) fill(f goField, p *openapi3.SchemaRef, all map[string]*openapi3.Schema) {
	p = notNull(p)
	s := p.Value
	if s.Default != nil && strings.HasPrefix(f.Type, "*") {
		b.Defaults = append(b.Defaults, fmt.Sprintf("if r.%s == nil {\nv := %s\nr.%s = &v\n}", f.Name, goLiteral(strings.TrimPrefix(f.Type, "*"), s.Default), f.Name))
	}
	if _, optIn := hints(s)["optIn"]; !optIn && strings.HasPrefix(f.Type, "nullable.") {
		// An empty value of a field whose unused form is null means unused.
		switch {
		case schemaIs(s, "array") && s.MinItems > 0, schemaIs(s, "object") && s.MinProps > 0 && s.AdditionalProperties.Schema != nil:
			b.Defaults = append(b.Defaults, fmt.Sprintf("if v, err := r.%s.Get(); err == nil && len(v) == 0 {\nr.%s.SetNull()\n}", f.Name, f.Name))
		case schemaIs(s, "string") && f.Type == "nullable.Nullable[string]":
			b.Defaults = append(b.Defaults, fmt.Sprintf("if v, err := r.%s.Get(); err == nil && v == \"\" {\nr.%s.SetNull()\n}", f.Name, f.Name))
		}
	}
	nested := func(ref *openapi3.SchemaRef) bool {
		ref = notNull(ref)
		return ref != nil && ref.Ref != "" && all[goName(refName(ref.Ref))] != nil
	}
	switch {
	case nested(p) && strings.HasPrefix(f.Type, "*"):
		b.Defaults = append(b.Defaults, fmt.Sprintf("if r.%s != nil {\nr.%s.ApplyDefaults()\n}", f.Name, f.Name))
	case nested(p) && strings.HasPrefix(f.Type, "nullable."):
		b.Defaults = append(b.Defaults, fmt.Sprintf("if v, err := r.%s.Get(); err == nil {\nv.ApplyDefaults()\nr.%s.Set(v)\n}", f.Name, f.Name))
	case nested(p):
		b.Defaults = append(b.Defaults, fmt.Sprintf("r.%s.ApplyDefaults()", f.Name))
	case schemaIs(s, "array") && nested(s.Items) && strings.HasPrefix(f.Type, "*"):
		b.Defaults = append(b.Defaults, fmt.Sprintf("if r.%s != nil {\nfor i := range *r.%s {\n(*r.%s)[i].ApplyDefaults()\n}\n}", f.Name, f.Name, f.Name))
	case schemaIs(s, "array") && nested(s.Items) && strings.HasPrefix(f.Type, "nullable."):
		b.Defaults = append(b.Defaults, fmt.Sprintf("if v, err := r.%s.Get(); err == nil {\nfor i := range v {\nv[i].ApplyDefaults()\n}\n}", f.Name))
	case schemaIs(s, "array") && nested(s.Items):
		b.Defaults = append(b.Defaults, fmt.Sprintf("for i := range r.%s {\nr.%s[i].ApplyDefaults()\n}", f.Name, f.Name))
	}
}

func (b *body) eitherOr(rule string, set []string, fields map[string]goField) {
	var given []string
	for _, wire := range set {
		f := fields[wire]
		switch {
		case strings.HasPrefix(f.Type, "*[]"):
			given = append(given, fmt.Sprintf("r.%s != nil && len(*r.%s) > 0", f.Name, f.Name))
		case strings.HasPrefix(f.Type, "nullable.Nullable[string"):
			given = append(given, fmt.Sprintf("filledText(r.%s)", f.Name))
		case strings.HasPrefix(f.Type, "nullable.Nullable[[]"):
			given = append(given, fmt.Sprintf("filledList(r.%s)", f.Name))
		case strings.HasPrefix(f.Type, "nullable."):
			given = append(given, fmt.Sprintf("filled(r.%s)", f.Name))
		case f.Type == "*bool": // a switch that is off is not given
			given = append(given, fmt.Sprintf("r.%s != nil && *r.%s", f.Name, f.Name))
		default:
			given = append(given, fmt.Sprintf("r.%s != nil", f.Name))
		}
	}
	call := map[string]string{"oneOf": "exactlyOne", "atMostOneOf": "atMostOne", "minProperties": "atLeastOne"}[rule]
	b.Checks = append(b.Checks, fmt.Sprintf("f.%s(at, %#v, %s)", call, set, strings.Join(given, ", ")))
}

// goLiteral writes a default as a Go expression of the given type.
func goLiteral(typ string, v any) string {
	if list, ok := v.([]any); ok {
		var parts []string
		for _, x := range list {
			parts = append(parts, goLiteral(strings.TrimPrefix(typ, "[]"), x))
		}
		return typ + "{" + strings.Join(parts, ", ") + "}"
	}
	switch v := v.(type) {
	case string:
		return fmt.Sprintf("%s(%q)", typ, v)
	case float64:
		return fmt.Sprintf("%s(%s)", typ, strconv.FormatFloat(v, 'f', -1, 64))
	case map[string]any:
		return typ + "{}"
	}
	return fmt.Sprintf("%s(%v)", typ, v)
}

func quotedList(list []any) string {
	var out []string
	for _, v := range list {
		if v != nil {
			out = append(out, strconv.Quote(fmt.Sprint(v)))
		}
	}
	return strings.Join(out, ", ")
}

func limit(p *uint64) string {
	if p == nil {
		return "-1"
	}
	return strconv.FormatUint(*p, 10)
}

// hints is the x-terraform object of a schema.
func hints(s *openapi3.Schema) map[string]any {
	h, _ := s.Extensions["x-terraform"].(map[string]any)
	return h
}

func stringLists(v any) [][]string {
	var out [][]string
	outer, _ := v.([]any)
	for _, inner := range outer {
		list, ok := inner.([]any)
		if !ok {
			continue
		}
		var names []string
		for _, n := range list {
			names = append(names, fmt.Sprint(n))
		}
		out = append(out, names)
	}
	return out
}

// schemaIs reports whether s is of the given type, null aside.
func schemaIs(s *openapi3.Schema, typ string) bool {
	return s != nil && s.Type != nil && s.Type.Includes(typ)
}

// isNullable reports whether null is a value of s: type [x, "null"], or
// anyOf/oneOf of one schema and null.
func isNullable(s *openapi3.Schema) bool {
	if s.Nullable || schemaIs(s, "null") {
		return true
	}
	for _, list := range []openapi3.SchemaRefs{s.AnyOf, s.OneOf} {
		for _, x := range list {
			if schemaIs(x.Value, "null") {
				return true
			}
		}
	}
	return false
}

// notNull is the schema behind anyOf or oneOf with null, or allOf of one; any
// other schema is returned as it is.
func notNull(ref *openapi3.SchemaRef) *openapi3.SchemaRef {
	if ref == nil || ref.Value == nil {
		return ref
	}
	for _, list := range []openapi3.SchemaRefs{ref.Value.AnyOf, ref.Value.OneOf, ref.Value.AllOf} {
		var rest openapi3.SchemaRefs
		for _, x := range list {
			if x.Ref != "" || !x.Value.Type.Is("null") {
				rest = append(rest, x)
			}
		}
		if len(rest) == 1 {
			return rest[0]
		}
	}
	return ref
}

// managed are the types that tell which program declares an object.
func (m *model) managed() []versioned {
	var out []versioned
	for _, name := range slices.Sorted(maps.Keys(m.types.fields)) {
		if f := m.types.fields[name]["managed_by"]; f.Type == "*string" {
			out = append(out, versioned{name, f.Name})
		}
	}
	return out
}

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// mode is who decides an attribute's value.
type mode int

const (
	required mode = iota
	optional
	computed
	optionalComputed // chosen by the server where the user does not
)

// attribute is one value of a noun: what Terraform calls it, what the wire
// calls it, and what the Go types on both sides are.
type attribute struct {
	Name, Wire, Go string
	Kind           string // string, int64, float64, bool, set, list, map or object
	Elem           *attribute
	Fields         []*attribute // of an object
	Struct         string       // Go name of an object's model
	Key            string       // wire name of the field that keys a list of objects as a map
	Time           bool         // a date-time: time.Time on the Go side
	JSON           bool         // free-form JSON, a text in Terraform
	Mode           mode
	HasDefault     bool
	Default        any
	Immutable      bool
	OptIn          bool
	Read           bool // optIn of a noun with a key: an import reads it
	Restored       bool // optIn of a singleton, and null says that nobody manages it any more
	Volatile       bool
	Sensitive      bool
	WriteOnly      bool
	Synthetic      bool   // known to the provider only
	Parent         bool   // a path parameter
	Within         string // wire name of the flattened object that holds it
	Secret         string
	Lasting        bool   // a secret of an object that outlives the run
	Switch         string // Go field of the secret's switch or version
	References     string
	Was            []string // names that it had in released contracts
	Description    string
	Deprecated     bool
	OneOf          [][]string
	AtMostOneOf    [][]string
	AtLeastOneOf   [][]string
	Sets           []string // of which attributes, this one among them, how many must be set: a sentence for each

	Create, Update, Object goField
	CreateType             string // Go struct of an object on the three sides
	UpdateType             string
	ObjectType             string
	schema                 *openapi3.Schema // the request's schema, else the answer's
	pointer                string
}

// side is the request half of a noun: its schema and Go types for create and
// update; either may be empty.
type side struct {
	schema         *openapi3.Schema
	create, update string
}

// tree merges the properties of request and answer into attributes.
func (m *model) tree(r *reporter, pointer string, req side, object *openapi3.Schema, objectType string) []*attribute {
	names := map[string]bool{}
	if req.schema != nil {
		for wire := range req.schema.Properties {
			names[wire] = true
		}
	}
	if object != nil {
		for wire := range object.Properties {
			names[wire] = true
		}
	}
	var out []*attribute
	for _, wire := range slices.Sorted(maps.Keys(names)) {
		var in, back *openapi3.SchemaRef
		if req.schema != nil {
			in = req.schema.Properties[wire]
		}
		if object != nil {
			back = object.Properties[wire]
		}
		a := m.leaf(wire, in, back)
		a.pointer = pointer + objectType + "/properties/" + escapePointer(wire)
		if in != nil {
			a.pointer = pointer + cmpOr(req.create, req.update) + "/properties/" + escapePointer(wire)
		}
		a.Create, a.Update, a.Object = m.types.fields[req.create][wire], m.types.fields[req.update][wire], m.types.fields[objectType][wire]
		if in != nil && !in.Value.ReadOnly {
			a.Mode = optional
			if slices.Contains(req.schema.Required, wire) {
				a.Mode = required
			}
			if hints(in.Value)["computed"] == true {
				a.Mode = optionalComputed
			}
		}
		m.shape(r, a, in, back, req)
		if isFlat(in) || isFlat(back) {
			out = append(out, a.spliced()...)
			continue
		}
		out = append(out, a)
	}
	return out
}

// isFlat reports a property whose members stand in the place of the object.
func isFlat(p *openapi3.SchemaRef) bool { return p != nil && hints(p.Value)["flatten"] == true }

// spliced are the members of a flattened object as attributes of the noun: on
// the wire, and in Go, they stand one level deeper.
func (a *attribute) spliced() []*attribute {
	inside := func(outer, inner goField) goField {
		if outer.Name == "" || inner.Name == "" {
			return goField{}
		}
		return goField{Name: outer.Name + "." + inner.Name, Type: inner.Type}
	}
	for _, f := range a.Fields {
		f.Within = a.Wire
		f.Create, f.Update, f.Object = inside(a.Create, f.Create), inside(a.Update, f.Update), inside(a.Object, f.Object)
	}
	return a.Fields
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// leaf reads what a property says about itself, whatever its shape.
func (m *model) leaf(wire string, in, back *openapi3.SchemaRef) *attribute {
	a := &attribute{Wire: wire, Name: attributeName(wire, in), Mode: computed}
	if in == nil || hints(in.Value)["name"] == nil {
		a.Name = attributeName(wire, back)
		if back == nil || hints(back.Value)["name"] == nil {
			a.Name = snake(wire)
		}
	}
	a.Go = goName(a.Name)
	for _, ref := range []*openapi3.SchemaRef{back, in} {
		if ref == nil {
			continue
		}
		h := hints(ref.Value)
		a.schema = ref.Value
		if ref.Value.Description != "" {
			a.Description = ref.Value.Description
		} else if notNull(ref).Value.Description != "" {
			a.Description = notNull(ref).Value.Description
		}
		a.Deprecated = a.Deprecated || ref.Value.Deprecated
		a.Immutable = a.Immutable || h["immutable"] == true
		a.OptIn = a.OptIn || h["optIn"] == true
		a.Volatile = a.Volatile || h["volatile"] == true
		if s, ok := h["secret"].(string); ok {
			a.Secret, a.Lasting = s, s == "lasting"
			if a.Lasting {
				a.Secret = "create"
			}
		}
		if s, ok := h["references"].(string); ok {
			a.References = s
		}
		if s, ok := h["key"].(string); ok {
			a.Key = s
		}
		for _, was := range formerNames(h["was"]) {
			if !slices.Contains(a.Was, was) {
				a.Was = append(a.Was, was)
			}
		}
		if ref.Value.Default != nil {
			a.HasDefault, a.Default = true, ref.Value.Default
		}
	}
	return a
}

// shape decides kind, element and fields.
func (m *model) shape(r *reporter, a *attribute, in, back *openapi3.SchemaRef, req side) {
	s := notNull(in)
	if s == nil {
		s = notNull(back)
	}
	var backValue *openapi3.SchemaRef
	if back != nil {
		backValue = notNull(back)
	}
	switch v := s.Value; {
	case schemaIs(v, "string"):
		a.Kind = "string"
		a.Time = v.Format == "date-time"
	case schemaIs(v, "integer"):
		a.Kind = "int64"
	case schemaIs(v, "number"):
		a.Kind = "float64"
	case schemaIs(v, "boolean"):
		a.Kind = "bool"
	case schemaIs(v, "array"):
		a.Kind = "list"
		if v.UniqueItems {
			a.Kind = "set"
		}
		if a.Key != "" {
			a.Kind = "map"
		}
		a.Elem = m.element(r, a, items(notNull(in)), items(backValue), req)
	case v.AdditionalProperties.Schema != nil:
		a.Kind = "map"
		var inElem, backElem *openapi3.SchemaRef
		if in != nil {
			inElem = notNull(in).Value.AdditionalProperties.Schema
		}
		if backValue != nil {
			backElem = backValue.Value.AdditionalProperties.Schema
		}
		a.Elem = m.element(r, a, inElem, backElem, req)
	case schemaIs(v, "object") && len(v.Properties) > 0:
		a.Kind = "object"
		m.object(r, a, notNull(in), backValue)
	default:
		a.Kind = "string" // free-form JSON: out of resources, a text in data sources
		a.Volatile, a.JSON = true, true
	}
}

func items(ref *openapi3.SchemaRef) *openapi3.SchemaRef {
	if ref == nil || ref.Value == nil {
		return nil
	}
	return ref.Value.Items
}

func (m *model) element(r *reporter, a *attribute, in, back *openapi3.SchemaRef, req side) *attribute {
	e := m.leaf("", in, back)
	e.References = a.References
	// A reference is written as an id and read as {id, name, ...}.
	reference := back != nil && notNull(back).Value.Properties["id"] != nil && (in != nil && schemaIs(notNull(in).Value, "string") || a.References != "")
	if in == nil && back != nil && notNull(back).Value.Properties["id"] != nil && notNull(back).Ref != "" && strings.HasSuffix(notNull(back).Ref, "Reference") {
		reference = true
	}
	if reference {
		e.Kind, e.ObjectType = "string", goName(refName(notNull(back).Ref))
		if in != nil {
			e.schema = in.Value
		}
		return e
	}
	m.shape(r, e, in, back, req)
	return e
}

func (m *model) object(r *reporter, a *attribute, in, back *openapi3.SchemaRef) {
	sub := side{}
	var backSchema *openapi3.Schema
	if in != nil {
		sub.schema = in.Value
		name := goName(refName(in.Ref))
		sub.create = name
		sub.update = name
		a.CreateType, a.UpdateType = name, name
		a.OneOf, a.AtMostOneOf, a.AtLeastOneOf = eitherSets(in.Value)
	}
	if back != nil {
		backSchema = back.Value
		a.ObjectType = goName(refName(back.Ref))
	}
	if a.CreateType == "" && a.ObjectType == "" {
		r.add(a.pointer, "noun", "an object inside a noun must be a component of its own, written as $ref")
		return
	}
	a.Struct = cmpOr(a.ObjectType, a.CreateType)
	a.Fields = m.tree(r, "/components/schemas/", sub, backSchema, a.ObjectType)
	noteSets(a.Fields, a.OneOf, a.AtMostOneOf, a.AtLeastOneOf)
}

// forResource is the attribute without the parts that change by themselves
// and, for a map, without the field that is its key.
func (a *attribute) forResource() *attribute {
	b := *a
	if a.Elem != nil {
		b.Elem = a.Elem.forResource()
		if a.Key != "" {
			b.Elem.dropKey(a.Key)
		}
	}
	b.Fields = nil
	for _, f := range a.Fields {
		if !f.Volatile {
			b.Fields = append(b.Fields, f.forResource())
		}
	}
	return &b
}

// forData is the attribute as it is only read.
func (a *attribute) forData() *attribute {
	b := *a
	b.Mode, b.HasDefault, b.OptIn, b.Immutable, b.Sets = computed, false, false, false, nil
	if a.Elem != nil {
		b.Elem = a.Elem.forData()
		if a.Key != "" {
			b.Elem.dropKey(a.Key)
		}
	}
	b.Fields = nil
	for _, f := range a.Fields {
		if f.Object.Name != "" {
			b.Fields = append(b.Fields, f.forData())
		}
	}
	if b.Struct != "" {
		b.Struct += "Data"
	}
	return &b
}

func (a *attribute) dropKey(key string) {
	a.Fields = slices.DeleteFunc(a.Fields, func(f *attribute) bool { return f.Wire == key })
}

func walkAttributes(list []*attribute, visit func(*attribute)) {
	for _, a := range list {
		visit(a)
		if a.Elem != nil {
			walkAttributes([]*attribute{a.Elem}, visit)
		}
		walkAttributes(a.Fields, visit)
	}
}

// AttrType is the Go expression of the attribute's framework type.
func (a *attribute) AttrType() string {
	switch a.Kind {
	case "string":
		return "types.StringType"
	case "int64":
		return "types.Int64Type"
	case "float64":
		return "types.Float64Type"
	case "bool":
		return "types.BoolType"
	case "set":
		return "types.SetType{ElemType: " + a.Elem.AttrType() + "}"
	case "list":
		return "types.ListType{ElemType: " + a.Elem.AttrType() + "}"
	case "map":
		return "types.MapType{ElemType: " + a.Elem.AttrType() + "}"
	}
	return "types.ObjectType{AttrTypes: " + a.TypesVar() + "}"
}

// ModelType is the Go type of the attribute in a model.
func (a *attribute) ModelType() string {
	return "types." + map[string]string{
		"string": "String", "int64": "Int64", "float64": "Float64", "bool": "Bool",
		"set": "Set", "list": "List", "map": "Map", "object": "Object",
	}[a.Kind]
}

// TypesVar names the variable with the attribute types of an object.
func (a *attribute) TypesVar() string { return varName(a.Struct) + "Types" }

// ModelStruct names the model of an object.
func (a *attribute) ModelStruct() string { return a.Struct + "Model" }

func (a *attribute) String() string { return fmt.Sprintf("%s(%s)", a.Name, a.Kind) }

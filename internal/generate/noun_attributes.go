package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

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
		m.identify(r, n)
	}
	n.Revision = m.types.fields[n.Object]["object_version"].Type == "int64" || m.types.fields[n.Object]["version"].Type == "int64"
	tree := m.tree(r, "/components/schemas/", side{request, n.CreateBody, n.UpdateBody}, n.schema, n.Object)
	if request != nil {
		n.readSets(request)
		n.readExamples(request)
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

// identify finds by which parameters of its path an object is known.
func (m *model) identify(r *reporter, n *noun) {
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

// readExamples takes the examples of a request.
func (n *noun) readExamples(request *openapi3.Schema) {
	n.Example, _ = request.Example.(map[string]any)
	for _, more := range request.Examples {
		if example, ok := more.(map[string]any); ok {
			n.Examples = append(n.Examples, example)
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

// shared is a field of two Go structs, and the type that turns one into the
// other; empty when they are the same.
type shared struct{ Name, As string }

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
		a.Read = a.OptIn && n.Key != ""
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

func has(list []*attribute, name string) bool {
	return slices.ContainsFunc(list, func(a *attribute) bool { return a.Name == name })
}

func sortAttributes(list []*attribute) {
	slices.SortFunc(list, func(a, b *attribute) int { return strings.Compare(a.Name, b.Name) })
}

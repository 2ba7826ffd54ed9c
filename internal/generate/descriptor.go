package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// descriptor writes the value that binds a noun's schema, conversions and
// operations together for the runtime.
func (p *nounPage) descriptor() {
	p.f("// %s describes %s.\nvar %s = &Noun{", "noun"+p.Go, p.Type, "noun"+p.Go)
	p.f("Name: %q,\nPlural: %q,\nDescription: %q,", p.Name, p.Plural, oneline(p.Doc))
	p.f("Kind: %s,", map[string]string{kindCollection: "Collection", kindSingleton: "Singleton", kindAdopted: "Adopted", kindData: "DataOnly", kindRendered: "Rendered"}[p.Kind])
	p.f("Parents: %#v,\nKey: %q,\nLookup: %#v,", attributeNames(p.Parents), p.Key, p.Lookup)
	if p.Version > 0 {
		p.f("Version: %d,", p.Version)
	}
	if list := p.renames(); len(list) > 0 {
		p.f("Renamed: []Renamed{")
		for _, x := range list {
			p.f("{Steps: %#v, From: %q, Now: %q},", x.Steps, x.From, x.Now)
		}
		p.f("},")
	}
	p.f("OneOf: %#v,\nAtMostOneOf: %#v,", p.OneOf, p.AtMostOneOf)
	if len(p.AtLeastOneOf) > 0 {
		p.f("AtLeastOneOf: %#v,", p.AtLeastOneOf)
	}
	fields := p.Resource
	if p.Kind == kindRendered {
		fields = p.Data
	}
	p.f("Fields: %s,", fieldTree(fields))
	p.f("OptIn: %#v,", attributeNames(slices.DeleteFunc(slices.Clone(p.Resource), func(a *attribute) bool { return !a.OptIn })))
	p.f("Synthetic: map[string]any{")
	for _, a := range p.Resource {
		if a.Synthetic && a.HasDefault {
			p.f("%q: %v,", a.Name, a.Default)
		}
	}
	p.f("},\nDataSchema: dataSchemaOf%s,", p.Go)
	p.f("NewData: func() any { return new(%sDataModel) },", p.Go)
	if p.List != nil {
		p.f("ListSchema: listSchemaOf%s,", p.Go)
		p.f("Filters: []Filter{")
		for _, q := range p.filters() {
			p.f("{Name: %q, Wire: %q, Type: %q},", snake(q.Wire), q.Wire, q.FilterType())
		}
		p.f("},")
	}
	if p.Resource != nil {
		p.f("Schema: schemaOf%s,\nNewModel: func() any { return new(%sModel) },", p.Go, p.Go)
		p.f("Flatten: func(ctx context.Context, object, model any, d *diag.Diagnostics) { flatten%s(ctx, object.(*api.%s), model.(*%sModel), d) },", p.Go, p.Object, p.Go)
	}
	p.operations()
	p.f("FlattenData: func(ctx context.Context, object, model any, d *diag.Diagnostics) { flatten%sData(ctx, object.(*api.%s), model.(*%sDataModel), d) },", p.Go, p.Object, p.Go)
	p.f("FlattenList: func(ctx context.Context, objects []any, d *diag.Diagnostics) any {\nout := make([]%sDataModel, len(objects))\nfor i, o := range objects {\nflatten%sData(ctx, o.(*api.%s), &out[i], d)\n}\nreturn out\n},", p.Go, p.Go, p.Object)
	if p.Key != "" {
		p.f("ID: func(object any) string { return object.(*api.%s).%s },", p.Object, p.KeyField)
	}
	if p.Revision {
		p.f("Revision: func(object any) string { return strconv.Quote(strconv.FormatInt(object.(*api.%s).Revision(), 10)) },", p.Object)
	}
	p.secrets()
	p.f("}\n")
	if p.Kind == kindCollection {
		p.created()
	}
}

func (p *nounPage) operations() {
	if p.Kind == kindRendered {
		p.rendered()
		return
	}
	ids := idArguments(p.Read)
	p.f("Read: func(ctx context.Context, c *sdk.Client, ids []string, opts ...sdk.CallOption) (any, error) {\nreturn found(c.%s(ctx, %sopts...))\n},", p.Read.ID, ids)
	if p.Create != nil {
		p.f("Create: create%s,", p.Go)
	}
	if p.Update != nil && p.Resource != nil {
		p.f("Update: func(ctx context.Context, c *sdk.Client, ids []string, model any, d *diag.Diagnostics, opts ...sdk.CallOption) (any, error) {\nbody := expand%sUpdate(ctx, model.(*%sModel), d)\nif d.HasError() {\nreturn nil, nil\n}\nreturn found(c.%s(ctx, %sbody, opts...))\n},", p.Go, p.Go, p.Update.ID, idArguments(p.Update))
	}
	if len(p.restored()) > 0 {
		p.restore()
	}
	if p.Delete != nil && p.Resource != nil {
		p.f("Delete: func(ctx context.Context, c *sdk.Client, ids []string, opts ...sdk.CallOption) error {\nreturn c.%s(ctx, %sopts...)\n},", p.Delete.ID, idArguments(p.Delete))
	}
	if p.Resource != nil && p.Kind == kindCollection {
		p.previews()
	}
	if p.Referrers != nil {
		p.referrers()
	}
	if p.List == nil {
		return
	}
	options := ""
	if p.List.HasOptions() {
		options = "sdk." + p.List.ID + "Options{}, "
	}
	if p.List.Paged() {
		p.f("List: func(ctx context.Context, c *sdk.Client, ids []string, opts ...sdk.CallOption) iter.Seq2[any, error] {\nreturn erased(c.%s(ctx, %s%sopts...))\n},", p.List.Iterator(), idArguments(p.List), options)
	} else {
		p.f("List: func(ctx context.Context, c *sdk.Client, ids []string, opts ...sdk.CallOption) iter.Seq2[any, error] {\nreturn whole(c.%s(ctx, %s%sopts...))\n},", p.List.ID, idArguments(p.List), options)
	}
}

// restored are the attributes that go back when nobody manages them any more. The
// members of a group and what a machine has are none: others may have taken them over.
func (p *nounPage) restored() []*attribute {
	return slices.DeleteFunc(slices.Clone(p.Resource), func(a *attribute) bool { return !a.Restored })
}

// restore writes the update that gives attributes back.
func (p *nounPage) restore() {
	p.f("Restored: %#v,", attributeNames(p.restored()))
	p.f("Restore: func(ctx context.Context, c *sdk.Client, ids []string, model any, names []string, d *diag.Diagnostics, opts ...sdk.CallOption) (any, error) {")
	p.f("body := expand%sUpdate(ctx, model.(*%sModel), d)\nif d.HasError() {\nreturn nil, nil\n}\nfor _, name := range names {\nswitch name {", p.Go, p.Go)
	for _, a := range p.restored() {
		p.f("case %q:\nbody.%s.SetNull()", a.Name, a.Update.Name)
	}
	p.f("}\n}\nreturn found(c.%s(ctx, %sbody, opts...))\n},", p.Update.ID, idArguments(p.Update))
}

// previews writes the trials of the writes that can be tried.
func (p *nounPage) previews() {
	const signature = "func(ctx context.Context, c *sdk.Client, ids []string, model any, d *diag.Diagnostics, opts ...sdk.CallOption) (*Access, error)"
	for _, x := range []struct {
		name string
		op   *operation
		body string
	}{{"Create", p.Create, p.CreateBody}, {"Update", p.Update, "whole"}} {
		if x.op == nil || x.op.Preview == nil {
			continue
		}
		p.f("Preview%s: %s {", x.name, signature)
		body := ""
		if x.body != "" {
			p.f("body := expand%s%s(ctx, model.(*%sModel), d)\nif d.HasError() {\nreturn nil, nil\n}", p.Go, x.name, p.Go)
			body = "body, "
		}
		p.f("return access(c.Preview%s(ctx, %s%sopts...))\n},", x.op.ID, idArguments(x.op), body)
	}
	if p.Delete != nil && p.Delete.Preview != nil {
		p.f("PreviewDelete: func(ctx context.Context, c *sdk.Client, ids []string, opts ...sdk.CallOption) (*Access, error) {\nreturn access(c.Preview%s(ctx, %sopts...))\n},", p.Delete.ID, idArguments(p.Delete))
	}
}

// referrers writes the list of what refers to an object, all pages of it.
func (p *nounPage) referrers() {
	options := ""
	if p.Referrers.HasOptions() {
		options = "sdk." + p.Referrers.ID + "Options{}, "
	}
	p.f("Referrers: func(ctx context.Context, c *sdk.Client, ids []string, opts ...sdk.CallOption) ([]Referrer, error) {\nout := []Referrer{}")
	p.f("list, err := c.%s(ctx, %s%sopts...)", p.Referrers.ID, idArguments(p.Referrers), options)
	p.f("for _, r := range list {\nout = append(out, Referrer{r.Type, r.Id, r.Name, r.Field})\n}\nreturn out, err\n},")
}

// rendered writes the operation of a rendered noun: arguments in, object out.
func (p *nounPage) rendered() {
	p.f("Render: func(ctx context.Context, c *sdk.Client, ids []string, model any, d *diag.Diagnostics, opts ...sdk.CallOption) (any, error) {")
	body := ""
	if p.CreateBody != "" {
		p.f("body := expand%s(ctx, model.(*%sDataModel), d)\nif d.HasError() {\nreturn nil, nil\n}", p.Go, p.Go)
		body = "body, "
	}
	p.f("return found(c.%s(ctx, %s%sopts...))\n},", p.Create.ID, idArguments(p.Create), body)
}

// idArguments are the path parameters of a call, taken from ids in order.
func idArguments(o *operation) string {
	var b strings.Builder
	for i := range o.PathParams {
		fmt.Fprintf(&b, "ids[%d], ", i)
	}
	return b.String()
}

// created writes the function that makes an object: its answer may carry a
// secret and more than the object has.
func (p *nounPage) created() {
	p.f("func create%s(ctx context.Context, c *sdk.Client, ids []string, model any, d *diag.Diagnostics, opts ...sdk.CallOption) (any, error) {", p.Go)
	p.f("m := model.(*%sModel)", p.Go)
	body := ""
	if p.CreateBody != "" {
		p.f("body := expand%sCreate(ctx, m, d)", p.Go)
		body = "body, "
	}
	p.f("if d.HasError() {\nreturn nil, nil\n}")
	p.f("out, err := c.%s(ctx, %s%sopts...)\nif err != nil {\nreturn nil, err\n}", p.Create.ID, idArguments(p.Create), body)
	for _, s := range p.Secrets {
		p.f("m.%s = types.StringValue(out.%s)", s.Go, s.Object.Name)
	}
	if len(p.Secrets) == 0 {
		p.f("_ = m")
	}
	if p.CreateObject == p.Object {
		p.f("return out, nil\n}\n")
		return
	}
	p.f("return &api.%s{", p.Object)
	for _, f := range p.Shared {
		value := "out." + f.Name
		if f.As != "" {
			value = f.As + "(" + value + ")"
		}
		p.f("%s: %s,", f.Name, value)
	}
	p.f("}, nil\n}\n")
}

func (p *nounPage) secrets() {
	if len(p.Secrets) > 0 && p.Resource != nil {
		p.f("TakeSecrets: func(model any) {\nm := model.(*%sModel)", p.Go)
		for _, s := range p.Secrets {
			p.f("if !m.%s.IsUnknown() && !m.%s.ValueBool() {\nm.%s = types.StringNull()\n}", s.Switch, s.Switch, s.Go)
		}
		p.f("},")
	}
	if p.Ephemeral() {
		p.f("EphemeralSchema: ephemeralSchemaOf%s,\nNewEphemeral: func() any { return new(%sEphemeralModel) },\nFromEphemeral: fromEphemeral%s,\nToEphemeral: toEphemeral%s,", p.Go, p.Go, p.Go, p.Go)
	}
	if len(p.WriteOnly) > 0 {
		p.f("WriteOnly: func(config, model any) {\nc, m := config.(*%sModel), model.(*%sModel)", p.Go, p.Go)
		for _, w := range p.WriteOnly {
			p.f("m.%s = c.%s", w.Go, w.Go)
		}
		p.f("},\nSecretsChanged: func(plan, state any) bool {\np, s := plan.(*%sModel), state.(*%sModel)", p.Go, p.Go)
		var parts []string
		for _, w := range p.WriteOnly {
			parts = append(parts, fmt.Sprintf("!p.%s.Equal(s.%s)", w.Switch, w.Switch))
		}
		p.f("return %s\n},", strings.Join(parts, " || "))
	}
}

// ephemeral writes the short-lived form of a noun with a secret: the same
// arguments, but its life is short and its secret stands in no state.
func (p *nounPage) ephemeral() {
	list := p.ephemeralAttributes()
	p.modelStruct(p.Go+"EphemeralModel", list)
	p.f("func ephemeralSchemaOf%s() ephemeral.Schema {\nreturn ephemeral.Schema{", p.Go)
	p.f("MarkdownDescription: %q,\nAttributes: map[string]ephemeral.Attribute{", oneline(fmt.Sprintf("Makes a %s for this run and removes it at the end; its secret stands in no state. %s", spaced(p.Name), p.Doc)))
	for _, a := range list {
		p.f("%q: %s,", a.Name, a.schemaExpr(ephemeralFlavour, true))
	}
	p.f("},\n}\n}\n")
	p.f("func fromEphemeral%s(from, to any) {\ne, m := from.(*%sEphemeralModel), to.(*%sModel)", p.Go, p.Go, p.Go)
	for _, a := range list {
		if a.Mode == computed {
			continue
		}
		p.f("m.%s = e.%s", a.Go, a.Go)
		if value := a.ephemeralDefault(); value != "" {
			p.f("if m.%s.IsNull() {\nm.%s = %s\n}", a.Go, a.Go, value)
		}
	}
	p.f("}\n")
	p.f("func toEphemeral%s(from, to any) {\nm, e := from.(*%sModel), to.(*%sEphemeralModel)", p.Go, p.Go, p.Go)
	for _, a := range list {
		p.f("e.%s = m.%s", a.Go, a.Go)
	}
	p.f("}\n")
}

// longestEphemeral bounds, in seconds, the life of an object that a crashed
// run leaves behind.
const longestEphemeral = 3600

func (p *nounPage) ephemeralAttributes() []*attribute {
	var list []*attribute
	for _, a := range p.Resource {
		if a.Synthetic || a.Wire == "revoked" {
			continue
		}
		b := *a
		b.Switch, b.Immutable = "", false
		b.Description = strings.Split(b.Description, " Null unless ")[0]
		if b.Mode == optional && b.HasDefault {
			b.Mode = optionalComputed
		}
		if b.lifetime() {
			s := *b.schema
			if s.Min == nil || *s.Min == 0 {
				most, least := float64(longestEphemeral), 1.0
				s.Min, s.Max = &least, &most
			}
			b.schema, b.Mode = &s, optionalComputed
		}
		list = append(list, &b)
	}
	return list
}

// lifetime reports the attribute that says how long an object lives.
func (a *attribute) lifetime() bool {
	return a.Wire == "expires_in" && a.Kind == "int64" && a.schema != nil
}

// ephemeralDefault is what an argument left out becomes: the contract's
// default, but the shortest life instead of none.
func (a *attribute) ephemeralDefault() string {
	switch {
	case a.lifetime() && *a.schema.Max == longestEphemeral:
		return fmt.Sprintf("types.Int64Value(%d)", longestEphemeral)
	case a.lifetime():
		return fmt.Sprintf("types.Int64Value(%d)", int64(*a.schema.Min))
	case a.HasDefault && a.Default != nil:
		return a.defaultValue()
	}
	return ""
}

// fieldTree is the attribute tree as Go source, for diagnostics.
func fieldTree(list []*attribute) string {
	var b strings.Builder
	b.WriteString("[]Field{\n")
	flat := map[string][]*attribute{}
	for _, a := range list {
		if a.Wire == "" || a.Synthetic {
			continue
		}
		if a.Within != "" {
			inner := *a
			inner.Within = ""
			flat[a.Within] = append(flat[a.Within], &inner)
			continue
		}
		kind, of := "scalar", a
		if a.Elem != nil {
			kind, of = a.Kind, a.Elem
		}
		if a.Kind == "object" {
			kind = "object"
		}
		if a.Key != "" {
			kind = "keyed"
		}
		fmt.Fprintf(&b, "{Wire: %q, Name: %q, Kind: %q", a.Wire, a.Name, kind)
		if a.Key != "" {
			fmt.Fprintf(&b, ", Key: %q", a.Key)
		}
		if len(of.Fields) > 0 {
			fmt.Fprintf(&b, ", Fields: %s", fieldTree(of.Fields))
		}
		b.WriteString("},\n")
	}
	for _, wire := range slices.Sorted(maps.Keys(flat)) {
		fmt.Fprintf(&b, "{Wire: %q, Kind: \"flat\", Fields: %s},\n", wire, fieldTree(flat[wire]))
	}
	b.WriteString("}")
	return b.String()
}

func attributeNames(list []*attribute) []string {
	out := []string{}
	for _, a := range list {
		out = append(out, a.Name)
	}
	return out
}

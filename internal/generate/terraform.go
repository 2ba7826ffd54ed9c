package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// emitTerraform writes one file per noun and the descriptor of all.
func emitTerraform(files tree, m *model) error {
	names := map[string]string{"{{SDK}}": m.Import + "/sdk", "{{APIPATH}}": m.Import + "/api"}
	for _, name := range []string{"noun", "convert", "validators"} {
		if err := files.static("terraform/"+name+".go", "tf_"+name+".go.txt", names); err != nil {
			return err
		}
	}
	seen := map[string]bool{}
	for _, n := range m.Nouns {
		page := &nounPage{noun: n, model: m, seen: seen}
		src := page.source()
		if err := files.put("terraform/"+n.Name+".go", []byte(src)); err != nil {
			return err
		}
	}
	if err := files.template("terraform/actions.go", "actions.go.tmpl", m); err != nil {
		return err
	}
	if err := emitCases(files, m); err != nil {
		return err
	}
	return files.template("terraform/nouns.go", "nouns.go.tmpl", m)
}

// nounPage is the Go file of one noun.
type nounPage struct {
	*noun
	model *model
	seen  map[string]bool // object structs that another file has already
	b     strings.Builder
}

func (p *nounPage) f(format string, args ...any) { fmt.Fprintf(&p.b, format+"\n", args...) }

func (p *nounPage) source() string {
	if p.Resource != nil {
		p.modelStruct(p.Go+"Model", p.Resource)
		p.objects(p.Resource, true)
		p.resourceSchema()
		if p.CreateBody != "" {
			p.expand("expand"+p.Go+"Create", p.Go+"Model", p.CreateBody, p.Resource, func(a *attribute) goField { return a.Create })
		}
		if p.UpdateBody != "" {
			p.expand("expand"+p.Go+"Update", p.Go+"Model", p.UpdateBody, p.Resource, func(a *attribute) goField { return a.Update })
		}
		p.flatten("flatten"+p.Go, p.Object, p.Go+"Model", p.Resource, true)
	}
	p.modelStruct(p.Go+"DataModel", p.Data)
	p.objects(p.Data, p.Kind == kindRendered)
	if p.Kind == kindRendered && p.CreateBody != "" {
		p.expand("expand"+p.Go, p.Go+"DataModel", p.CreateBody, p.Data, func(a *attribute) goField { return a.Create })
	}
	p.typesVar(varName(p.Name)+"DataTypes", p.Data)
	p.dataSchemas()
	p.flatten("flatten"+p.Go+"Data", p.Object, p.Go+"DataModel", p.Data, false)
	if p.Ephemeral() {
		p.ephemeral()
	}
	p.descriptor()
	return "package terraform\n\n" + imports(p.b.String(), p.model.Import) + p.b.String()
}

// importTable is every package that a noun's file may use, by its name there.
var importTable = [][2]string{
	{"context.", `"context"`},
	{"iter.", `"iter"`},
	{"strconv.", `"strconv"`},
	{"regexp.", `"regexp"`},
	{"int64validator.", `"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"`},
	{"float64validator.", `"github.com/hashicorp/terraform-plugin-framework-validators/float64validator"`},
	{"listvalidator.", `"github.com/hashicorp/terraform-plugin-framework-validators/listvalidator"`},
	{"mapvalidator.", `"github.com/hashicorp/terraform-plugin-framework-validators/mapvalidator"`},
	{"setvalidator.", `"github.com/hashicorp/terraform-plugin-framework-validators/setvalidator"`},
	{"stringvalidator.", `"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"`},
	{"attr.", `"github.com/hashicorp/terraform-plugin-framework/attr"`},
	{"datasource.", `datasource "github.com/hashicorp/terraform-plugin-framework/datasource/schema"`},
	{"diag.", `"github.com/hashicorp/terraform-plugin-framework/diag"`},
	{"ephemeral.", `ephemeral "github.com/hashicorp/terraform-plugin-framework/ephemeral/schema"`},
	{"schema.", `"github.com/hashicorp/terraform-plugin-framework/resource/schema"`},
	{"booldefault.", `"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"`},
	{"boolplanmodifier.", `"github.com/hashicorp/terraform-plugin-framework/resource/schema/boolplanmodifier"`},
	{"float64default.", `"github.com/hashicorp/terraform-plugin-framework/resource/schema/float64default"`},
	{"float64planmodifier.", `"github.com/hashicorp/terraform-plugin-framework/resource/schema/float64planmodifier"`},
	{"int64default.", `"github.com/hashicorp/terraform-plugin-framework/resource/schema/int64default"`},
	{"int64planmodifier.", `"github.com/hashicorp/terraform-plugin-framework/resource/schema/int64planmodifier"`},
	{"listdefault.", `"github.com/hashicorp/terraform-plugin-framework/resource/schema/listdefault"`},
	{"listplanmodifier.", `"github.com/hashicorp/terraform-plugin-framework/resource/schema/listplanmodifier"`},
	{"mapdefault.", `"github.com/hashicorp/terraform-plugin-framework/resource/schema/mapdefault"`},
	{"mapplanmodifier.", `"github.com/hashicorp/terraform-plugin-framework/resource/schema/mapplanmodifier"`},
	{"objectplanmodifier.", `"github.com/hashicorp/terraform-plugin-framework/resource/schema/objectplanmodifier"`},
	{"planmodifier.", `"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"`},
	{"setdefault.", `"github.com/hashicorp/terraform-plugin-framework/resource/schema/setdefault"`},
	{"setplanmodifier.", `"github.com/hashicorp/terraform-plugin-framework/resource/schema/setplanmodifier"`},
	{"stringdefault.", `"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"`},
	{"stringplanmodifier.", `"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"`},
	{"validator.", `"github.com/hashicorp/terraform-plugin-framework/schema/validator"`},
	{"types.", `"github.com/hashicorp/terraform-plugin-framework/types"`},
}

// imports is the import block for a source: the packages whose names it uses.
func imports(src, root string) string {
	table := append(slices.Clone(importTable), [2]string{"api.", strconv.Quote(root + "/api")}, [2]string{"sdk.", strconv.Quote(root + "/sdk")})
	var out []string
	for _, row := range table {
		if usesPackage(src, row[0]) {
			out = append(out, row[1])
		}
	}
	return "import (\n" + strings.Join(out, "\n") + "\n)\n\n"
}

// usesPackage reports whether name, such as "types.", stands in src as a
// package and not as the end of a longer word or inside a text.
func usesPackage(src, name string) bool {
	for line := range strings.SplitSeq(src, "\n") {
		line = withoutTexts(line)
		for rest := line; ; {
			i := strings.Index(rest, name)
			if i < 0 {
				break
			}
			if i == 0 || !isWordByte(rest[i-1]) {
				return true
			}
			rest = rest[i+len(name):]
		}
	}
	return false
}

func isWordByte(c byte) bool {
	return c == '_' || c == '.' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// withoutTexts blanks string literals and comments of one line.
func withoutTexts(line string) string {
	var b strings.Builder
	inside := false
	for i := 0; i < len(line); i++ {
		switch {
		case inside && line[i] == '\\':
			i++
		case line[i] == '"':
			inside = !inside
		case !inside && strings.HasPrefix(line[i:], "//"):
			return b.String()
		case !inside:
			b.WriteByte(line[i])
		}
	}
	return b.String()
}

func (p *nounPage) modelStruct(name string, list []*attribute) {
	p.f("// %s is what Terraform holds.\ntype %s struct {", name, name)
	for _, a := range list {
		p.f("%s %s `tfsdk:%q`", a.Go, a.ModelType(), a.Name)
	}
	p.f("}\n")
}

func (p *nounPage) typesVar(name string, list []*attribute) {
	p.f("var %s = map[string]attr.Type{", name)
	for _, a := range list {
		p.f("%q: %s,", a.Name, a.AttrType())
	}
	p.f("}\n")
}

// objects writes model, types and conversions of the objects inside a noun.
func (p *nounPage) objects(list []*attribute, writes bool) {
	walkAttributes(list, func(a *attribute) {
		if a.Kind != "object" || p.seen[a.Struct] {
			return
		}
		p.seen[a.Struct] = true
		p.modelStruct(a.ModelStruct(), a.Fields)
		p.typesVar(a.TypesVar(), a.Fields)
		if writes && a.CreateType != "" {
			p.expand("expand"+a.Struct, a.ModelStruct(), a.CreateType, a.Fields, func(a *attribute) goField { return a.Create })
		}
		if a.ObjectType != "" {
			p.flatten("flatten"+a.Struct, a.ObjectType, a.ModelStruct(), a.Fields, writes)
		}
	})
}

// expand writes the function that turns a model into a request. It sends every
// attribute that Terraform manages, explicit null included.
func (p *nounPage) expand(name, from, to string, list []*attribute, of func(*attribute) goField) {
	p.f("func %s(ctx context.Context, m *%s, d *diag.Diagnostics) api.%s {", name, from, to)
	p.f("_, _ = ctx, d\nvar out api.%s", to)
	for _, a := range list {
		f := of(a)
		if f.Name == "" || a.Synthetic || a.Parent || a.Mode == computed {
			continue
		}
		inner := innerType(f.Type)
		value := p.expandValue(a, inner)
		switch {
		case strings.HasPrefix(f.Type, "nullable.") && (a.OptIn || a.WriteOnly):
			p.f("if !m.%s.IsNull() {\nout.%s.Set(%s)\n}", a.Go, f.Name, value)
		case strings.HasPrefix(f.Type, "nullable."):
			p.f("if m.%s.IsNull() {\nout.%s.SetNull()\n} else {\nout.%s.Set(%s)\n}", a.Go, f.Name, f.Name, value)
		case strings.HasPrefix(f.Type, "*"):
			p.f("if !m.%s.IsNull() && !m.%s.IsUnknown() {\nv := %s\nout.%s = &v\n}", a.Go, a.Go, value, f.Name)
		default:
			p.f("out.%s = %s", f.Name, value)
		}
	}
	p.f("return out\n}\n")
}

// innerType is a Go type without pointer and nullable.
func innerType(t string) string {
	t = strings.TrimPrefix(t, "*")
	if rest, ok := strings.CutPrefix(t, "nullable.Nullable["); ok {
		t = strings.TrimSuffix(rest, "]")
	}
	return t
}

// apiType is a type of package api as other packages write it.
func apiType(t string) string {
	if rest, ok := strings.CutPrefix(t, "[]"); ok {
		return "[]" + apiType(rest)
	}
	if t != "" && 'A' <= t[0] && t[0] <= 'Z' {
		return "api." + t
	}
	return t
}

func (p *nounPage) expandValue(a *attribute, t string) string {
	m := "m." + a.Go
	elem := apiType(strings.TrimPrefix(t, "[]"))
	switch a.Kind {
	case "string":
		if a.Time {
			return fmt.Sprintf("instant(%s, %q, d)", m, a.Name)
		}
		return convert(apiType(t), "string", m+".ValueString()")
	case "int64":
		return convert(apiType(t), "int64", m+".ValueInt64()")
	case "float64":
		return convert(apiType(t), "float64", m+".ValueFloat64()")
	case "bool":
		return convert(apiType(t), "bool", m+".ValueBool()")
	case "set", "list":
		return expandElements(a, m, elem)
	case "map":
		if a.Key != "" {
			return fmt.Sprintf("expandKeyed(ctx, %s, d, expand%s, func(x *%s, key string) { x.%s = key })", m, a.Elem.Struct, elem, goName(a.Key))
		}
		if a.Elem.Kind == "string" {
			return fmt.Sprintf("textMap[string](%s)", m)
		}
		return fmt.Sprintf("textsMap[string](%s)", m)
	}
	return fmt.Sprintf("expand%s(ctx, model[%s](ctx, %s, d), d)", a.Struct, a.ModelStruct(), m)
}

func expandElements(a *attribute, m, elem string) string {
	switch a.Elem.Kind {
	case "string":
		return fmt.Sprintf("texts[%s](%s)", elem, m)
	case "int64":
		return fmt.Sprintf("integers[%s](%s)", elem, m)
	}
	return fmt.Sprintf("expandEach(ctx, %s, d, expand%s)", m, a.Elem.Struct)
}

// convert writes a conversion only where the types differ.
func convert(to, from, expr string) string {
	if to == from {
		return expr
	}
	return to + "(" + expr + ")"
}

// flatten writes the function that fills a model from an object.
func (p *nounPage) flatten(name, from, to string, list []*attribute, resource bool) {
	p.f("func %s(ctx context.Context, o *api.%s, m *%s, d *diag.Diagnostics) {\n_, _ = ctx, d", name, from, to)
	for _, a := range list {
		f := a.Object
		if f.Name == "" || a.Synthetic || a.WriteOnly || a.Secret != "" || a.Parent && f.Name == "" {
			continue
		}
		lines := p.flattenField(a, f)
		if resource && a.OptIn {
			lines = fmt.Sprintf("if !m.%s.IsNull() {\n%s\n}", a.Go, lines)
		}
		p.f("%s", lines)
	}
	p.f("}\n")
}

func (p *nounPage) flattenField(a *attribute, f goField) string {
	m := "m." + a.Go
	inner := innerType(f.Type)
	value := p.flattenValue(a, "v", inner)
	none := fmt.Sprintf("%s = %s", m, a.absent())
	nullIfEmpty := a.schema != nil && isNullable(a.schema) && !a.OptIn
	switch {
	case strings.HasPrefix(f.Type, "*"):
		cond := fmt.Sprintf("o.%s != nil", f.Name)
		if nullIfEmpty && strings.HasPrefix(inner, "[]") {
			cond += fmt.Sprintf(" && len(*o.%s) > 0", f.Name)
		}
		return fmt.Sprintf("if %s {\nv := *o.%s\n%s = %s\n} else {\n%s\n}", cond, f.Name, m, value, none)
	case strings.HasPrefix(f.Type, "nullable."):
		cond := "err == nil"
		if nullIfEmpty && strings.HasPrefix(inner, "[]") {
			cond += " && len(v) > 0"
		}
		return fmt.Sprintf("if v, err := o.%s.Get(); %s {\n%s = %s\n} else {\n%s\n}", f.Name, cond, m, value, none)
	case nullIfEmpty && strings.HasPrefix(inner, "[]"):
		return fmt.Sprintf("if v := o.%s; len(v) > 0 {\n%s = %s\n} else {\n%s\n}", f.Name, m, value, none)
	case nullIfEmpty && inner == "string":
		return fmt.Sprintf("if v := o.%s; v != \"\" {\n%s = %s\n} else {\n%s\n}", f.Name, m, value, none)
	}
	return fmt.Sprintf("%s = %s", m, p.flattenValue(a, "o."+f.Name, inner))
}

// absent is the model value of a member that the answer leaves out.
func (a *attribute) absent() string {
	if a.HasDefault && a.Default != nil {
		return a.defaultValue()
	}
	switch a.Kind {
	case "string", "int64", "float64", "bool":
		return "types." + strings.ToUpper(a.Kind[:1]) + a.Kind[1:] + "Null()"
	case "object":
		return "types.ObjectNull(" + a.TypesVar() + ")"
	}
	return "types." + strings.ToUpper(a.Kind[:1]) + a.Kind[1:] + "Null(" + a.Elem.AttrType() + ")"
}

// defaultValue is the default as a framework value.
func (a *attribute) defaultValue() string {
	switch v := a.Default.(type) {
	case string:
		return fmt.Sprintf("types.StringValue(%q)", v)
	case bool:
		return fmt.Sprintf("types.BoolValue(%v)", v)
	case float64:
		if a.Kind == "int64" {
			return fmt.Sprintf("types.Int64Value(%d)", int64(v))
		}
		return fmt.Sprintf("types.Float64Value(%v)", v)
	case []any:
		var parts []string
		for _, x := range v {
			parts = append(parts, fmt.Sprintf("types.StringValue(%q)", fmt.Sprint(x)))
		}
		kind := strings.ToUpper(a.Kind[:1]) + a.Kind[1:]
		if a.Kind == "map" {
			return fmt.Sprintf("types.MapValueMust(%s, map[string]attr.Value{})", a.Elem.AttrType())
		}
		return fmt.Sprintf("types.%sValueMust(%s, []attr.Value{%s})", kind, a.Elem.AttrType(), strings.Join(parts, ", "))
	}
	return "types.StringNull()"
}

func (p *nounPage) flattenValue(a *attribute, v, t string) string {
	switch a.Kind {
	case "string":
		switch {
		case a.Time:
			return "timeValue(" + v + ")"
		case a.JSON:
			return "jsonValue(" + v + ", d)"
		case p.model.types.fields[t]["id"].Name != "":
			return fmt.Sprintf("types.StringValue(%s.%s)", v, p.model.types.fields[t]["id"].Name)
		}
		return "types.StringValue(" + convert("string", t, v) + ")"
	case "int64":
		return "types.Int64Value(" + convert("int64", t, v) + ")"
	case "float64":
		return "types.Float64Value(" + convert("float64", t, v) + ")"
	case "bool":
		return "types.BoolValue(" + convert("bool", t, v) + ")"
	case "set", "list":
		return p.flattenElements(a, v, strings.TrimPrefix(t, "[]"))
	case "map":
		if a.Key != "" {
			elem := strings.TrimPrefix(t, "[]")
			return fmt.Sprintf("flattenKeyed(ctx, %s, %s, d, flatten%s, func(x *%s) string { return x.%s })", v, a.Elem.TypesVar(), a.Elem.Struct, apiType(elem), p.model.types.fields[elem][a.Key].Name)
		}
		if a.Elem.Kind == "string" {
			return "textMapValue(" + v + ")"
		}
		return "textsMapValue(" + v + ")"
	}
	if strings.HasPrefix(v, "o.") {
		v = "&" + v
	} else {
		v = "&v"
	}
	return fmt.Sprintf("flattenObject(ctx, %s, %s, d, flatten%s)", v, a.TypesVar(), a.Struct)
}

func (p *nounPage) flattenElements(a *attribute, v, elem string) string {
	kind := strings.ToUpper(a.Kind[:1]) + a.Kind[1:]
	switch a.Elem.Kind {
	case "string":
		text := "plain[" + apiType(elem) + "]"
		if id := p.model.types.fields[elem]["id"].Name; id != "" {
			text = fmt.Sprintf("func(x %s) string { return x.%s }", apiType(elem), id)
		}
		return fmt.Sprintf("types.%sValueMust(types.StringType, textValues(%s, %s))", kind, v, text)
	case "int64":
		return fmt.Sprintf("types.%sValueMust(types.Int64Type, integerValues(%s))", kind, v)
	}
	return fmt.Sprintf("flatten%s(ctx, %s, %s, d, flatten%s)", kind, v, a.Elem.TypesVar(), a.Elem.Struct)
}

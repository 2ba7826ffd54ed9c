package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// flavour is which of the framework's schema packages is written.
type flavour struct {
	pkg      string
	resource bool // defaults and plan modifiers exist
}

var (
	resourceFlavour  = flavour{"schema", true}
	dataFlavour      = flavour{"datasource", false}
	ephemeralFlavour = flavour{"ephemeral", false}
)

func (p *nounPage) resourceSchema() {
	p.f("func schemaOf%s() schema.Schema {\nreturn schema.Schema{", p.Go)
	p.f("Version: %d,\nMarkdownDescription: %q,\nAttributes: map[string]schema.Attribute{", p.Version, p.resourceDoc())
	for _, a := range p.Resource {
		p.f("%q: %s,", a.Name, a.schemaExpr(resourceFlavour, true))
	}
	p.f("},\n}\n}\n")
}

func (p *nounPage) dataSchemas() {
	p.f("func dataSchemaOf%s() datasource.Schema {\nreturn datasource.Schema{", p.Go)
	p.f("MarkdownDescription: %q,\nAttributes: map[string]datasource.Attribute{", p.dataDoc())
	for _, a := range p.Data {
		p.f("%q: %s,", a.Name, a.schemaExpr(dataFlavour, true))
	}
	p.f("},\n}\n}\n")
	if p.List == nil {
		return
	}
	p.f("func listSchemaOf%s() datasource.Schema {\nreturn datasource.Schema{", p.Go)
	p.f("MarkdownDescription: %q,\nAttributes: map[string]datasource.Attribute{", oneline("Lists "+spaced(p.Plural)+". "+p.Doc))
	for _, a := range p.Parents {
		p.f("%q: %s,", a.Name, a.schemaExpr(dataFlavour, true))
	}
	for _, q := range p.filters() {
		p.f("%q: %s,", snake(q.Wire), q.schemaExpr())
	}
	p.f("%q: datasource.ListNestedAttribute{Computed: true, MarkdownDescription: %q, NestedObject: datasource.NestedAttributeObject{Attributes: map[string]datasource.Attribute{", p.Plural, "What was found, in the order of creation.")
	for _, a := range p.Data {
		b := *a
		b.Mode = computed
		p.f("%q: %s,", a.Name, b.schemaExpr(dataFlavour, true))
	}
	p.f("}}},\n},\n}\n}\n")
}

// dataDoc describes the data source of one object.
func (n *noun) dataDoc() string {
	if n.Kind == kindRendered {
		return oneline(n.Doc)
	}
	return oneline("Reads one " + spaced(n.Name) + ". " + n.Doc)
}

// filters are the query parameters of the list that a data source offers.
func (n *noun) filters() []param {
	if n.List == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(n.List.Filters()), func(q param) bool { return q.Wire == "limit" || q.Wire == "fields" })
}

func (p param) schemaExpr() string {
	doc := strconv.Quote(oneline(p.Doc))
	switch {
	case p.List:
		return "datasource.SetAttribute{Optional: true, ElementType: types.StringType, MarkdownDescription: " + doc + "}"
	case p.Type == "int64":
		return "datasource.Int64Attribute{Optional: true, MarkdownDescription: " + doc + "}"
	case p.Type == "bool":
		return "datasource.BoolAttribute{Optional: true, MarkdownDescription: " + doc + "}"
	}
	return "datasource.StringAttribute{Optional: true, MarkdownDescription: " + doc + "}"
}

// FilterType is the kind of a list filter.
func (p param) FilterType() string {
	if p.List {
		return "set"
	}
	return p.Type
}

// schemaExpr is the attribute as a schema literal. top is false inside sets,
// where defaults are unreliable.
func (a *attribute) schemaExpr(f flavour, top bool) string {
	var b strings.Builder
	kind := map[string]string{"string": "String", "int64": "Int64", "float64": "Float64", "bool": "Bool", "set": "Set", "list": "List", "map": "Map", "object": "SingleNested"}[a.Kind]
	nested := a.Elem != nil && a.Elem.Kind == "object"
	if nested {
		kind += "Nested"
	}
	fmt.Fprintf(&b, "%s.%sAttribute{\n", f.pkg, kind)
	switch a.Mode {
	case required:
		b.WriteString("Required: true,\n")
	case optional:
		b.WriteString("Optional: true,\n")
		if (a.HasDefault || a.Read) && f.resource {
			b.WriteString("Computed: true,\n")
		}
	case computed:
		b.WriteString("Computed: true,\n")
	case optionalComputed:
		b.WriteString("Optional: true,\nComputed: true,\n")
	}
	if a.Sensitive {
		b.WriteString("Sensitive: true,\n")
	}
	if a.WriteOnly && f.resource {
		b.WriteString("WriteOnly: true,\n")
	}
	fmt.Fprintf(&b, "MarkdownDescription: %q,\n", a.markdown(f))
	if a.Deprecated {
		fmt.Fprintf(&b, "DeprecationMessage: %q,\n", oneline(a.Description))
	}
	switch {
	case nested:
		fmt.Fprintf(&b, "NestedObject: %s.NestedAttributeObject{\n%s%s},\n", f.pkg, a.Elem.members(f, a.Kind != "set"), a.Elem.objectValidators())
	case a.Kind == "object":
		b.WriteString(a.members(f, top))
		if v := a.objectValidators(); v != "" {
			b.WriteString(v)
		}
	case a.Elem != nil:
		fmt.Fprintf(&b, "ElementType: %s,\n", a.Elem.AttrType())
	}
	if f.resource && top {
		b.WriteString(a.defaultExpr())
		b.WriteString(a.modifiers())
	}
	if a.Mode != computed {
		b.WriteString(a.validators())
	}
	b.WriteString("}")
	return b.String()
}

func (a *attribute) members(f flavour, top bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Attributes: map[string]%s.Attribute{\n", f.pkg)
	for _, m := range a.Fields {
		fmt.Fprintf(&b, "%q: %s,\n", m.Name, m.schemaExpr(f, top))
	}
	b.WriteString("},\n")
	return b.String()
}

func (a *attribute) objectValidators() string {
	if len(a.OneOf)+len(a.AtMostOneOf)+len(a.AtLeastOneOf) == 0 || a.Mode == computed && a.CreateType == "" || strings.HasSuffix(a.Struct, "Data") {
		return ""
	}
	var parts []string
	for _, set := range a.OneOf {
		parts = append(parts, fmt.Sprintf("either{names: %#v, least: 1}", set))
	}
	for _, set := range a.AtMostOneOf {
		parts = append(parts, fmt.Sprintf("either{names: %#v}", set))
	}
	for _, set := range a.AtLeastOneOf {
		parts = append(parts, fmt.Sprintf("either{names: %#v, least: 1, several: true}", set))
	}
	return "Validators: []validator.Object{" + strings.Join(parts, ", ") + "},\n"
}

func (a *attribute) defaultExpr() string {
	if !a.HasDefault || a.Default == nil || a.Mode != optional || a.OptIn || a.WriteOnly {
		return ""
	}
	switch v := a.Default.(type) {
	case string:
		return fmt.Sprintf("Default: stringdefault.StaticString(%q),\n", v)
	case bool:
		return fmt.Sprintf("Default: booldefault.StaticBool(%v),\n", v)
	case float64:
		if a.Kind == "int64" {
			return fmt.Sprintf("Default: int64default.StaticInt64(%d),\n", int64(v))
		}
		return fmt.Sprintf("Default: float64default.StaticFloat64(%v),\n", v)
	case []any:
		return fmt.Sprintf("Default: %sdefault.StaticValue(%s),\n", a.Kind, a.defaultValue())
	}
	return ""
}

func (a *attribute) modifiers() string {
	var list []string
	pkg := a.Kind + "planmodifier."
	if a.Mode == computed || a.Mode == optionalComputed {
		list = append(list, pkg+"UseStateForUnknown()")
	}
	if a.Immutable && a.Mode != computed {
		if a.Mode == optionalComputed {
			list = append(list, pkg+"RequiresReplaceIfConfigured()")
		} else {
			list = append(list, pkg+"RequiresReplace()")
		}
	}
	if len(list) == 0 {
		return ""
	}
	kind := strings.ToUpper(a.Kind[:1]) + a.Kind[1:]
	return fmt.Sprintf("PlanModifiers: []planmodifier.%s{%s},\n", kind, strings.Join(list, ", "))
}

// validators writes the rules of the contract that a plan can check.
func (a *attribute) validators() string {
	list := a.validatorList()
	if len(list) == 0 || a.Kind == "object" {
		return ""
	}
	kind := strings.ToUpper(a.Kind[:1]) + a.Kind[1:]
	return fmt.Sprintf("Validators: []validator.%s{%s},\n", kind, strings.Join(list, ", "))
}

func (a *attribute) validatorList() []string {
	if a.schema == nil {
		return nil
	}
	s := withoutNull(a.schema)
	var list []string
	say := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	switch a.Kind {
	case "string":
		if len(s.Enum) > 0 {
			say("stringvalidator.OneOf(%s)", quotedList(s.Enum))
		}
		switch {
		case s.MaxLength != nil:
			say("stringvalidator.UTF8LengthBetween(%d, %d)", s.MinLength, *s.MaxLength)
		case s.MinLength > 0:
			say("stringvalidator.UTF8LengthAtLeast(%d)", s.MinLength)
		}
		if s.Pattern != "" {
			say("stringvalidator.RegexMatches(regexp.MustCompile(%q), %q)", s.Pattern, "must be "+form(s))
		}
		if s.Format != "" && s.Format != "date-time" {
			say("spelled(%q)", s.Format)
		}
	case "int64":
		if s.Min != nil {
			say("int64validator.AtLeast(%d)", int64(*s.Min))
		}
		if s.Max != nil {
			say("int64validator.AtMost(%d)", int64(*s.Max))
		}
	case "float64":
		if s.Min != nil {
			say("float64validator.AtLeast(%v)", *s.Min)
		}
		if s.Max != nil {
			say("float64validator.AtMost(%v)", *s.Max)
		}
	case "set", "list", "map":
		list = a.collectionValidators(s)
	}
	return list
}

// form says in words what a text must look like that has a pattern.
func form(s *openapi3.Schema) string {
	words, _ := s.Extensions["x-form"].(string) // R5 asks for it
	return words
}

func (a *attribute) collectionValidators(s *openapi3.Schema) []string {
	var list []string
	pkg := a.Kind + "validator."
	if s.MinItems > 0 {
		list = append(list, fmt.Sprintf("%sSizeAtLeast(%d)", pkg, s.MinItems))
	}
	if most := a.mostItems(); most > 0 {
		list = append(list, fmt.Sprintf("%sSizeAtMost(%d)", pkg, most))
	}
	if a.Elem != nil && a.Elem.Kind == "string" {
		if inner := a.Elem.validatorList(); len(inner) > 0 {
			list = append(list, pkg+"ValueStringsAre("+strings.Join(inner, ", ")+")")
		}
	}
	return list
}

// mostItems is the largest number of elements that the provider accepts; 0 is
// no limit.
func (a *attribute) mostItems() uint64 {
	if a.schema == nil {
		return 0
	}
	if l, ok := hints(a.schema)["limit"].(float64); ok {
		return uint64(l)
	}
	if most := withoutNull(a.schema).MaxItems; most != nil {
		return *most
	}
	return 0
}

func withoutNull(s *openapi3.Schema) *openapi3.Schema {
	return notNull(&openapi3.SchemaRef{Value: s}).Value
}

// markdown is the description with everything that the registry page does not
// show by itself.
func (a *attribute) markdown(f flavour) string {
	parts := []string{oneline(a.Description)}
	say := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if a.schema != nil && a.Mode != computed {
		s := withoutNull(a.schema)
		if a.Elem != nil && a.Elem.schema != nil && a.Elem.Kind == "string" {
			if len(a.Elem.schema.Enum) > 0 {
				say("Each one of %s.", backquoted(a.Elem.schema.Enum))
			}
		}
		if len(s.Enum) > 0 {
			say("One of %s.", backquoted(s.Enum))
		}
		if words, ok := s.Extensions["x-form"].(string); ok {
			say("Must be %s.", words)
		}
		switch {
		case a.Kind == "string" && s.MaxLength != nil && len(s.Enum) == 0:
			say("At most %d characters.", *s.MaxLength)
		case (a.Kind == "int64" || a.Kind == "float64") && s.Min != nil && s.Max != nil:
			say("From %s to %s.", number(*s.Min), number(*s.Max))
		case (a.Kind == "int64" || a.Kind == "float64") && s.Min != nil:
			say("At least %s.", number(*s.Min))
		}
		if most := a.mostItems(); most > 0 && a.Elem != nil {
			say("At most %d elements.", most)
		}
	}
	if a.Mode != computed {
		for _, set := range a.Sets {
			say("%s", set)
		}
	}
	if a.HasDefault && a.Default != nil && (a.Mode == optional && f.resource || a.Mode == optionalComputed && f == dataFlavour) {
		say("Default: `%s`.", literal(a.Default))
	}
	if value := a.ephemeralDefault(); f == ephemeralFlavour && a.Mode == optionalComputed && a.schema != nil && value != "" {
		if a.lifetime() {
			say("Default: `%s`; what a run that crashes leaves behind ends by then.", strings.Trim(strings.TrimPrefix(value, "types.Int64Value"), "()"))
		} else {
			say("Default: `%s`.", literal(a.Default))
		}
	}
	if a.References != "" {
		say("Refers to a [%s](%s.md).", strings.ReplaceAll(a.References, "_", " "), a.References)
	}
	switch {
	case a.Restored && f.resource:
		say("Never set, Terraform leaves it alone; taken out again, it goes back to what it was at first.")
	case a.OptIn && f.resource:
		say("Unset means that Terraform leaves it alone.")
	}
	if a.Immutable && f.resource && a.Mode != computed {
		say("Forces replacement.")
	}
	return strings.Join(parts, " ")
}

func backquoted(list []any) string {
	var out []string
	for _, v := range list {
		if v != nil {
			out = append(out, fmt.Sprintf("`%v`", v))
		}
	}
	return strings.Join(out, ", ")
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// literal is a default as HCL.
func literal(v any) string {
	switch v := v.(type) {
	case string:
		return strconv.Quote(v)
	case float64:
		return number(v)
	case []any:
		var parts []string
		for _, x := range v {
			parts = append(parts, literal(x))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return fmt.Sprint(v)
}

func spaced(s string) string { return strings.ReplaceAll(s, "_", " ") }

package main

import (
	"fmt"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// conformance is what a test needs to try every attribute of a noun.
type conformance struct {
	Noun, Type, Kind string
	Path             string
	Setup            string // HCL of the objects that the values refer to
	Needs            []string
	Lookup, Parents  []string
	Key, Plural      string
	Attributes       []trial
	Others           []map[string]string
}

// trial is one attribute: values that are right and values that are wrong, as HCL.
type trial struct {
	Name, Default                                                           string
	Required, Immutable, OptIn, WriteOnly, Chosen, Synthetic, Only, Lenient bool
	Values, Invalid, Excludes                                               []string
	Empty                                                                   string
	Flaws                                                                   []flaw
}

// emitCases writes the conformance cases: data, derived from type, enum,
// pattern and range of every attribute.
func emitCases(files tree, m *model) error {
	var list []conformance
	for _, n := range m.Nouns {
		if n.Resource != nil {
			list = append(list, m.conformance(n))
		}
	}
	return files.template("terraform/cases.go", "cases.go.tmpl", list)
}

func (m *model) conformance(n *noun) conformance {
	c := conformance{Noun: n.Name, Type: n.Type, Kind: n.Kind, Path: n.Path, Lookup: n.Lookup, Parents: attributeNames(n.Parents), Key: n.Key, Plural: n.Plural}
	refs := &references{model: m, self: n}
	if n.Kind == kindAdopted {
		refs.need(n.Name)
	}
	for _, a := range n.Resource {
		if a.Mode == computed {
			continue
		}
		t := trial{Name: a.Name, Required: a.Mode == required, Immutable: a.Immutable, OptIn: a.OptIn, WriteOnly: a.WriteOnly, Chosen: a.Mode == optionalComputed, Synthetic: a.Synthetic}
		if a.HasDefault && a.Default != nil {
			t.Default = literal(a.Default)
			if a.Kind == "map" {
				t.Default = "{}"
			}
		}
		t.Values = a.values(refs, t.Default)
		t.Invalid, t.Flaws = a.invalid(), a.flawed(refs)
		t.Empty = a.empty(t)
		if a.Parent && n.Example != nil {
			t.Values = t.Values[:1] // the example fits this parent
		}
		t.Lenient = a.lenient()
		value, given := n.exampleValue(a)
		if given {
			t.Default, t.Required, t.Values, t.Empty = "", value != "", nil, ""
			if t.Required {
				t.Values = []string{value}
			}
		}
		for _, set := range append(slices.Clone(n.OneOf), n.AtMostOneOf...) {
			if slices.Contains(set, a.Name) {
				t.Excludes = append(t.Excludes, slices.DeleteFunc(slices.Clone(set), func(s string) bool { return s == a.Name })...)
				t.Required = t.Required && given || !given && slices.Contains(firsts(n.OneOf), a.Name)
			}
		}
		for _, set := range n.AtLeastOneOf {
			t.Only = t.Only || set[0] == a.Name
			t.Required = t.Required || set[0] == a.Name
		}
		c.Attributes = append(c.Attributes, t)
	}
	c.Others = n.others(refs, c.Attributes)
	c.Setup, c.Needs = refs.hcl(), refs.adopted
	return c
}

// exampleValue is the value that the example of the request gives to an
// attribute. A rule that spans several attributes, such as an e-mail address
// for people only, is none of JSON Schema; the example then tells a smallest
// object that the server takes. The value is empty for null: what does not go
// together with the rest.
func (n *noun) exampleValue(a *attribute) (value string, given bool) {
	if a.Within != "" {
		return "", false
	}
	return valueIn(n.Example, a)
}

func valueIn(example map[string]any, a *attribute) (value string, given bool) {
	v, given := example[a.Wire]
	if !given || v == nil {
		return "", given
	}
	return literal(v), true
}

// chosen reports an attribute that a smallest object sets although it is not
// required: the first of those of which one is needed.
func (n *noun) chosen(a *attribute) bool {
	return slices.Contains(firsts(n.OneOf), a.Name) || slices.Contains(firsts(n.AtLeastOneOf), a.Name)
}

func firsts(sets [][]string) []string {
	var out []string
	for _, s := range sets {
		out = append(out, s[0])
	}
	return out
}

// references collects what the values of a case refer to. An adopted object
// cannot be made by Terraform: its id stands as {{noun:number}} in the text,
// for the test to fill in.
type references struct {
	model   *model
	self    *noun
	example bool // for readers: good names, and data sources for what is adopted
	adopted []string
	made    []string
	blocks  []string
}

func (r *references) need(name string) {
	if !slices.Contains(r.adopted, name) {
		r.adopted = append(r.adopted, name)
	}
}

// id is the expression of the id of the i-th object of a noun, 1 or 2.
func (r *references) id(name string, i int) string {
	for _, n := range r.model.Nouns {
		if n.Name != name {
			continue
		}
		if r.example {
			return r.exampleID(n)
		}
		if n.Kind != kindCollection {
			r.need(name)
			return fmt.Sprintf("%q", fmt.Sprintf("{{%s:%d}}", name, i))
		}
		label := fmt.Sprintf("%s.ref%d", n.Type, i)
		if !slices.Contains(r.made, label) {
			r.made = append(r.made, label)
			r.blocks = append(r.blocks, r.block(n, i))
		}
		return label + "." + n.Key
	}
	return `"none"`
}

// exampleID is the expression of the id of an object that a reader has.
func (r *references) exampleID(n *noun) string {
	label, block := n.Type+".other", ""
	switch {
	case n.Kind == kindCollection:
		block = strings.ReplaceAll(r.block(n, 1), `"ref1"`, `"other"`)
	case len(n.Lookup) > 0:
		label = "data." + label
		block = fmt.Sprintf("data %q \"other\" {\n  %s = \"laptop\"\n}\n", n.Type, n.Lookup[0])
	default:
		list := r.model.Provider + "_" + n.Plural
		label = fmt.Sprintf("data.%s.all.%s[0]", list, n.Plural)
		block = fmt.Sprintf("data %q \"all\" {}\n", list)
	}
	if !slices.Contains(r.made, label) {
		r.made = append(r.made, label)
		r.blocks = append(r.blocks, block)
	}
	return label + "." + n.Key
}

// block is a minimal object to refer to.
func (r *references) block(n *noun, i int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "resource %q \"ref%d\" {\n", n.Type, i)
	for _, a := range n.Resource {
		given, needed := n.exampleValue(a)
		if !needed && a.Mode != required && !n.chosen(a) || needed && given == "" {
			continue
		}
		value := cmpOr(given, pick(a.values(r, ""), i-1))
		if a.Name == "name" {
			value = strconv.Quote(fmt.Sprintf("ref%d", i))
		}
		fmt.Fprintf(&b, "  %s = %s\n", a.Name, value)
	}
	b.WriteString("}\n")
	return b.String()
}

func (r *references) hcl() string { return strings.Join(r.blocks, "\n") }

func pick(list []string, i int) string {
	if len(list) == 0 {
		return "null"
	}
	return list[min(i, len(list)-1)]
}

// values are right values, none of them the default, the plainest first.
func (a *attribute) values(r *references, without string) []string {
	var out []string
	add := func(v string) {
		if v != without && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	var s *openapi3.Schema
	if a.schema != nil {
		s = withoutNull(a.schema)
	}
	switch a.Kind {
	case "bool":
		add("true")
		add("false")
	case "int64", "float64":
		low, high := bounds(s)
		if r.example {
			add(number(plausible(a, low, high)))
		}
		for _, v := range []float64{low + 1, low + 2, low} {
			if v <= high {
				add(number(v))
			}
		}
	case "string":
		for _, v := range a.texts(r, s) {
			add(v)
		}
	case "set", "list":
		elems := a.Elem.values(r, "")
		add("[" + pick(elems, 0) + "]")
		if len(elems) > 1 && elems[0] != elems[1] && (s == nil || s.MaxItems == nil || *s.MaxItems > 1) {
			add("[" + elems[0] + ", " + elems[1] + "]")
		}
	case "map":
		elems := a.Elem.values(r, "")
		if r.example {
			add("{\n\"one\" = " + pick(elems, 0) + "\n}")
			add("{\n\"one\" = " + pick(elems, 0) + "\n\"two\" = " + pick(elems, 1) + "\n}")
			break
		}
		add(`{ "one" = ` + pick(elems, 0) + ` }`)
		add(`{ "one" = ` + pick(elems, 1) + `, "two" = ` + pick(elems, 0) + ` }`)
		if len(elems) > 2 {
			add(`{ "one" = ` + elems[2] + ` }`)
		}
	case "object":
		add(a.objectValue(r, a.chosenMembers(false)))
		add(a.objectValue(r, a.chosenMembers(true)))
		if !r.example {
			add(a.objectValue(r, a.firstMembers()))
		}
	}
	return out
}

// plausible is a number that a reader would write: a port, a day in seconds or
// a quarter in days as the life of something, else ten.
func plausible(a *attribute, low, high float64) float64 {
	v := 10.0
	switch {
	case high == 65535:
		v = 443
	case a.lifetime() && high > 86400:
		v = 86400
	case a.lifetime():
		v = 90
	}
	return max(low, min(v, high))
}

func bounds(s *openapi3.Schema) (low, high float64) {
	high = 1e9
	if s != nil && s.Min != nil {
		low = *s.Min
	}
	if s != nil && s.Max != nil {
		high = *s.Max
	}
	return low, high
}

// objectValue is an object with these members.
func (a *attribute) objectValue(r *references, members []*attribute) string {
	var parts []string
	for _, f := range members {
		parts = append(parts, f.member(r)...)
	}
	if r.example {
		return "{\n" + strings.Join(parts, "\n") + "\n}"
	}
	return "{ " + strings.Join(parts, ", ") + " }"
}

// member is the field with a value that is not its default; nothing when an
// optional one has no other.
func (a *attribute) member(r *references) []string {
	value := ""
	if a.HasDefault && a.Default != nil {
		value = literal(a.Default)
	}
	values := a.values(r, value)
	if len(values) == 0 && a.Mode != required {
		return nil
	}
	return []string{a.Name + " = " + pick(values, 0)}
}

// chosenMembers are the fields that a smallest or a full object sets: of
// either-or fields the first, or the last.
func (a *attribute) chosenMembers(full bool) []*attribute {
	var out []*attribute
	for _, f := range a.Fields {
		if f.Mode == computed {
			continue
		}
		use := full || f.Mode == required
		for _, set := range a.OneOf {
			if i := slices.Index(set, f.Name); i >= 0 {
				use = !full && i == 0 || full && i == len(set)-1
			}
		}
		for _, set := range a.AtMostOneOf {
			if i := slices.Index(set, f.Name); i >= 0 {
				use = full && i == len(set)-1
			}
		}
		if use || slices.Contains(firsts(a.AtLeastOneOf), f.Name) {
			out = append(out, f)
		}
	}
	return out
}

// firstMembers are the fields of a full object with the first of either-or
// fields in the place of the last.
func (a *attribute) firstMembers() []*attribute {
	sets := append(slices.Clone(a.OneOf), a.AtMostOneOf...)
	var out []*attribute
	for _, f := range a.Fields {
		apart := slices.ContainsFunc(sets, func(set []string) bool { return slices.Contains(set[1:], f.Name) })
		if f.Mode != computed && !apart {
			out = append(out, f)
		}
	}
	return out
}

func (a *attribute) texts(r *references, s *openapi3.Schema) []string {
	if a.References != "" || a.Parent {
		return []string{r.id(a.References, 1), r.id(a.References, 2)}
	}
	if s == nil {
		return []string{`"one"`, `"two"`}
	}
	if r.example && a.Name == "name" {
		return []string{`"example"`}
	}
	if r.example && a.Name == "description" {
		return []string{`"Declared in Terraform."`}
	}
	if len(s.Enum) > 0 {
		var out []string
		for _, v := range s.Enum {
			if v != nil {
				out = append(out, strconv.Quote(fmt.Sprint(v)))
			}
		}
		return out
	}
	if text, ok := s.Example.(string); ok {
		out := []string{strconv.Quote(text)}
		for _, more := range s.Examples {
			out = append(out, strconv.Quote(fmt.Sprint(more)))
		}
		return out
	}
	if s.Pattern != "" {
		return []string{strconv.Quote(sample(s.Pattern, 0)), strconv.Quote(sample(s.Pattern, 1))}
	}
	switch s.Format {
	case "ipv4", "ip":
		return []string{`"100.64.0.101"`, `"100.64.0.102"`}
	case "ipv6":
		return []string{`"fd00::1"`, `"fd00::2"`}
	case "cidr":
		return []string{`"10.10.0.0/16"`, `"10.11.0.0/16"`}
	case "hostname", "dns-name", "wildcard-dns-name":
		return []string{`"one.example.org"`, `"two.example.org"`}
	case "domain":
		return []string{`"one.example.org"`, `"*.example.org"`}
	case "destination":
		return []string{`"192.0.2.10"`, `"198.51.100.0/24"`}
	case "uri":
		return []string{`"https://one.example.org"`, `"https://two.example.org"`}
	case "date-time", "instant":
		return []string{`"2031-01-02T03:04:05Z"`, `"2032-01-02T03:04:05Z"`}
	}
	return []string{strconv.Quote(padded("first", s)), strconv.Quote(padded("second", s))}
}

func padded(text string, s *openapi3.Schema) string {
	for uint64(len(text)) < s.MinLength {
		text += "x"
	}
	if s.MaxLength != nil && uint64(len(text)) > *s.MaxLength {
		text = text[:*s.MaxLength]
	}
	return text
}

// sample is a text that matches a pattern; variant 1 differs from variant 0
// where the pattern leaves a choice.
func sample(pattern string, variant int) string {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return ""
	}
	var walk func(re *syntax.Regexp) string
	walk = func(re *syntax.Regexp) string {
		switch re.Op {
		case syntax.OpLiteral:
			return string(re.Rune)
		case syntax.OpCharClass:
			first := re.Rune[0]
			for i := 0; i < len(re.Rune); i += 2 { // prefer a letter or digit
				if r := re.Rune[i]; r >= '0' && r <= '9' || r >= 'a' && r <= 'z' {
					first = r
					if variant > 0 && re.Rune[i+1] > r {
						first = r + 1
					}
					break
				}
			}
			if first < ' ' {
				first = 'a' + rune(variant)
			}
			return string(first)
		case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
			return string(rune('a' + variant))
		case syntax.OpPlus, syntax.OpCapture:
			return walk(re.Sub[0])
		case syntax.OpRepeat:
			return strings.Repeat(walk(re.Sub[0]), re.Min)
		case syntax.OpAlternate:
			return walk(re.Sub[0])
		case syntax.OpConcat:
			var text strings.Builder
			for _, sub := range re.Sub {
				text.WriteString(walk(sub))
			}
			return text.String()
		}
		return ""
	}
	return walk(re.Simplify())
}

package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclwrite"
)

// emitDocs writes the registry pages: Markdown with an example, every
// attribute with what holds for it, and how to import.
func emitDocs(files tree, m *model) error {
	tasks, err := guideList()
	if err != nil {
		return err
	}
	files["docs/index.md"] = []byte(m.indexPage(tasks))
	for _, n := range m.Nouns {
		if n.Resource != nil {
			files["docs/resources/"+n.Name+".md"] = []byte(m.resourcePage(n))
		}
		files["docs/data-sources/"+n.Name+".md"] = []byte(m.dataPage(n))
		if n.List != nil {
			files["docs/data-sources/"+n.Plural+".md"] = []byte(m.listPage(n))
			if n.Resource != nil {
				files["docs/list-resources/"+n.Name+".md"] = []byte(m.queryPage(n))
			}
		}
		if n.Ephemeral() {
			files["docs/ephemeral-resources/"+n.Name+".md"] = []byte(m.ephemeralPage(n))
		}
	}
	for _, a := range m.Actions {
		files["docs/actions/"+a.Name+".md"] = []byte(m.actionPage(a))
	}
	return pages(files, m.Provider)
}

// pages copies what the provider's own code documents by hand: functions, and
// data sources of no noun.
func pages(files tree, provider string) error {
	err := fs.WalkDir(staticFiles, "static/pages", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		raw, err := staticFiles.ReadFile(path)
		if err != nil {
			return err
		}
		return files.put("docs"+strings.TrimPrefix(path, "static/pages"), bytes.ReplaceAll(raw, []byte("{{PROVIDER}}"), []byte(provider)))
	})
	if err != nil {
		return fmt.Errorf("copy the pages: %w", err)
	}
	return nil
}

// emitExamples writes Terraform files that a reader can apply.
func emitExamples(files tree, m *model) {
	for _, n := range m.Nouns {
		if n.Resource == nil {
			continue
		}
		folder := n.Type + "/"
		minimal, full := m.example(n, false), m.example(n, true)
		files[folder+"minimal/main.tf"] = []byte(m.prelude() + minimal)
		if full != minimal {
			files[folder+"full/main.tf"] = []byte(m.prelude() + full)
		}
	}
}

// prelude is what a file that is applied by itself begins with.
func (m *model) prelude() string {
	return fmt.Sprintf("terraform {\n  required_providers {\n    %s = {\n      source = \"wattlenet/wattle\"\n    }\n  }\n}\n\n", m.Provider)
}

func page(title, kind, description string) *strings.Builder {
	b := &strings.Builder{}
	fmt.Fprintf(b, "---\npage_title: %q\nsubcategory: \"\"\ndescription: |-\n  %s\n---\n\n# %s (%s)\n\n%s\n", title, oneline(description), title, kind, oneline(description))
	return b
}

func code(b *strings.Builder, language, text string) {
	fmt.Fprintf(b, "\n```%s\n%s\n```\n", language, strings.TrimSpace(text))
}

// previewDoc is what the provider's schema says of access_preview.
const previewDoc = "Whether a plan warns which pairs of machines gain or lose access: one request that stores nothing for each changed object whose values are known, at most 20 per plan. A change is only asked about when the plan refreshed the object. `true` by default."

func (m *model) indexPage(tasks string) string {
	b := page(m.Provider, "Provider", "Declares a WireGuard mesh network. Without arguments the provider reads the environment, then the credentials profile that `wattle-server up` wrote.")
	code(b, "terraform", fmt.Sprintf("terraform {\n  required_providers {\n    %s = {\n      source = \"wattlenet/wattle\"\n    }\n  }\n}\n\nprovider %q {}", m.Provider, m.Provider))
	b.WriteString("\n## Resources\n\n")
	for _, n := range m.Nouns {
		if n.Resource != nil {
			fmt.Fprintf(b, "- [`%s`](resources/%s.md): %s\n", n.Type, n.Name, n.resourceDoc())
		}
	}
	b.WriteString(tasks)
	b.WriteString("\n## Schema\n\n### Optional\n\n")
	for _, row := range [][3]string{
		{"access_preview", "Boolean", previewDoc},
		{"account", "String", "Id of the account to work in; an error if the token may not. Else `WATTLE_ACCOUNT`, else the token's own."},
		{"ca_pin", "String", "`sha256:` and the hexadecimal hash of the public key of the control plane's certificate authority. Else `WATTLE_CA_PIN`, else the profile when the url is the profile's."},
		{"profile", "String", "Path of the credentials profile. Else `WATTLE_CREDENTIALS`, else `~/.config/wattle/credentials`."},
		{"token", "String", "Access token, sensitive. Else `WATTLE_TOKEN`, else the profile."},
		{"url", "String", "Address of the control plane. Else `WATTLE_URL`, else the profile."},
	} {
		fmt.Fprintf(b, "- `%s` (%s) %s\n", row[0], row[1], row[2])
	}
	return b.String()
}

// resourceDoc describes the resource. One that takes in what is there says so,
// since others make what they are about.
func (n *noun) resourceDoc() string {
	if n.Kind == kindAdopted {
		is := spaced(n.Name)
		return oneline(fmt.Sprintf("%s This resource makes none: it takes in a %s that is there and changes what is set of it. Destroyed, it only forgets the %s, unless `deregister_on_destroy` is true.", n.Doc, is, is))
	}
	return oneline(n.Doc)
}

// lasting says how a singleton, which is there without Terraform, begins to be
// managed, and what becomes of it in the end.
func (n *noun) lasting() string {
	var back, stay []string
	for _, a := range n.Resource {
		switch {
		case a.Restored:
			back = append(back, a.Name)
		case a.OptIn:
			stay = append(stay, "`"+a.Name+"`")
		}
	}
	text := "\n## Create and Destroy\n\nEach account has these settings once, so there is nothing to import: creating the resource changes what it sets, and nothing else. "
	switch {
	case n.Delete != nil:
		text += "Destroying this resource puts all of it back to what a new account has."
	case len(back) == 0:
		text += "Destroying this resource only forgets it: everything stays as it is, so that nothing changes for machines."
	default:
		text += "Destroying this resource puts back what it managed to what a new account has, and so does taking an attribute out; what it never managed stays as it is."
	}
	if len(back) > 0 && len(stay) > 0 {
		text += " " + strings.Join(stay, " and ") + " stay in any case: machines are known by them."
	}
	return text + "\n"
}

func (m *model) resourcePage(n *noun) string {
	b := page(n.Type, "Resource", n.resourceDoc())
	b.WriteString("\n## Example Usage\n\n### Minimal\n")
	minimal, full := m.example(n, false), m.example(n, true)
	code(b, "terraform", minimal)
	if full != minimal {
		b.WriteString("\n### Everything set\n")
		code(b, "terraform", full)
	}
	schemaSection(b, n.Resource, resourceFlavour)
	if n.Key == "" {
		b.WriteString(n.lasting())
		return b.String()
	}
	b.WriteString("\n## Import\n\nBy id, with Terraform 1.5 or newer:\n")
	code(b, "terraform", n.importBlock(m.importID(n, n.Key)))
	for _, f := range n.Lookup {
		fmt.Fprintf(b, "\nBy %s:\n", spaced(f))
		code(b, "terraform", n.importBlock(m.importID(n, f)))
	}
	b.WriteString("\nBy identity, with Terraform 1.12 or newer:\n")
	var identity strings.Builder
	for _, p := range append(attributeNames(n.Parents), n.Key) {
		fmt.Fprintf(&identity, "    %s = %q\n", p, strings.ToUpper(p))
	}
	code(b, "terraform", string(hclwrite.Format(fmt.Appendf(nil, "import {\n  to = %s.example\n  identity = {\n%s  }\n}\n", n.Type, identity.String()))))
	b.WriteString("\nOn the command line:\n")
	code(b, "shell", fmt.Sprintf("terraform import %s.example '%s'", n.Type, m.importID(n, n.Key)))
	return b.String()
}

// importID is what an import names an object by: its id, or a plausible value of
// a field that looks it up.
func (m *model) importID(n *noun, field string) string {
	var parts []string
	for _, p := range n.Parents {
		parts = append(parts, strings.ToUpper(p.Name))
	}
	if field == n.Key {
		return strings.Join(append(parts, strings.ToUpper(n.Key)), "/")
	}
	value := "example"
	refs := &references{model: m, self: n, example: true}
	for _, a := range n.Resource {
		if a.Name == field {
			value = strings.Trim(pick(a.values(refs, ""), 0), `"`)
		}
	}
	return strings.Join(append(parts, field+"="+value), "/")
}

func (n *noun) importBlock(id string) string {
	return fmt.Sprintf("import {\n  to = %s.example\n  id = %q\n}\n", n.Type, id)
}

func (m *model) dataPage(n *noun) string {
	b := page(n.Type, "Data Source", n.dataDoc())
	b.WriteString("\n## Example Usage\n")
	var args strings.Builder
	for _, p := range n.Parents {
		fmt.Fprintf(&args, "  %s = %q\n", p.Name, strings.ToUpper(p.Name))
	}
	switch {
	case len(n.Lookup) > 0:
		fmt.Fprintf(&args, "  %s = \"example\"\n", n.Lookup[0])
	case n.Key != "":
		fmt.Fprintf(&args, "  %s = %q\n", n.Key, strings.ToUpper(n.Key))
	case n.Kind == kindRendered:
		m.renderedArguments(&args, n)
	}
	code(b, "terraform", string(hclwrite.Format(fmt.Appendf(nil, "data %q \"example\" {\n%s}\n", n.Type, args.String()))))
	list := n.Data
	if n.Kind == kindAdopted {
		list = append(slices.Clone(list), &attribute{Name: "wait_for", Kind: "string", Mode: optional, Description: "How long to wait until the " + spaced(n.Name) + " is there, such as `5m`."})
	}
	schemaSection(b, list, dataFlavour)
	return b.String()
}

// renderedArguments are the arguments that a rendered noun needs, and those
// for which the contract has an example.
func (m *model) renderedArguments(b *strings.Builder, n *noun) {
	refs := &references{model: m, self: n, example: true}
	for _, a := range n.Data {
		needed := a.Mode == required || n.chosen(a)
		switch {
		case a.Mode == computed:
		case a.schema != nil && a.schema.Example != nil:
			fmt.Fprintf(b, "  %s = %s\n", a.Name, literal(a.schema.Example))
		case needed:
			fmt.Fprintf(b, "  %s = %s\n", a.Name, pick(a.values(refs, ""), 0))
		}
	}
}

func (m *model) listPage(n *noun) string {
	b := page(m.Provider+"_"+n.Plural, "Data Source", "Lists "+spaced(n.Plural)+". "+n.Doc)
	b.WriteString("\n## Example Usage\n")
	var args strings.Builder
	for _, p := range n.Parents {
		fmt.Fprintf(&args, "  %s = %q\n", p.Name, strings.ToUpper(p.Name))
	}
	block := "{}"
	if args.Len() > 0 {
		block = "{\n" + args.String() + "}"
	}
	code(b, "terraform", fmt.Sprintf("data \"%s_%s\" \"all\" %s\n", m.Provider, n.Plural, block))
	list := n.listArguments()
	element := &attribute{Kind: "object", Struct: n.Go}
	for _, a := range n.Data {
		read := *a
		read.Mode = computed
		element.Fields = append(element.Fields, &read)
	}
	list = append(list, &attribute{Name: n.Plural, Kind: "list", Mode: computed, Elem: element, Description: "What was found, in the order of creation."})
	schemaSection(b, list, dataFlavour)
	return b.String()
}

// listArguments are the parents and the filters of a list.
func (n *noun) listArguments() []*attribute {
	list := slices.Clone(n.Parents)
	for _, q := range n.filters() {
		kind := map[string]string{"int64": "int64", "bool": "bool", "set": "set"}[q.FilterType()]
		a := &attribute{Name: snake(q.Wire), Kind: "string", Mode: optional, Description: q.Doc}
		if kind != "" {
			a.Kind = kind
		}
		if kind == "set" {
			a.Elem = &attribute{Kind: "string"}
		}
		list = append(list, a)
	}
	return list
}

// queryPage is about the list resource, which finds what no configuration
// manages yet.
func (m *model) queryPage(n *noun) string {
	b := page(n.Type, "List Resource", fmt.Sprintf("Finds %s that no configuration manages yet, and writes their import blocks. %s", spaced(n.Plural), n.Doc))
	b.WriteString("\n## Example Usage\n\nIn a file such as `find.tfquery.hcl`, with Terraform 1.14 or newer:\n")
	config := ""
	for _, p := range n.Parents {
		config += fmt.Sprintf("    %s = %q\n", p.Name, strings.ToUpper(p.Name))
	}
	if config != "" {
		config = "  config {\n" + config + "  }\n"
	}
	code(b, "terraform", string(hclwrite.Format(fmt.Appendf(nil, "list %q \"all\" {\n  provider = %s\n%s}\n", n.Type, m.Provider, config))))
	b.WriteString("\nShow what is there, and write configuration and import blocks:\n")
	code(b, "shell", "terraform query\nterraform query -generate-config-out=found.tf")
	list := n.listArguments()
	for _, a := range list {
		if a.Kind == "set" { // a list block has no sets
			a.Kind = "list"
		}
	}
	if len(list) > 0 {
		schemaSection(b, list, dataFlavour)
	}
	return b.String()
}

func (m *model) ephemeralPage(n *noun) string {
	b := page(n.Type, "Ephemeral Resource", fmt.Sprintf("Makes a %s for this run and removes it at the end; its secret stands in no state. %s", spaced(n.Name), n.Doc))
	b.WriteString("\n## Example Usage\n")
	refs := &references{model: m, self: n, example: true}
	list := (&nounPage{noun: n, model: m}).ephemeralAttributes()
	var body strings.Builder
	for _, a := range list {
		if a.Mode == required {
			fmt.Fprintf(&body, "  %s = %s\n", a.Name, pick(a.values(refs, ""), 0))
		}
	}
	code(b, "terraform", string(hclwrite.Format(fmt.Appendf(nil, "ephemeral %q \"example\" {\n%s}\n", n.Type, body.String()))))
	schemaSection(b, list, ephemeralFlavour)
	return b.String()
}

// schemaSection lists the attributes by who decides them.
func schemaSection(b *strings.Builder, list []*attribute, f flavour) {
	b.WriteString("\n## Schema\n")
	for _, part := range []struct {
		title string
		modes []mode
	}{{"Required", []mode{required}}, {"Optional", []mode{optional, optionalComputed}}, {"Read-Only", []mode{computed}}} {
		first := true
		for _, a := range list {
			if !slices.Contains(part.modes, a.Mode) {
				continue
			}
			if first {
				fmt.Fprintf(b, "\n### %s\n\n", part.title)
				first = false
			}
			attributeLines(b, a, f, "")
		}
	}
}

func attributeLines(b *strings.Builder, a *attribute, f flavour, indent string) {
	notes := a.kindName()
	if a.Sensitive {
		notes += ", Sensitive"
	}
	if a.WriteOnly && f.resource {
		notes += ", Write-only"
	}
	fmt.Fprintf(b, "%s- `%s` (%s) %s\n", indent, a.Name, notes, a.markdown(f))
	fields := a.Fields
	if a.Elem != nil {
		fields = a.Elem.Fields
	}
	for _, m := range fields {
		c := *m
		if c.Mode == required && f.resource {
			c.Description = "Required. " + oneline(c.Description)
		}
		attributeLines(b, &c, f, indent+"  ")
	}
}

func (a *attribute) kindName() string {
	names := map[string]string{"string": "String", "int64": "Number", "float64": "Number", "bool": "Boolean", "object": "Object"}
	if a.Elem == nil {
		return names[a.Kind]
	}
	inner := names[a.Elem.Kind]
	if a.Elem.Elem != nil {
		inner = a.Elem.kindName()
	}
	return strings.ToUpper(a.Kind[:1]) + a.Kind[1:] + " of " + inner
}

// nameFirst is how a person writes a block.
func nameFirst(list []*attribute) []*attribute {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b *attribute) int {
		switch {
		case a.Name == b.Name:
			return 0
		case a.Name == "name":
			return -1
		case b.Name == "name":
			return 1
		}
		return 0
	})
	return list
}

// example is a Terraform file with the noun and what it refers to.
func (m *model) example(n *noun, full bool) string {
	refs := &references{model: m, self: n, example: true}
	var body strings.Builder
	for _, a := range nameFirst(n.Resource) {
		given, chosen := n.exampleValue(a)
		excluded := chosen && given == ""
		for _, set := range append(slices.Clone(n.OneOf), n.AtMostOneOf...) {
			excluded = excluded || !chosen && slices.Index(set, a.Name) > 0
		}
		needed := a.Mode == required || chosen || n.chosen(a)
		if a.Mode == computed || a.Synthetic || a.WriteOnly || excluded || a.Wire == "revoked" || !needed && !full {
			continue
		}
		without := ""
		if a.HasDefault && a.Default != nil {
			without = literal(a.Default)
		}
		values := a.values(refs, without)
		if chosen {
			values = []string{given}
		}
		if len(values) == 0 {
			continue
		}
		i := 0
		if full && a.Elem != nil && a.Elem.Kind == "object" {
			i = 1
		}
		fmt.Fprintf(&body, "  %s = %s\n", a.Name, pick(values, i))
	}
	text := fmt.Sprintf("resource %q \"example\" {\n%s}\n", n.Type, body.String())
	for i, label := range slices.Backward(refs.made) {
		if strings.Contains(text, label+".") || strings.Contains(text, label+"[") {
			text = refs.blocks[i] + "\n" + text
		}
	}
	return string(hclwrite.Format([]byte(text)))
}

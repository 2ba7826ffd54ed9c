package main

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclwrite"
)

// action is an operation that Terraform runs when it is told to, without
// anything to keep afterwards: x-terraform-action names it.
type action struct {
	Name, Type string // revoke_setup_key, wattle_revoke_setup_key
	*operation
}

var actionName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// lintAction refuses an action that Terraform could not run: it is given ids
// and nothing else.
func (l *linter) lintAction(at, method string, o map[string]any, body bool) {
	at += "/x-terraform-action"
	for _, key := range l.doc.keys(at) {
		if key != "name" {
			l.add(at+"/"+key, "R12", "%s is no word of x-terraform-action; known are name", key)
		}
	}
	name, _ := o["name"].(string)
	switch {
	case !actionName.MatchString(name):
		l.add(at, "action", "needs a name in lower-case letters, digits and underscores")
	case slices.Contains(l.actions, name):
		l.add(at+"/name", "action", "%s names another action already", name)
	case method == http.MethodGet:
		l.add(at, "action", "%s only reads: what is read is a data source", name)
	case body:
		l.add(at, "action", "%s needs a body: an action is given the ids of its path and nothing else", name)
	}
	l.actions = append(l.actions, name)
}

// newActions are the actions of the contract, sorted by name.
func newActions(m *model) []*action {
	var out []*action
	for _, o := range m.Operations {
		ext, ok := o.op.Extensions["x-terraform-action"].(map[string]any)
		if !ok {
			continue
		}
		name := fmt.Sprint(ext["name"])
		out = append(out, &action{Name: name, Type: m.Provider + "_" + name, operation: o})
	}
	slices.SortFunc(out, func(a, b *action) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Description is what the action does.
func (a *action) Description() string { return oneline(a.Doc) }

// Arguments are the ids in the call of the SDK.
func (a *action) Arguments() string { return idArguments(a.operation) }

func (m *model) actionPage(a *action) string {
	b := page(a.Type, "Action", a.Description())
	b.WriteString("\n## Example Usage\n")
	var config strings.Builder
	for _, p := range a.PathParams {
		fmt.Fprintf(&config, "    %s = %q\n", p.Wire, strings.ToUpper(p.Wire))
	}
	code(b, "terraform", string(hclwrite.Format(fmt.Appendf(nil, "action %q \"example\" {\n  config {\n%s  }\n}\n", a.Type, config.String()))))
	b.WriteString("\nBy hand, with Terraform 1.14 or newer:\n")
	code(b, "shell", fmt.Sprintf("terraform apply -invoke=action.%s.example", a.Type))
	b.WriteString("\nWhen something happens to a resource:\n")
	code(b, "terraform", fmt.Sprintf("lifecycle {\n  action_trigger {\n    events  = [after_update]\n    actions = [action.%s.example]\n  }\n}", a.Type))
	b.WriteString("\n## Schema\n\n### Required\n\n")
	for _, p := range a.PathParams {
		fmt.Fprintf(b, "- `%s` (String) %s\n", p.Wire, oneline(p.Doc))
	}
	return b.String()
}

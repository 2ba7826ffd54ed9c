package runtime

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/generated/sdk"
	"github.com/wattlenet/wattle/generated/terraform"
)

// explain turns an error into diagnostics: a refused field stands on its
// attribute, an object in use shows what uses it, a missing permission and a
// parent that is gone are named. A nil error adds nothing. plan may be nil.
func (r *nounResource) explain(ctx context.Context, d *diag.Diagnostics, action string, plan attributes, err error) {
	if err == nil {
		return
	}
	summary := fmt.Sprintf("Cannot %s %s", action, spaced(r.noun.Name))
	if changed, ok := errors.AsType[*changedError](err); ok {
		d.AddError(summary, fmt.Sprintf("It changed since it was planned: %s. Plan again to see what is there now.", strings.Join(changed.attributes, ", ")))
		return
	}
	p, ok := sdk.AsProblem(err)
	if !ok {
		d.AddError(summary, sentence(err.Error()))
		return
	}
	if p.Errors == nil || len(*p.Errors) == 0 {
		if at := r.missing(err, plan); at != "" {
			d.AddAttributeError(path.Root(at), summary, fmt.Sprintf("Attribute %s leads nowhere: what it named was removed, or is of another kind. %s", at, describe(p, err)))
		} else {
			d.AddError(summary, describe(p, err))
		}
		return
	}
	for _, fault := range *p.Errors {
		at, rest := attributePath(ctx, r.noun.Fields, fault.Field, plan)
		text := fault.Detail
		if rest != "" {
			text = fmt.Sprintf("%s: %s", rest, text)
		}
		if len(at.Steps()) == 0 {
			d.AddError(summary, sentence(text))
			continue
		}
		if !pointed(ctx, at, plan) {
			text = fmt.Sprintf("Attribute %s: %s", at, text)
		}
		text = sentence(text)
		if name := at.String(); action == "create" && sdk.IsConflict(err) && slices.Contains(r.noun.Lookup, name) {
			text += fmt.Sprintf(" Choose another %s, or import the one that is there; the import id ends with %s=VALUE.", name, name)
		}
		d.AddAttributeError(at, summary, text)
	}
}

// missing names the attribute with the id of what the server did not find, when
// a plan was carried out: that of the parent, or of the object that is adopted.
func (r *nounResource) missing(err error, plan attributes) string {
	switch {
	case plan == nil || !sdk.IsNotFound(err):
		return ""
	case len(r.noun.Parents) > 0:
		return r.noun.Parents[len(r.noun.Parents)-1]
	case r.noun.Kind == terraform.Adopted:
		return r.noun.Key
	}
	return ""
}

// pointed reports whether Terraform shows the attribute in the configuration:
// one at the top that has a value.
func pointed(ctx context.Context, at path.Path, plan attributes) bool {
	if len(at.Steps()) > 1 || plan == nil {
		return false
	}
	var v attr.Value
	return !plan.GetAttribute(ctx, at, &v).HasError() && v != nil && !v.IsNull()
}

// describe is a problem in sentences: what happened and what to do.
func describe(p api.Problem, err error) string {
	var text strings.Builder
	text.WriteString(sentence(p.Error()))
	switch {
	case sdk.IsForbidden(err) && p.Permission != nil && *p.Permission != "":
		fmt.Fprintf(&text, " The token's role lacks the permission %s; use the token of a user whose role has it.", *p.Permission)
	case sdk.IsUnauthenticated(err):
		text.WriteString(" Check the provider's token, WATTLE_TOKEN or the credentials profile.")
	case sdk.IsPreconditionFailed(err) && !inUse(err):
		text.WriteString(" Plan again if something else changed the object meanwhile.")
	}
	if p.Referrers != nil && len(*p.Referrers) > 0 {
		text.WriteString("\n\nIt is used by:")
		for _, ref := range *p.Referrers {
			fmt.Fprintf(&text, "\n  %s %q (%s), field %s", strings.ReplaceAll(spaced(ref.Type), "-", " "), ref.Name, ref.Id, ref.Field)
		}
	}
	if sdk.IsInUse(err) {
		text.WriteString("\n\nTerraform destroys what is taken out of a configuration before it changes what named it. Take the reference out first and apply, or give what is destroyed a lifecycle with create_before_destroy = true.")
	}
	if p.RequestId != "" {
		fmt.Fprintf(&text, "\n\nRequest id: %s", p.RequestId)
	}
	return text.String()
}

// attributePath follows a field such as rules[1].ports[0] through the noun's
// attributes. What lies inside a set has no path of its own and comes back as
// rest.
func attributePath(ctx context.Context, fields []terraform.Field, field string, plan attributes) (at path.Path, rest string) {
	at = path.Empty()
	for field != "" {
		name, index, after := cutField(field)
		i := slices.IndexFunc(fields, func(f terraform.Field) bool { return f.Wire == name })
		if i < 0 {
			return at, field
		}
		f := fields[i]
		if f.Kind != "flat" {
			at = at.AtName(f.Name)
		}
		switch {
		case index < 0:
		case f.Kind == "list":
			at = at.AtListIndex(index)
		case f.Kind == "keyed":
			key, ok := keyAt(ctx, plan, at, index)
			if !ok {
				return at, field
			}
			at = at.AtMapKey(key)
			if after == f.Key {
				return at, ""
			}
		default:
			return at, strings.TrimPrefix(after, ".")
		}
		fields, field = f.Fields, after
	}
	return at, ""
}

// cutField takes the first step off a field: its name, and its index or -1.
func cutField(field string) (name string, index int, rest string) {
	step, rest, _ := strings.Cut(field, ".")
	name, in, ok := strings.Cut(step, "[")
	if !ok {
		return name, -1, rest
	}
	n, err := strconv.Atoi(strings.TrimSuffix(in, "]"))
	if err != nil {
		return name, -1, rest
	}
	return name, n, rest
}

// keyAt is the key of the member of a planned map that was sent at an index:
// members are sent in the order of their keys.
func keyAt(ctx context.Context, plan attributes, at path.Path, index int) (string, bool) {
	if plan == nil {
		return "", false
	}
	var v attr.Value
	if plan.GetAttribute(ctx, at, &v).HasError() {
		return "", false
	}
	m, ok := v.(interface{ Elements() map[string]attr.Value })
	if !ok {
		return "", false
	}
	keys := slices.Sorted(maps.Keys(m.Elements()))
	if index >= len(keys) {
		return "", false
	}
	return keys[index], true
}

// sentence begins with a capital, unless that would change a name such as
// db.example or auto_groups, and ends with a full stop.
func sentence(s string) string {
	s = strings.TrimSpace(s)
	if s == "" {
		return s
	}
	if first, _, _ := strings.Cut(s, " "); !strings.ContainsAny(first, "._@/[:") {
		r, size := utf8.DecodeRuneInString(s)
		s = string(unicode.ToUpper(r)) + s[size:]
	}
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}

// faultList is every refused field in one text.
func faultList(p api.Problem) string {
	var text strings.Builder
	if p.Errors != nil {
		for _, f := range *p.Errors {
			fmt.Fprintf(&text, "\n  %s: %s", f.Field, f.Detail)
		}
	}
	return text.String()
}

package runtime

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/wattlenet/wattle/generated/sdk"
	"github.com/wattlenet/wattle/generated/terraform"
)

// attributes is what plan, state, config and identity have in common.
type attributes interface {
	GetAttribute(context.Context, path.Path, any) diag.Diagnostics
}

// text reads a string attribute; null and unknown are "".
func text(ctx context.Context, from attributes, name string, d *diag.Diagnostics) string {
	var v types.String
	d.Append(from.GetAttribute(ctx, path.Root(name), &v)...)
	return v.ValueString()
}

// parentIDs are the ids of an object's parents.
func parentIDs(ctx context.Context, n *terraform.Noun, from attributes, d *diag.Diagnostics) []string {
	ids := []string{}
	for _, name := range n.Parents {
		ids = append(ids, text(ctx, from, name, d))
	}
	return ids
}

// idNames are the attributes that hold the ids of the parents and the object's
// own.
func idNames(n *terraform.Noun) []string { return append(slices.Clone(n.Parents), n.Key) }

// objectIDs are the ids of the parents and the object's own.
func objectIDs(ctx context.Context, n *terraform.Noun, from attributes, d *diag.Diagnostics) []string {
	ids := parentIDs(ctx, n, from, d)
	if n.Key != "" {
		ids = append(ids, text(ctx, from, n.Key, d))
	}
	return ids
}

// parseImport splits an import id into the ids of the parents and either the
// object's id or a field and value to look it up by:
//
//	ID                 of an object without parents
//	name=VALUE         of the same
//	PARENT/ID          of a child
//	PARENT/name=VALUE  of the same
func parseImport(n *terraform.Noun, id string) (parents []string, key, field, value string, err error) {
	parts := strings.SplitN(id, "/", len(n.Parents)+1)
	if len(parts) != len(n.Parents)+1 {
		return nil, "", "", "", fmt.Errorf("import id %q has %d parts: write it as %s", id, len(parts), importForm(n))
	}
	last := parts[len(parts)-1]
	if slices.Contains(parts, "") {
		return nil, "", "", "", fmt.Errorf("import id %q has an empty part: write it as %s", id, importForm(n))
	}
	for _, f := range n.Lookup {
		if v, ok := strings.CutPrefix(last, f+"="); ok {
			return parts[:len(parts)-1], "", f, v, nil
		}
	}
	if f, _, ok := strings.Cut(last, "="); ok { // no id has one
		return nil, "", "", "", fmt.Errorf("import id %q asks for a %s by %s, by which none is looked up: write it as %s", id, spaced(n.Name), f, importForm(n))
	}
	return parts[:len(parts)-1], last, "", "", nil
}

// importForm says what an import id of the noun looks like.
func importForm(n *terraform.Noun) string {
	var prefix strings.Builder
	for _, p := range n.Parents {
		prefix.WriteString(strings.ToUpper(p) + "/")
	}
	forms := []string{prefix.String() + strings.ToUpper(n.Key)}
	for _, f := range n.Lookup {
		forms = append(forms, prefix.String()+f+"=VALUE")
	}
	return strings.Join(forms, " or ")
}

// lookUp finds the one object whose field has the value. No match and two
// matches are errors; gone reports the first.
func lookUp(ctx context.Context, c *sdk.Client, n *terraform.Noun, parents []string, field, value string) (object any, gone bool, err error) {
	var opts []sdk.CallOption
	for _, f := range n.Filters {
		if f.Name == field {
			opts = append(opts, sdk.Query(f.Wire, value))
		}
	}
	for candidate, err := range n.List(ctx, c, parents, opts...) {
		if sdk.IsNotFound(err) {
			break
		}
		if err != nil {
			return nil, false, err
		}
		got, err := attributeOf(ctx, n, candidate, field)
		if err != nil {
			return nil, false, err
		}
		switch {
		case got != value:
		case object != nil:
			return nil, false, fmt.Errorf("several %s have %s %q: use the id", spaced(n.Plural), field, value)
		default:
			object = candidate
		}
	}
	if object == nil {
		return nil, true, fmt.Errorf("no %s has %s %q", spaced(n.Name), field, value)
	}
	return object, false, nil
}

// attributeOf is the text of one attribute of an object.
func attributeOf(ctx context.Context, n *terraform.Noun, object any, name string) (string, error) {
	var d diag.Diagnostics
	state := dataState(ctx, n, object, &d)
	v := text(ctx, state, name, &d)
	if d.HasError() {
		return "", fmt.Errorf("%s: %s", d.Errors()[0].Summary(), d.Errors()[0].Detail())
	}
	return v, nil
}

// dataState is an object as the state of its data source.
func dataState(ctx context.Context, n *terraform.Noun, object any, d *diag.Diagnostics) tfsdk.State {
	s := n.DataSchema()
	state := tfsdk.State{Schema: s, Raw: tftypes.NewValue(s.Type().TerraformType(ctx), nil)}
	model := n.NewData()
	n.FlattenData(ctx, object, model, d)
	d.Append(state.Set(ctx, model)...)
	return state
}

func spaced(s string) string {
	if rest, ok := strings.CutPrefix(s, "dns_"); ok {
		s = "DNS_" + rest
	}
	return strings.ReplaceAll(s, "_", " ")
}

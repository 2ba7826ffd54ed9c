package runtime

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// ImportState takes an object into the state by its ids, by a field that
// looks it up, or by its identity. A singleton takes any id.
func (r *nounResource) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	d, n := &resp.Diagnostics, r.noun
	if n.Key == "" {
		// Nothing says which object it is; an empty one is for Read to fill.
		if kind, ok := resp.State.Schema.Type().TerraformType(ctx).(tftypes.Object); ok {
			empty := map[string]tftypes.Value{}
			for name, of := range kind.AttributeTypes {
				empty[name] = tftypes.NewValue(of, nil)
			}
			resp.State.Raw = tftypes.NewValue(kind, empty)
		}
		return
	}
	if !r.connected(d) {
		return
	}
	var ids []string
	if req.ID == "" && req.Identity != nil {
		ids = objectIDs(ctx, n, req.Identity, d)
	} else {
		parents, id, field, value, err := parseImport(n, req.ID)
		if err == nil && field != "" {
			var object any
			if object, _, err = lookUp(ctx, r.conn.client, n, parents, field, value); err == nil {
				id = n.ID(object)
			}
		}
		if err != nil {
			d.AddError("Cannot import "+spaced(n.Name), sentence(err.Error()))
			return
		}
		ids = append(parents, id)
	}
	for i, name := range idNames(n) {
		d.Append(resp.State.SetAttribute(ctx, path.Root(name), ids[i])...)
	}
	r.identify(ctx, resp.Identity, ids, d)
	for name, value := range n.Synthetic {
		d.Append(resp.State.SetAttribute(ctx, path.Root(name), value)...)
	}
}

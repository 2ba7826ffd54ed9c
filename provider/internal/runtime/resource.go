package runtime

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/identityschema"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/wattlenet/wattle/generated/sdk"
	"github.com/wattlenet/wattle/generated/terraform"
)

// nounResource is the resource of any noun.
type nounResource struct {
	noun *terraform.Noun
	conn *connection
}

// identifiedResource is the resource of a noun whose objects have ids.
type identifiedResource struct{ nounResource }

var (
	_ resource.ResourceWithModifyPlan     = (*nounResource)(nil)
	_ resource.ResourceWithImportState    = (*nounResource)(nil)
	_ resource.ResourceWithValidateConfig = (*nounResource)(nil)
	_ resource.ResourceWithUpgradeState   = (*nounResource)(nil)
	_ resource.ResourceWithIdentity       = (*identifiedResource)(nil)
)

func (r *nounResource) Metadata(_ context.Context, req resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_" + r.noun.Name
}

func (r *nounResource) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = r.noun.Schema()
}

// IdentitySchema declares the ids that name an object for good.
func (r *identifiedResource) IdentitySchema(_ context.Context, _ resource.IdentitySchemaRequest, resp *resource.IdentitySchemaResponse) {
	resp.IdentitySchema.Attributes = map[string]identityschema.Attribute{}
	for _, name := range idNames(r.noun) {
		resp.IdentitySchema.Attributes[name] = identityschema.StringAttribute{RequiredForImport: true}
	}
}

func (r *nounResource) Configure(_ context.Context, req resource.ConfigureRequest, _ *resource.ConfigureResponse) {
	if c, ok := req.ProviderData.(*connection); ok {
		r.conn = c
	}
}

// connected says that nothing can be done yet when the provider's arguments
// are not known.
func (r *nounResource) connected(d *diag.Diagnostics) bool { return connected(r.conn, d) }

func connected(c *connection, d *diag.Diagnostics) bool {
	if c == nil || c.client == nil {
		d.AddError("The provider is not configured yet", "Its arguments come from values that are only known after the apply. Apply those first, with -target, or give url and token as values that are known.")
		return false
	}
	return true
}

// identify stores the object's ids as its identity.
func (r *nounResource) identify(ctx context.Context, identity *tfsdk.ResourceIdentity, ids []string, d *diag.Diagnostics) {
	if identity == nil || r.noun.Key == "" {
		return
	}
	for i, name := range idNames(r.noun) {
		d.Append(identity.SetAttribute(ctx, path.Root(name), ids[i])...)
	}
}

// private is the part of the state that the user does not see.
type private interface {
	SetKey(context.Context, string, []byte) diag.Diagnostics
}

const markKey = "etag"

// mark says what a state was made from: the version of the object, and the
// shape of the schema, so that another provider version refreshes it.
type mark struct {
	ETag  string `json:"etag"`
	Shape string `json:"shape"`
}

func (r *nounResource) remember(ctx context.Context, to private, object any, d *diag.Diagnostics) {
	r.mark(ctx, to, mark{ETag: revision(r.noun, object), Shape: r.conn.shape(ctx, r.noun)}, d)
}

// rememberVersion is for a state that does not show all of the object: it can
// be written under the condition of its version, but is read again first.
func (r *nounResource) rememberVersion(ctx context.Context, to private, object any, d *diag.Diagnostics) {
	r.mark(ctx, to, mark{ETag: revision(r.noun, object)}, d)
}

func (r *nounResource) mark(ctx context.Context, to private, made mark, d *diag.Diagnostics) {
	if made.ETag == "" {
		return
	}
	raw, err := json.Marshal(made)
	if err != nil { // two texts
		panic(err)
	}
	d.Append(to.SetKey(ctx, markKey, raw)...)
}

// remembering is the private part of a state as it is read.
type remembering interface {
	GetKey(context.Context, string) ([]byte, diag.Diagnostics)
}

// recall reads what remember wrote; nothing is an empty mark.
func recall(ctx context.Context, from remembering, d *diag.Diagnostics) (m mark) {
	raw, more := from.GetKey(ctx, markKey)
	d.Append(more...)
	if len(raw) == 0 || json.Unmarshal(raw, &m) != nil {
		return mark{} // a state of a development version
	}
	return m
}

// Create makes the object, adjusts it when it exists by itself, and stores its
// id before anything else can fail.
func (r *nounResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	d := &resp.Diagnostics
	if !r.connected(d) {
		return
	}
	n, model := r.noun, r.noun.NewModel()
	d.Append(req.Plan.Get(ctx, model)...)
	r.writeOnly(ctx, req.Config, model, d)
	ids := parentIDs(ctx, n, req.Plan, d)
	if d.HasError() {
		return
	}
	object, err := r.make(ctx, req.Plan, ids, model, d)
	r.conn.forget(n, ids)
	if err != nil || d.HasError() {
		r.explain(ctx, d, "create", req.Plan, err)
		return
	}
	if n.Key != "" {
		ids = append(ids, n.ID(object))
		d.Append(resp.State.SetAttribute(ctx, path.Root(n.Key), n.ID(object))...)
	}
	r.identify(ctx, resp.Identity, ids, d)
	r.remember(ctx, resp.Private, object, d)
	n.Flatten(ctx, object, model, d)
	if n.TakeSecrets != nil {
		n.TakeSecrets(model)
	}
	d.Append(resp.State.Set(ctx, model)...)
}

// make is what create means for the noun's kind.
func (r *nounResource) make(ctx context.Context, plan tfsdk.Plan, parents []string, model any, d *diag.Diagnostics) (any, error) {
	n, c := r.noun, r.conn.client
	switch n.Kind {
	case terraform.Singleton:
		return n.Update(ctx, c, nil, model, d)
	case terraform.Adopted:
		ids := objectIDs(ctx, n, plan, d)
		object, err := n.Read(ctx, c, ids)
		if err != nil {
			return nil, err
		}
		if len(r.differing(ctx, plan, object, n.OptIn, d)) == 0 {
			return object, nil
		}
		return n.Update(ctx, c, ids, model, d)
	}
	return n.Create(ctx, c, parents, model, d)
}

// writeOnly puts the write-only values of the configuration, which no plan
// holds, into the model that is sent.
func (r *nounResource) writeOnly(ctx context.Context, config tfsdk.Config, model any, d *diag.Diagnostics) {
	if r.noun.WriteOnly == nil {
		return
	}
	given := r.noun.NewModel()
	d.Append(config.Get(ctx, given)...)
	r.noun.WriteOnly(given, model)
}

// Read refreshes the state. An object of the version that the state was made
// from leaves it untouched; one that is gone leaves the state.
func (r *nounResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	d := &resp.Diagnostics
	n := r.noun
	ids := objectIDs(ctx, n, req.State, d)
	if r.conn == nil || r.conn.client == nil { // not known yet: the state stays as it is
		r.identify(ctx, resp.Identity, ids, d)
		return
	}
	if d.HasError() {
		return
	}
	object, err := r.read(ctx, ids)
	switch {
	case sdk.IsNotFound(err):
		r.identify(ctx, resp.Identity, ids, d) // the framework asks for it even so
		resp.State.RemoveResource(ctx)
		return
	case err != nil:
		r.explain(ctx, d, "read", nil, err)
		return
	}
	r.identify(ctx, resp.Identity, ids, d)
	made, state := recall(ctx, req.Private, d), req.State
	switch {
	case made == (mark{}): // an import
		state = r.wondering(state)
	case made == mark{revision(n, object), r.conn.shape(ctx, n)}:
		return
	}
	model := n.NewModel()
	d.Append(state.Get(ctx, model)...)
	n.Flatten(ctx, object, model, d)
	d.Append(resp.State.Set(ctx, model)...)
	r.remember(ctx, resp.Private, object, d)
}

// Update replaces the object if it is still what the plan was made from.
func (r *nounResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	d := &resp.Diagnostics
	if !r.connected(d) {
		return
	}
	n, model, before := r.noun, r.noun.NewModel(), r.noun.NewModel()
	rest := r.unasked(ctx, req.Config, d)
	plan, state := req.Plan, req.State
	plan.Raw, state.Raw = without(plan.Raw, rest), without(state.Raw, rest)
	d.Append(plan.Get(ctx, model)...)
	d.Append(state.Get(ctx, before)...)
	if n.SecretsChanged != nil && n.SecretsChanged(model, before) {
		r.writeOnly(ctx, req.Config, model, d)
	}
	ids := objectIDs(ctx, n, req.State, d)
	etag := recall(ctx, req.Private, d).ETag
	if d.HasError() {
		return
	}
	gone := taken(ctx, n, req.State, req.Plan, d)
	var object any
	var err error
	if n.Update == nil { // only attributes of the provider's own can change
		object, err = n.Read(ctx, r.conn.client, ids)
	} else {
		object, err = r.replace(ctx, ids, model, gone, state, etag, d)
	}
	r.conn.forget(n, ids[:max(len(ids)-1, 0)])
	if err != nil || d.HasError() {
		r.explain(ctx, d, "update", req.Plan, err)
		return
	}
	r.identify(ctx, resp.Identity, ids, d)
	n.Flatten(ctx, object, model, d)
	d.Append(resp.State.Set(ctx, model)...)
	if leave(&resp.State, req.Plan, rest) {
		r.rememberVersion(ctx, resp.Private, object, d)
	} else {
		r.remember(ctx, resp.Private, object, d)
	}
}

// changedError says that an object is not what the plan was made from.
type changedError struct {
	attributes []string
	cause      error
}

func (e *changedError) Error() string { return e.cause.Error() }
func (e *changedError) Unwrap() error { return e.cause }

// replace sends the new object under the condition that the old one is still
// of the version in the private state. When it is not, but nothing that the
// resource manages changed (another resource of this run added a member, say),
// the condition is renewed; else the change is reported.
func (r *nounResource) replace(ctx context.Context, ids []string, model any, gone []string, before tfsdk.State, etag string, d *diag.Diagnostics) (any, error) {
	n, c := r.noun, r.conn.client
	for range 3 {
		object, err := r.put(ctx, ids, model, gone, d, sdk.IfMatch(etag))
		if etag == "" || !sdk.IsPreconditionFailed(err) {
			return object, err
		}
		now, readErr := n.Read(ctx, c, ids)
		if readErr != nil {
			return nil, errors.Join(err, readErr)
		}
		if fresh := n.Revision(now); fresh == etag {
			return nil, err // the condition holds: something else is wrong
		} else if changed := r.drift(ctx, before, now, d); len(changed) > 0 {
			return nil, &changedError{changed, err}
		} else {
			etag = fresh
		}
	}
	return nil, errors.New("the object changes faster than it can be written")
}

// put sends the new object; the attributes that are gone from the configuration
// are given back with it.
func (r *nounResource) put(ctx context.Context, ids []string, model any, gone []string, d *diag.Diagnostics, opts ...sdk.CallOption) (any, error) {
	if len(gone) > 0 {
		return r.noun.Restore(ctx, r.conn.client, ids, model, gone, d, opts...)
	}
	return r.noun.Update(ctx, r.conn.client, ids, model, d, opts...)
}

// taken are the attributes that can be given back, which the state manages and
// what is wanted does not; nothing is wanted of an object that is destroyed.
func taken(ctx context.Context, n *terraform.Noun, state, wanted attributes, d *diag.Diagnostics) (names []string) {
	for _, name := range n.Restored {
		var had, has attr.Value
		d.Append(state.GetAttribute(ctx, path.Root(name), &had)...)
		if wanted != nil {
			d.Append(wanted.GetAttribute(ctx, path.Root(name), &has)...)
		}
		if had != nil && !had.IsNull() && (has == nil || has.IsNull()) {
			names = append(names, name)
		}
	}
	return names
}

// Delete removes the object; one that is gone already is no error. A
// singleton goes back to its defaults where the API can do that, and gives back
// the single attributes that it managed; any other and, unless asked, an adopted
// object are only forgotten.
func (r *nounResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	d := &resp.Diagnostics
	if r.noun.Kind == terraform.Singleton && r.noun.Delete == nil {
		r.giveBack(ctx, req.State, d)
		return
	}
	if r.noun.Delete == nil || !r.connected(d) {
		return
	}
	if r.noun.Kind == terraform.Adopted {
		var remove types.Bool
		d.Append(req.State.GetAttribute(ctx, path.Root("deregister_on_destroy"), &remove)...)
		if !remove.ValueBool() {
			return
		}
	}
	ids := objectIDs(ctx, r.noun, req.State, d)
	if d.HasError() {
		return
	}
	err := r.remove(ctx, ids)
	r.conn.forget(r.noun, ids[:max(0, len(ids)-1)])
	if err != nil && !sdk.IsNotFound(err) {
		r.explain(ctx, d, "delete", nil, err)
	}
}

// giveBack puts what a singleton managed back to what it was at first. What it
// names, such as a group, can be removed then.
func (r *nounResource) giveBack(ctx context.Context, state tfsdk.State, d *diag.Diagnostics) {
	gone := taken(ctx, r.noun, state, nil, d)
	if len(gone) == 0 || !r.connected(d) || d.HasError() {
		return
	}
	if _, err := r.noun.Restore(ctx, r.conn.client, nil, r.noun.NewModel(), gone, d); err != nil {
		r.explain(ctx, d, "delete", nil, err)
	}
}

package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"sync"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"

	"github.com/wattlenet/wattle/generated/terraform"
)

// NewServer returns a factory of servers of the provider over protocol 6.
func NewServer(version string) func() tfprotov6.ProviderServer {
	return func() tfprotov6.ProviderServer {
		p := &Provider{version: version}
		framework, ok := providerserver.NewProtocol6(p)().(framework)
		if !ok {
			panic("the framework serves less than it did")
		}
		return &server{framework: framework, provider: p, forms: map[string]*resourceForm{}}
	}
}

// framework is what the plugin framework serves.
type framework interface {
	tfprotov6.ProviderServer
	tfprotov6.ListResourceServer
	tfprotov6.ActionServer
}

// server is the framework's server with a short way for what did not change,
// which is nearly everything in nearly every plan, and for what is new, which is
// nearly everything in the first one:
//
//	state as JSON, of this version         -> the same JSON
//	object of the version that the state   -> the same state
//	was made from
//	configuration that no validator minds  -> nothing to say
//	configuration that asks for what the   -> the same state
//	state has
//	configuration of a new object          -> the same with its defaults
//
// The framework decodes, walks and encodes each of these values about ten
// times: two thirds of the provider's processor time. What is in doubt goes
// its way.
type server struct {
	framework
	provider *Provider

	mu    sync.Mutex // guards forms
	forms map[string]*resourceForm
}

// form is nil for what is no resource of a noun.
func (s *server) form(ctx context.Context, typeName string) *resourceForm {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.forms[typeName]; ok {
		return f
	}
	var f *resourceForm
	for _, n := range terraform.Nouns {
		if n.Schema != nil && typeName == terraform.ProviderName+"_"+n.Name {
			f = formOf(ctx, n)
		}
	}
	s.forms[typeName] = f
	return f
}

// UpgradeResourceState passes a state of the schema's own version on as it is.
func (s *server) UpgradeResourceState(ctx context.Context, req *tfprotov6.UpgradeResourceStateRequest) (*tfprotov6.UpgradeResourceStateResponse, error) {
	f := s.form(ctx, req.TypeName)
	if f == nil || req.Version != f.noun.Version || req.RawState == nil || !f.root.knows(req.RawState.JSON) {
		return s.framework.UpgradeResourceState(ctx, req)
	}
	return &tfprotov6.UpgradeResourceStateResponse{UpgradedState: &tfprotov6.DynamicValue{JSON: req.RawState.JSON}}, nil
}

// ValidateResourceConfig says nothing about a configuration that is in order.
func (s *server) ValidateResourceConfig(ctx context.Context, req *tfprotov6.ValidateResourceConfigRequest) (*tfprotov6.ValidateResourceConfigResponse, error) {
	f := s.form(ctx, req.TypeName)
	if f == nil || req.Config == nil || !f.valid(ctx, req.Config.MsgPack) {
		return s.framework.ValidateResourceConfig(ctx, req)
	}
	return &tfprotov6.ValidateResourceConfigResponse{}, nil
}

// ReadResource leaves a state untouched that was made from the object as it is now.
func (s *server) ReadResource(ctx context.Context, req *tfprotov6.ReadResourceRequest) (*tfprotov6.ReadResourceResponse, error) {
	f, conn := s.form(ctx, req.TypeName), s.provider.conn
	if f == nil || f.noun.Key == "" || conn == nil || conn.client == nil || req.CurrentState == nil {
		return s.framework.ReadResource(ctx, req)
	}
	made, ids := marked(req.Private), f.ids(req.CurrentState.MsgPack)
	if made == (mark{}) || ids == nil {
		return s.framework.ReadResource(ctx, req)
	}
	object, err := conn.read(ctx, f.noun, ids)
	if err != nil || made != (mark{revision(f.noun, object), conn.shape(ctx, f.noun)}) {
		return s.framework.ReadResource(context.WithValue(ctx, readKey{}, answer{object, err}), req)
	}
	identity := req.CurrentIdentity
	if identity == nil {
		identity = &tfprotov6.ResourceIdentityData{IdentityData: f.identity(ids)}
	}
	return &tfprotov6.ReadResourceResponse{NewState: req.CurrentState, Private: req.Private, NewIdentity: identity}, nil
}

// readKey leads to the answer that ReadResource has got already.
type readKey struct{}

type answer struct {
	object any
	err    error
}

// read is the answer that the server got already, or a new one.
func (r *nounResource) read(ctx context.Context, ids []string) (any, error) {
	if a, ok := ctx.Value(readKey{}).(answer); ok {
		return a.object, a.err
	}
	return r.conn.read(ctx, r.noun, ids)
}

// marked is the mark in a private state that holds nothing else.
func marked(private []byte) (m mark) {
	var members map[string][]byte
	if len(private) == 0 || json.Unmarshal(private, &members) != nil || len(members) != 1 || json.Unmarshal(members[markKey], &m) != nil {
		return mark{}
	}
	return m
}

// PlanResourceChange plans nothing where the configuration asks for what the
// state has, and what the configuration says for an object that is new.
func (s *server) PlanResourceChange(ctx context.Context, req *tfprotov6.PlanResourceChangeRequest) (*tfprotov6.PlanResourceChangeResponse, error) {
	f, conn := s.form(ctx, req.TypeName), s.provider.conn
	switch {
	case f == nil || conn == nil || conn.client == nil:
	case f.unchanged(req):
		return &tfprotov6.PlanResourceChangeResponse{PlannedState: req.PriorState, PlannedPrivate: req.PriorPrivate, PlannedIdentity: req.PriorIdentity}, nil
	case f.noun.PreviewCreate == nil || !conn.previews.asks() || req.Config == nil || !known(req.Config.MsgPack):
		if planned := f.created(req); planned != nil {
			return planned, nil
		}
	}
	return s.framework.PlanResourceChange(ctx, req)
}

// ApplyResourceChange ends what only a plan says.
func (s *server) ApplyResourceChange(ctx context.Context, req *tfprotov6.ApplyResourceChangeRequest) (*tfprotov6.ApplyResourceChangeResponse, error) {
	if conn := s.provider.conn; conn != nil {
		conn.previews.end()
	}
	return s.framework.ApplyResourceChange(ctx, req)
}

// unchanged reports that there is nothing to plan. What a state may show of a
// secret is for the framework to say.
func (f *resourceForm) unchanged(req *tfprotov6.PlanResourceChangeRequest) bool {
	if f.noun.TakeSecrets != nil || req.Config == nil || req.PriorState == nil || req.ProposedNewState == nil {
		return false
	}
	prior := req.PriorState.MsgPack
	return len(prior) > 0 && !isNull(prior) && bytes.Equal(prior, req.ProposedNewState.MsgPack) && f.root.settled(req.Config.MsgPack, prior)
}

// revision is the version of an object. One that nothing can change has one
// version only; an object of a noun without versions has none.
func revision(n *terraform.Noun, object any) string {
	switch {
	case n.Revision != nil:
		return n.Revision(object)
	case n.Update == nil && n.Kind == terraform.Collection:
		return "only"
	}
	return ""
}

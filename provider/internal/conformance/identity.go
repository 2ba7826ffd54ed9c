package conformance

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	tfstate "github.com/hashicorp/terraform-plugin-testing/terraform"

	"github.com/wattlenet/wattle/provider/internal/runtime"
)

// importedByIdentity checks that an import by identity gives the state that an
// import by id gives, and the identity that was asked for. It speaks to the
// provider itself, since Terraform imports by identity from 1.12 on only.
func (s *subject) importedByIdentity(t *testing.T) resource.TestCheckFunc {
	return func(state *tfstate.State) error {
		it := state.RootModule().Resources[s.address()]
		if s.Key == "" || it == nil {
			return nil
		}
		ids := map[string]string{}
		var path []string
		for _, name := range append(append([]string{}, s.Parents...), s.Key) {
			ids[name] = it.Primary.Attributes[name]
			path = append(path, ids[name])
		}
		server, err := s.provider(t)
		if err != nil {
			return err
		}
		identities, err := server.GetResourceIdentitySchemas(t.Context(), &tfprotov6.GetResourceIdentitySchemasRequest{})
		if err != nil {
			return err
		}
		identity, err := texts(identities.IdentitySchemas[s.Type].ValueType(), ids)
		if err != nil {
			return err
		}
		byID, err := s.imported(t, server, &tfprotov6.ImportResourceStateRequest{TypeName: s.Type, ID: strings.Join(path, "/")})
		if err != nil {
			return fmt.Errorf("by id: %w", err)
		}
		byIdentity, err := s.imported(t, server, &tfprotov6.ImportResourceStateRequest{TypeName: s.Type, Identity: &tfprotov6.ResourceIdentityData{IdentityData: identity}})
		if err != nil {
			return fmt.Errorf("by identity: %w", err)
		}
		if diff := cmp.Diff(byID.NewState, byIdentity.NewState); diff != "" {
			return fmt.Errorf("imported by id and by identity (-id +identity):\n%s", diff)
		}
		if diff := cmp.Diff(identity, byIdentity.NewIdentity.IdentityData); diff != "" {
			return fmt.Errorf("identity (-want +got):\n%s", diff)
		}
		return nil
	}
}

// provider is the provider without Terraform, connected.
func (s *subject) provider(t *testing.T) (tfprotov6.ProviderServer, error) {
	server := runtime.NewServer("test")()
	schemas, err := server.GetProviderSchema(t.Context(), &tfprotov6.GetProviderSchemaRequest{})
	if err != nil {
		return nil, err
	}
	config, err := texts(schemas.Provider.ValueType(), map[string]string{"url": s.proxy.URL, "token": s.server.Token})
	if err != nil {
		return nil, err
	}
	resp, err := server.ConfigureProvider(t.Context(), &tfprotov6.ConfigureProviderRequest{Config: config})
	if err != nil {
		return nil, err
	}
	return server, faults(resp.Diagnostics)
}

// imported imports an object and reads it, as Terraform does.
func (s *subject) imported(t *testing.T, server tfprotov6.ProviderServer, req *tfprotov6.ImportResourceStateRequest) (*tfprotov6.ReadResourceResponse, error) {
	got, err := server.ImportResourceState(t.Context(), req)
	if err != nil {
		return nil, err
	}
	if err := faults(got.Diagnostics); err != nil {
		return nil, err
	}
	it := got.ImportedResources[0]
	read, err := server.ReadResource(t.Context(), &tfprotov6.ReadResourceRequest{TypeName: s.Type, CurrentState: it.State, Private: it.Private, CurrentIdentity: it.Identity})
	if err != nil {
		return nil, err
	}
	return read, faults(read.Diagnostics)
}

func faults(diagnostics []*tfprotov6.Diagnostic) error {
	for _, d := range diagnostics {
		if d.Severity == tfprotov6.DiagnosticSeverityError {
			return fmt.Errorf("%s: %s", d.Summary, d.Detail)
		}
	}
	return nil
}

// texts is an object with these texts as members, and nothing else set.
func texts(typ tftypes.Type, members map[string]string) (*tfprotov6.DynamicValue, error) {
	of, ok := typ.(tftypes.Object)
	if !ok {
		return nil, fmt.Errorf("%s is no object", typ)
	}
	values := map[string]tftypes.Value{}
	for name, member := range of.AttributeTypes {
		if text, given := members[name]; given {
			values[name] = tftypes.NewValue(member, text)
		} else {
			values[name] = tftypes.NewValue(member, nil)
		}
	}
	dynamic, err := tfprotov6.NewDynamicValue(of, tftypes.NewValue(of, values))
	return &dynamic, err
}

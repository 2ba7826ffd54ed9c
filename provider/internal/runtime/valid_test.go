package runtime

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/wattlenet/wattle/generated/terraform"
)

// variants are values of a type: left out, not known yet, and with all kinds of texts and numbers in them, good and bad.
func variants(typ tftypes.Type) []tftypes.Value {
	out := []tftypes.Value{tftypes.NewValue(typ, nil), tftypes.NewValue(typ, tftypes.UnknownValue)}
	filled := func(fill func(typ tftypes.Type) tftypes.Value) { out = append(out, built(typ, fill)) }
	for _, text := range []string{
		"", "left", strings.Repeat("x", 300), "tcp", "accept", "peer", "A", "443", "10.0.0.1", "10.0.0.0/8", "fd00::1", "example.org", "*.example.org", "ada@example.org",
		"https://example.org", "1.2.3", "/usr/bin/x", "2026-11-21T10:00:00Z", "DE", "reusable", "user", "allow", "off", "udp", "enforce", "oidc", "\u00e4 b",
	} {
		filled(func(typ tftypes.Type) tftypes.Value {
			switch {
			case typ.Is(tftypes.Number):
				return tftypes.NewValue(typ, len(text)*len(text))
			case typ.Is(tftypes.Bool):
				return tftypes.NewValue(typ, len(text)%2 == 0)
			}
			return tftypes.NewValue(typ, text)
		})
	}
	for _, number := range []float64{-1, 0, 1, 1.5, 1e12} {
		filled(func(typ tftypes.Type) tftypes.Value {
			if typ.Is(tftypes.Number) {
				return tftypes.NewValue(typ, number)
			}
			return sampleValue(typ, 1)
		})
	}
	for _, missing := range []any{nil, tftypes.UnknownValue} {
		filled(func(typ tftypes.Type) tftypes.Value { return tftypes.NewValue(typ, missing) })
	}
	return out
}

// built is a value of any type, of which fill makes the texts, numbers and switches.
func built(typ tftypes.Type, fill func(tftypes.Type) tftypes.Value) tftypes.Value {
	switch typ := typ.(type) {
	case tftypes.Object:
		members := map[string]tftypes.Value{}
		for name, member := range typ.AttributeTypes {
			members[name] = built(member, fill)
		}
		return tftypes.NewValue(typ, members)
	case tftypes.Map:
		return tftypes.NewValue(typ, map[string]tftypes.Value{"one": built(typ.ElementType, fill)})
	case tftypes.List:
		return tftypes.NewValue(typ, []tftypes.Value{built(typ.ElementType, fill)})
	case tftypes.Set:
		return tftypes.NewValue(typ, []tftypes.Value{built(typ.ElementType, fill)})
	}
	return fill(typ)
}

// TestValidAgreesWithFramework tries many values of each attribute of each noun: where the short way finds a configuration in
// order, the framework has nothing to say about it. A configuration about which it has nothing to say takes the short way,
// unless a value is doubtful or the noun has attributes that exclude each other.
func TestValidAgreesWithFramework(t *testing.T) {
	ways := map[bool]int{}
	for _, n := range terraform.Nouns {
		if n.Schema == nil {
			continue
		}
		t.Run(n.Name, func(t *testing.T) {
			s := n.Schema()
			of, ok := s.Type().TerraformType(t.Context()).(tftypes.Object)
			if !ok {
				t.Fatal("no object")
			}
			f, framework := formOf(t.Context(), n), providerserver.NewProtocol6(&Provider{})()
			excludes := len(n.OneOf)+len(n.AtMostOneOf)+len(n.AtLeastOneOf) > 0
			agree := func(config map[string]tftypes.Value) bool {
				raw := dynamic(t, of, config)
				resp, err := framework.ValidateResourceConfig(t.Context(), &tfprotov6.ValidateResourceConfigRequest{
					TypeName: "wattle_" + n.Name, Config: raw, ClientCapabilities: &tfprotov6.ValidateResourceConfigClientCapabilities{WriteOnlyAttributesAllowed: true},
				})
				if err != nil {
					t.Fatal(err)
				}
				short, quiet := f.valid(t.Context(), raw.MsgPack), len(resp.Diagnostics) == 0
				ways[short]++
				switch {
				case short && !quiet:
					t.Errorf("found in order, but the framework says %q of %v", resp.Diagnostics[0].Summary, config)
				case quiet && !short && !excludes && !writesOnly(n, config) && !doubtful(t, tftypes.NewValue(of, config)):
					t.Errorf("in order, but not seen to be: %v", config)
				}
				return quiet
			}
			// What is required gets the first value that the framework takes, then each attribute each of its values.
			config := map[string]tftypes.Value{}
			for name, typ := range of.AttributeTypes {
				config[name] = tftypes.NewValue(typ, nil)
			}
			names := slices.Sorted(maps.Keys(of.AttributeTypes))
			for _, name := range names {
				if s.Attributes[name].IsRequired() {
					config[name] = tftypes.NewValue(of.AttributeTypes[name], tftypes.UnknownValue)
				}
			}
			for _, name := range names {
				if !s.Attributes[name].IsRequired() {
					continue
				}
				for _, v := range variants(of.AttributeTypes[name]) {
					try := maps.Clone(config)
					if try[name] = v; agree(try) && v.IsFullyKnown() {
						config = try
						break
					}
				}
			}
			agree(config)
			for _, name := range names {
				for _, v := range variants(of.AttributeTypes[name]) {
					try := maps.Clone(config)
					try[name] = v
					agree(try)
				}
			}
		})
	}
	if ways[true] == 0 || ways[false] == 0 {
		t.Errorf("short and long ways: %v", ways)
	}
}

// doubtful reports that something in a value is unknown, or an element of a collection null.
func doubtful(t *testing.T, v tftypes.Value) bool {
	t.Helper()
	missing := false
	err := tftypes.Walk(v, func(at *tftypes.AttributePath, inner tftypes.Value) (bool, error) {
		_, member := at.LastStep().(tftypes.AttributeName)
		missing = missing || inner.IsNull() && !member
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return missing || !v.IsFullyKnown()
}

func writesOnly(n *terraform.Noun, config map[string]tftypes.Value) bool {
	for name, a := range n.Schema().Attributes {
		if a.IsWriteOnly() && !config[name].IsNull() {
			return true
		}
	}
	return false
}

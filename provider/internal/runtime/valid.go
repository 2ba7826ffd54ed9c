package runtime

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// rule is what the framework asks of one attribute, or of one object in a
// collection, when it looks at a configuration.
type rule struct {
	required bool
	doubted  bool // a value of its own is for the framework to judge
	typ      attr.Type
	null     attr.Value
	accepts  func(context.Context, attr.Value) bool // its validators have nothing to say
	members  map[string]rule                        // of an object; nil for anything else
	element  *rule                                  // of a map, list or set of objects; nil for anything else
}

func rulesOf(ctx context.Context, attributes map[string]schema.Attribute) map[string]rule {
	out := map[string]rule{}
	for name, a := range attributes {
		r := newRule(ctx, a.GetType())
		r.required = a.IsRequired()
		r.doubted = a.IsComputed() && !a.IsOptional() || a.IsWriteOnly() || a.GetDeprecationMessage() != ""
		switch a := a.(type) {
		case schema.StringAttribute:
			r.accepts = asking(a.Validators, askString)
		case schema.BoolAttribute:
			r.doubted = r.doubted || len(a.Validators) > 0
		case schema.Int64Attribute:
			r.accepts = asking(a.Validators, askInt64)
		case schema.SetAttribute:
			r.accepts = asking(a.Validators, askSet)
		case schema.SingleNestedAttribute:
			r.members, r.accepts = rulesOf(ctx, a.Attributes), asking(a.Validators, askObject)
		case schema.MapNestedAttribute:
			r.element, r.accepts = elementRule(ctx, a.NestedObject), asking(a.Validators, askMap)
		case schema.ListNestedAttribute:
			r.element, r.accepts = elementRule(ctx, a.NestedObject), asking(a.Validators, askList)
		case schema.SetNestedAttribute:
			r.element, r.accepts = elementRule(ctx, a.NestedObject), asking(a.Validators, askSet)
		default:
			r.doubted = true
		}
		out[name] = r
	}
	return out
}

func newRule(ctx context.Context, typ attr.Type) rule {
	null, err := typ.ValueFromTerraform(ctx, tftypes.NewValue(typ.TerraformType(ctx), nil))
	if err != nil { // a type of the schema's own
		panic(err)
	}
	return rule{typ: typ, null: null}
}

func elementRule(ctx context.Context, o schema.NestedAttributeObject) *rule {
	r := newRule(ctx, o.Type())
	r.members, r.accepts = rulesOf(ctx, o.Attributes), asking(o.Validators, askObject)
	return &r
}

// asking is whether none of some validators finds anything to say about a value.
func asking[A any, V attr.Value](validators []A, ask func(context.Context, A, V) diag.Diagnostics) func(context.Context, attr.Value) bool {
	return func(ctx context.Context, value attr.Value) bool {
		v, ok := value.(V)
		for _, one := range validators {
			if !ok || len(ask(ctx, one, v)) > 0 {
				return false
			}
		}
		return true
	}
}

func askString(ctx context.Context, by validator.String, v types.String) diag.Diagnostics {
	var resp validator.StringResponse
	by.ValidateString(ctx, validator.StringRequest{ConfigValue: v}, &resp)
	return resp.Diagnostics
}

func askInt64(ctx context.Context, by validator.Int64, v types.Int64) diag.Diagnostics {
	var resp validator.Int64Response
	by.ValidateInt64(ctx, validator.Int64Request{ConfigValue: v}, &resp)
	return resp.Diagnostics
}

func askSet(ctx context.Context, by validator.Set, v types.Set) diag.Diagnostics {
	var resp validator.SetResponse
	by.ValidateSet(ctx, validator.SetRequest{ConfigValue: v}, &resp)
	return resp.Diagnostics
}

func askList(ctx context.Context, by validator.List, v types.List) diag.Diagnostics {
	var resp validator.ListResponse
	by.ValidateList(ctx, validator.ListRequest{ConfigValue: v}, &resp)
	return resp.Diagnostics
}

func askMap(ctx context.Context, by validator.Map, v types.Map) diag.Diagnostics {
	var resp validator.MapResponse
	by.ValidateMap(ctx, validator.MapRequest{ConfigValue: v}, &resp)
	return resp.Diagnostics
}

func askObject(ctx context.Context, by validator.Object, v types.Object) diag.Diagnostics {
	var resp validator.ObjectResponse
	by.ValidateObject(ctx, validator.ObjectRequest{ConfigValue: v}, &resp)
	return resp.Diagnostics
}

// valid reports that the framework would say nothing about a configuration. It asks the same validators, and decodes each
// value once. In doubt it reports no: what is wrong, and in which words, is for the framework to say.
func (f *resourceForm) valid(ctx context.Context, config []byte) bool {
	n := f.noun
	if len(n.OneOf)+len(n.AtMostOneOf)+len(n.AtLeastOneOf) > 0 || isNull(config) {
		return false
	}
	_, ok := f.rule.check(ctx, config)
	return ok
}

// check returns a value if nothing is wrong with it.
func (r *rule) check(ctx context.Context, raw []byte) (v attr.Value, ok bool) {
	switch {
	case isNull(raw) && !r.required:
		v, ok = r.null, true
	case isNull(raw), r.doubted:
	case r.members != nil:
		v, ok = r.object(ctx, raw)
	case r.element != nil:
		v, ok = r.collection(ctx, raw)
	default:
		v, ok = plain(r.typ, raw)
	}
	return v, ok && (r.accepts == nil || r.accepts(ctx, v))
}

func (r *rule) object(ctx context.Context, raw []byte) (attr.Value, bool) {
	has := members(raw)
	typ, ok := r.typ.(attr.TypeWithAttributeTypes)
	if !ok || len(has) != len(r.members) {
		return nil, false
	}
	values := make(map[string]attr.Value, len(has))
	for name, m := range r.members {
		if values[name], ok = m.check(ctx, has[name]); !ok {
			return nil, false
		}
	}
	v, d := types.ObjectValue(typ.AttributeTypes(), values)
	return v, len(d) == 0
}

func (r *rule) collection(ctx context.Context, raw []byte) (attr.Value, bool) {
	check := func(e msgpack.RawMessage) (attr.Value, bool) {
		if isNull(e) {
			return nil, false
		}
		return r.element.check(ctx, e)
	}
	return gathered(r.typ, raw, check)
}

// gathered is a set, list or map of what of makes out of each element.
func gathered(typ attr.Type, raw []byte, of func(msgpack.RawMessage) (attr.Value, bool)) (attr.Value, bool) {
	var d diag.Diagnostics
	var v attr.Value
	if t, isMap := typ.(basetypes.MapType); isMap {
		has := members(raw)
		values, ok := make(map[string]attr.Value, len(has)), has != nil
		for key, e := range has {
			if values[key], ok = of(e); !ok {
				return nil, false
			}
		}
		v, d = types.MapValue(t.ElemType, values)
		return v, ok && len(d) == 0
	}
	has := elements(raw)
	values, ok := make([]attr.Value, len(has)), has != nil
	for i, e := range has {
		if values[i], ok = of(e); !ok {
			return nil, false
		}
	}
	switch t := typ.(type) {
	case basetypes.SetType:
		v, d = types.SetValue(t.ElemType, values)
	case basetypes.ListType:
		v, d = types.ListValue(t.ElemType, values)
	default:
		return nil, false
	}
	return v, ok && len(d) == 0
}

// plain is a text, a number, a switch or a collection of such.
func plain(typ attr.Type, raw []byte) (attr.Value, bool) {
	if isNull(raw) {
		return nil, false // an element; the framework knows what that means
	}
	switch t := typ.(type) {
	case basetypes.StringType:
		var v string
		err := msgpack.Unmarshal(raw, &v)
		return types.StringValue(v), err == nil
	case basetypes.BoolType:
		var v bool
		err := msgpack.Unmarshal(raw, &v)
		return types.BoolValue(v), err == nil
	case basetypes.Int64Type:
		var v int64
		err := msgpack.Unmarshal(raw, &v)
		return types.Int64Value(v), err == nil && raw[0] != msgpcode.Float && raw[0] != msgpcode.Double // those it would cut
	case attr.TypeWithElementType:
		return gathered(typ, raw, func(e msgpack.RawMessage) (attr.Value, bool) { return plain(t.ElementType(), e) })
	}
	return nil, false
}

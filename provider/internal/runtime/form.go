package runtime

import (
	"bytes"
	"context"
	"encoding/json"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/defaults"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"

	"github.com/wattlenet/wattle/generated/terraform"
)

// resourceForm is what decides, without decoding a value, whether it changes.
type resourceForm struct {
	noun *terraform.Noun
	root form
	rule rule // of the whole configuration
}

// form is one attribute as far as it decides that. Values are as Terraform
// sends them: MessagePack, objects and maps with their keys in order.
type form struct {
	fallback []byte          // its default; nil without one
	computed bool            // left out, it keeps its value
	optIn    bool            // left out of what is new, it has none
	members  map[string]form // of an object; nil for anything else
	elements *form           // of a map, list or set of objects; nil for anything else
	set      bool            // elements have no order
}

func formOf(ctx context.Context, n *terraform.Noun) *resourceForm {
	s := n.Schema()
	root := form{members: formsOf(ctx, s.Attributes)}
	for _, name := range n.OptIn {
		m := root.members[name]
		m.optIn = true
		root.members[name] = m
	}
	return &resourceForm{
		noun: n, root: root,
		rule: rule{typ: s.Type(), members: rulesOf(ctx, s.Attributes)},
	}
}

func formsOf(ctx context.Context, attributes map[string]schema.Attribute) map[string]form {
	out := map[string]form{}
	for name, a := range attributes {
		f := form{computed: a.IsComputed()}
		if value := defaultOf(ctx, a); value != nil {
			f.fallback = encoded(ctx, value)
		}
		switch a := a.(type) {
		case schema.SingleNestedAttribute:
			f.members = formsOf(ctx, a.Attributes)
		case schema.MapNestedAttribute:
			f.elements = &form{members: formsOf(ctx, a.NestedObject.Attributes)}
		case schema.ListNestedAttribute:
			f.elements = &form{members: formsOf(ctx, a.NestedObject.Attributes)}
		case schema.SetNestedAttribute:
			f.elements, f.set = &form{members: formsOf(ctx, a.NestedObject.Attributes)}, true
		}
		out[name] = f
	}
	return out
}

// defaultOf is the default of an attribute; nil without one.
func defaultOf(ctx context.Context, a schema.Attribute) attr.Value {
	switch a := a.(type) {
	case schema.StringAttribute:
		if a.Default != nil {
			var resp defaults.StringResponse
			a.Default.DefaultString(ctx, defaults.StringRequest{}, &resp)
			return resp.PlanValue
		}
	case schema.BoolAttribute:
		if a.Default != nil {
			var resp defaults.BoolResponse
			a.Default.DefaultBool(ctx, defaults.BoolRequest{}, &resp)
			return resp.PlanValue
		}
	case schema.Int64Attribute:
		if a.Default != nil {
			var resp defaults.Int64Response
			a.Default.DefaultInt64(ctx, defaults.Int64Request{}, &resp)
			return resp.PlanValue
		}
	case schema.Float64Attribute:
		if a.Default != nil {
			var resp defaults.Float64Response
			a.Default.DefaultFloat64(ctx, defaults.Float64Request{}, &resp)
			return resp.PlanValue
		}
	case interface{ SetDefaultValue() defaults.Set }:
		if d := a.SetDefaultValue(); d != nil {
			var resp defaults.SetResponse
			d.DefaultSet(ctx, defaults.SetRequest{}, &resp)
			return resp.PlanValue
		}
	case interface{ ListDefaultValue() defaults.List }:
		if d := a.ListDefaultValue(); d != nil {
			var resp defaults.ListResponse
			d.DefaultList(ctx, defaults.ListRequest{}, &resp)
			return resp.PlanValue
		}
	case interface{ MapDefaultValue() defaults.Map }:
		if d := a.MapDefaultValue(); d != nil {
			var resp defaults.MapResponse
			d.DefaultMap(ctx, defaults.MapRequest{}, &resp)
			return resp.PlanValue
		}
	case schema.SingleNestedAttribute:
		if a.Default != nil {
			var resp defaults.ObjectResponse
			a.Default.DefaultObject(ctx, defaults.ObjectRequest{}, &resp)
			return resp.PlanValue
		}
	}
	return nil
}

// encoded is a value as Terraform sends it.
func encoded(ctx context.Context, v attr.Value) []byte {
	value, err := v.ToTerraformValue(ctx)
	if err != nil { // a value of the schema's own
		panic(err)
	}
	dynamic, err := tfprotov6.NewDynamicValue(value.Type(), value)
	if err != nil {
		panic(err)
	}
	return dynamic.MsgPack
}

// settled reports that a configuration asks for what the state has. In doubt
// it does not.
func (f form) settled(config, prior []byte) bool {
	switch {
	case isNull(config) && f.fallback != nil:
		return bytes.Equal(prior, f.fallback)
	case isNull(config):
		return f.computed || isNull(prior)
	case f.members != nil:
		return f.sameMembers(config, prior)
	case f.elements != nil && bytes.Equal(config, prior) && !f.elements.decides():
		return true
	case f.elements != nil:
		return f.elements.sameElements(config, prior)
	}
	return bytes.Equal(config, prior)
}

// decides reports that an object's members have defaults or are computed, so
// that equal values may stand for different plans.
func (f form) decides() bool {
	for _, m := range f.members {
		if m.fallback != nil || m.computed || m.elements != nil && m.elements.decides() || m.members != nil && m.decides() {
			return true
		}
	}
	return false
}

func (f form) sameMembers(config, prior []byte) bool {
	asked, has := members(config), members(prior)
	if asked == nil || has == nil {
		return false
	}
	for name, m := range f.members {
		a, there := asked[name]
		b, also := has[name]
		if !there || !also || !m.settled(a, b) {
			return false
		}
	}
	return true
}

// sameElements compares the elements of maps by their keys, those of lists
// and sets in their order.
func (f form) sameElements(config, prior []byte) bool {
	if asked, has := elements(config), elements(prior); asked != nil {
		for i := range asked {
			if len(asked) != len(has) || !f.settled(asked[i], has[i]) {
				return false
			}
		}
		return len(asked) == len(has)
	}
	asked, has := members(config), members(prior)
	if asked == nil || len(asked) != len(has) {
		return false
	}
	for key, a := range asked {
		b, also := has[key]
		if !also || !f.settled(a, b) {
			return false
		}
	}
	return true
}

const null = 0xc0 // MessagePack's nil

func isNull(value []byte) bool { return len(value) == 1 && value[0] == null }

// members are the encoded members of an object or map; nil for anything else.
func members(value []byte) map[string]msgpack.RawMessage {
	out := map[string]msgpack.RawMessage{}
	if isList(value) || !each(value, func(name string, begin, end int) bool {
		out[name] = value[begin:end]
		return true
	}) {
		return nil
	}
	return out
}

// elements are the encoded elements of a list or set; nil for anything else.
func elements(value []byte) []msgpack.RawMessage {
	out := []msgpack.RawMessage{}
	if !isList(value) || !each(value, func(_ string, begin, end int) bool {
		out = append(out, value[begin:end])
		return true
	}) {
		return nil
	}
	return out
}

// isList reports that a value is a list or a set.
func isList(value []byte) bool {
	return len(value) > 0 && (msgpcode.IsFixedArray(value[0]) || value[0] == msgpcode.Array16 || value[0] == msgpcode.Array32)
}

// each shows where the members of an encoded object or map begin and end in
// value, in their order, and the elements of a list or set, which have no names.
// It is false for anything else, and when visit is.
func each(value []byte, visit func(name string, begin, end int) bool) bool {
	d := msgpack.GetDecoder()
	defer msgpack.PutDecoder(d)
	rest := bytes.NewReader(value)
	d.Reset(rest)
	count, named := d.DecodeMapLen, d.DecodeString
	if isList(value) {
		count, named = d.DecodeArrayLen, func() (string, error) { return "", nil }
	}
	n, err := count()
	if err != nil || n < 0 {
		return false
	}
	for range n {
		name, err := named()
		begin := len(value) - rest.Len()
		if err != nil || d.Skip() != nil || !visit(name, begin, len(value)-rest.Len()) {
			return false
		}
	}
	return true
}

// ids are the ids of the parents and the object's own in a state; nil when
// there are not all of them.
func (f *resourceForm) ids(state []byte) []string {
	has := members(state)
	var out []string
	for _, name := range idNames(f.noun) {
		var id string
		if msgpack.Unmarshal(has[name], &id) != nil || id == "" {
			return nil
		}
		out = append(out, id)
	}
	return out
}

// identity is the ids as the identity of the object.
func (f *resourceForm) identity(ids []string) *tfprotov6.DynamicValue {
	of := map[string]string{}
	for i, name := range idNames(f.noun) {
		of[name] = ids[i]
	}
	raw, err := json.Marshal(of)
	if err != nil { // texts
		panic(err)
	}
	return &tfprotov6.DynamicValue{JSON: raw}
}

// knows reports that a state in JSON has attributes of the form only.
func (f form) knows(state []byte) bool {
	var v any
	return json.Unmarshal(state, &v) == nil && f.covers(v)
}

func (f form) covers(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			m, known := f.members[name]
			switch {
			case f.elements != nil:
				m = *f.elements
			case f.members != nil && !known:
				return false
			}
			if !m.covers(member) {
				return false
			}
		}
	case []any:
		for _, element := range v {
			if f.elements != nil && !f.elements.covers(element) {
				return false
			}
		}
	}
	return true
}

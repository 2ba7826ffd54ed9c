package runtime

import (
	"bytes"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// unknown is a value that is known after the apply, as Terraform reads it.
var unknown = []byte{msgpcode.FixExt1, 0, 0}

// created is what the framework plans for an object that is new: what the
// configuration says, with defaults for what it leaves out and the word that
// the rest is known after the apply. It is nil in doubt, for secrets, which
// the framework takes out, and for anything but a create.
func (f *resourceForm) created(req *tfprotov6.PlanResourceChangeRequest) *tfprotov6.PlanResourceChangeResponse {
	if f.noun.TakeSecrets != nil || f.noun.WriteOnly != nil || req.Config == nil || req.PriorState == nil || req.ProposedNewState == nil || len(req.PriorPrivate) > 0 {
		return nil
	}
	config := req.Config.MsgPack
	if !isNull(req.PriorState.MsgPack) || isNull(config) || !bytes.Equal(config, req.ProposedNewState.MsgPack) {
		return nil
	}
	planned, ok := f.root.complete(config)
	if !ok {
		return nil
	}
	resp := &tfprotov6.PlanResourceChangeResponse{PlannedState: &tfprotov6.DynamicValue{MsgPack: planned}}
	if f.noun.Key != "" {
		resp.PlannedIdentity = &tfprotov6.ResourceIdentityData{IdentityData: &tfprotov6.DynamicValue{MsgPack: []byte{null}}}
	}
	return resp
}

// complete is a configured value with what stands for the nulls in it; not ok
// in doubt.
func (f form) complete(config []byte) (planned []byte, ok bool) {
	switch {
	case len(config) == 0:
		return nil, false
	case isNull(config) && f.fallback != nil:
		return f.fallback, true
	case isNull(config) && f.computed && !f.optIn:
		return unknown, true
	case isNull(config), msgpcode.IsExt(config[0]):
		return config, true
	case f.members != nil:
		return completeEach(config, func(name string) (form, bool) {
			m, there := f.members[name]
			return m, there
		})
	case f.elements == nil || !f.elements.decides():
		return config, true
	case f.set: // two of them may be one with their defaults
		return nil, false
	}
	return completeEach(config, func(string) (form, bool) { return *f.elements, true })
}

// completeEach completes the members of an object or the elements of a collection.
func completeEach(value []byte, of func(name string) (form, bool)) (planned []byte, ok bool) {
	done := 0 // of value
	ok = each(value, func(name string, begin, end int) bool {
		f, there := of(name)
		member, sure := f.complete(value[begin:end])
		planned = append(append(planned, value[done:begin]...), member...)
		done = end
		return there && sure
	})
	return append(planned, value[done:]...), ok
}

// known reports that nothing in a value is known after the apply only.
func known(value []byte) bool {
	switch {
	case len(value) == 0 || msgpcode.IsExt(value[0]):
		return false
	case isList(value), msgpcode.IsFixedMap(value[0]), value[0] == msgpcode.Map16, value[0] == msgpcode.Map32:
		return each(value, func(_ string, begin, end int) bool { return known(value[begin:end]) })
	}
	return true
}

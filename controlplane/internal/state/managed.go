package state

import (
	"slices"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// target is the id of the object that a change puts or removes; empty for one
// that has none of its own.
func (c change) target() string {
	switch {
	case c.User != nil:
		return c.User.ID
	case c.Token != nil:
		return c.Token.ID
	case c.SetupKey != nil:
		return c.SetupKey.ID
	case c.Invite != nil:
		return c.Invite.ID
	case c.Object != nil:
		return c.Object.ID
	case c.Peer != nil:
		return c.Peer.ID
	}
	return ""
}

// provenance notes that Terraform wrote the object that the event tells of, and
// forgets it of objects that are gone. What else changed along with it, such as
// the members of a group, is not Terraform's for that.
//
// An object stays Terraform's when somebody else changes it: the next apply
// takes such a change back, and who makes it should know.
func (w *write) provenance() error {
	var gone []string
	stays := map[string]bool{} // what is put after it was removed, with another secret
	for _, c := range w.changes {
		id := c.target()
		switch {
		case id == "":
		case c.Remove:
			gone = append(gone, id)
		case slices.Contains(gone, id):
			stays[id] = true
		case w.p.Channel == auth.ChannelTerraform && id == w.event.TargetID:
			by := store.Managed{ID: id, AccountID: w.account.ID, By: string(auth.ChannelTerraform)}
			fresh, err := store.Manage(w.ctx, w.tx, by)
			if err != nil {
				return err
			}
			if fresh {
				w.change(change{Managed: &by})
			}
		}
	}
	gone = slices.DeleteFunc(gone, func(id string) bool { return stays[id] })
	return store.Unmanage(w.ctx, w.tx, gone)
}

// managedBy is the program that declares an object; nil for none.
func (a *account) managedBy(id string) *string {
	if by, ok := a.managed[id]; ok {
		return &by
	}
	return nil
}

// withProvenance adds to the answer that shows an object which program declares
// it, where the contract has a place for that.
func withProvenance[A any](a *account, id string, answer A) A {
	if place, ok := any(&answer).(api.Manageable); ok {
		place.SetManagedBy(a.managedBy(id))
	}
	return answer
}

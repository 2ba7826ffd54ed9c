package state

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// members returns the peers of a group in their order.
func (w *write) members(groupID string) ([]string, error) {
	rows, err := store.GroupMembers(w.ctx, w.tx, groupID)
	ids := make([]string, len(rows))
	for i, row := range rows {
		ids[i] = row.PeerID
	}
	return ids, err
}

func (w *write) addMember(groupID, peerID, source string) error {
	m := store.Membership{GroupID: groupID, PeerID: peerID, AccountID: w.account.ID, Position: w.seq(), Source: source}
	w.change(change{Member: &m})
	w.touched[groupID] = true
	return store.Memberships.Insert(w.ctx, w.tx, &m)
}

func (w *write) removeMember(groupID, peerID string) error {
	m := store.Membership{GroupID: groupID, PeerID: peerID, AccountID: w.account.ID}
	w.change(change{Member: &m, Remove: true})
	w.touched[groupID] = true
	return store.Memberships.Delete(w.ctx, w.tx, groupID, peerID)
}

// setMembers turns the members had into want, in the order of want. Members
// before the first difference keep their rows.
func (w *write) setMembers(groupID string, had, want []string) error {
	wanted := make(map[string]bool, len(want))
	for _, id := range want {
		wanted[id] = true
	}
	kept := make([]string, 0, len(had))
	for _, id := range had {
		if wanted[id] {
			kept = append(kept, id)
			continue
		}
		if err := w.removeMember(groupID, id); err != nil {
			return err
		}
	}
	member := make(map[string]bool, len(kept))
	for _, id := range kept {
		member[id] = true
	}
	moved := false
	for i, id := range want {
		moved = moved || i >= len(kept) || kept[i] != id
		switch {
		case !moved:
		case member[id]:
			m := store.Membership{GroupID: groupID, PeerID: id, AccountID: w.account.ID, Position: w.seq(), Source: "api"}
			w.change(change{Member: &m})
			if err := store.Memberships.Update(w.ctx, w.tx, &m); err != nil {
				return err
			}
		default:
			if err := w.addMember(groupID, id, "api"); err != nil {
				return err
			}
		}
	}
	return nil
}

// ListGroupMemberships lists the edges of a group in their order.
func (s *State) ListGroupMemberships(_ context.Context, p auth.Principal, groupID string, params api.ListGroupMembershipsParams) (items []api.GroupMembership, next string, err error) {
	err = s.reading(p, func(a *account) error {
		members, ok := a.members[groupID]
		if !ok {
			return problem.NotFound("group")
		}
		var edges ordered[string]
		edges.byID = make(map[string]string, len(members))
		for peer, position := range members {
			edges.byID[peer] = peer
			edges.order = append(edges.order, place{position, peer})
		}
		slices.SortFunc(edges.order, func(x, y place) int { return cmp.Compare(x.seq, y.seq) })
		items, next, err = list(&edges, page{limit: params.Limit, cursor: params.Cursor}, any1, func(peer string) api.GroupMembership {
			return showMembership(groupID, peer)
		})
		return err
	})
	return items, next, err
}

// GetGroupMembership reads one edge.
func (s *State) GetGroupMembership(_ context.Context, p auth.Principal, groupID, peerID string) (answer api.GroupMembership, err error) {
	err = s.reading(p, func(a *account) error {
		if _, ok := a.groups.get(groupID); !ok {
			return problem.NotFound("group")
		}
		if _, ok := a.members[groupID][peerID]; !ok {
			return problem.NotFound("membership")
		}
		return nil
	})
	return showMembership(groupID, peerID), err
}

// CreateGroupMembership adds one peer to a group. A member stays a member: that
// is no change.
func (s *State) CreateGroupMembership(ctx context.Context, p auth.Principal, groupID string, req api.GroupMembershipRequest) (answer api.GroupMembership, err error) {
	if err := faults(req.Validate()); err != nil {
		return answer, err
	}
	err = s.write(ctx, p, api.PermissionGroupsUpdate, func(w *write) error {
		o, err := w.changeableGroup(groupID, "", "given members by hand")
		if err != nil {
			return err
		}
		peer, err := store.FindPeer(w.ctx, w.tx, w.account.ID, req.PeerId)
		if errors.Is(err, store.ErrNoRow) {
			return problem.Invalid(problem.Field("peer_id", "unknown peer id %q", req.PeerId))
		}
		if err != nil {
			return err
		}
		if _, err = store.FindMembership(w.ctx, w.tx, groupID, req.PeerId); !errors.Is(err, store.ErrNoRow) {
			return cmp.Or(err, errUnchanged)
		}
		if err := w.addMember(groupID, req.PeerId, "api"); err != nil {
			return err
		}
		return w.note("group.peer.add", groupID, o.Name, nil, map[string]any{"peer_id": peer.ID, "peer_name": peer.Name})
	}, func(*account) {})
	return showMembership(groupID, req.PeerId), err
}

// DeleteGroupMembership removes one peer from a group. A peer that is not in it
// is no error.
func (s *State) DeleteGroupMembership(ctx context.Context, p auth.Principal, groupID, peerID, ifMatch string) error {
	return s.write(ctx, p, api.PermissionGroupsUpdate, func(w *write) error {
		o, err := w.changeableGroup(groupID, "", "changed")
		if err != nil {
			return err
		}
		if _, err := store.FindMembership(w.ctx, w.tx, groupID, peerID); err != nil {
			if errors.Is(err, store.ErrNoRow) {
				return errUnchanged
			}
			return err
		}
		if err := checkMatch(ifMatch, "membership", edgeVersion); err != nil {
			return err
		}
		if err := w.removeMember(groupID, peerID); err != nil {
			return err
		}
		return w.note("group.peer.remove", groupID, o.Name, map[string]any{"peer_id": peerID}, nil)
	}, func(*account) {})
}

// edgeVersion is the version of every membership: there is nothing in it to change.
const edgeVersion = 1

func showMembership(groupID, peerID string) api.GroupMembership {
	return api.GroupMembership{GroupId: groupID, PeerId: peerID, Version: edgeVersion}
}

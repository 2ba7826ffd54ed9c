package state

import (
	"context"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// ListGroupReferrers lists what names a group: what a refused deletion tells.
func (s *State) ListGroupReferrers(ctx context.Context, p auth.Principal, id string) ([]api.Referrer, error) {
	return s.listReferrers(ctx, p, store.KindGroup, id, func(a *account) error {
		if _, ok := a.groups.get(id); !ok {
			return problem.NotFound("group")
		}
		return nil
	})
}

// ListPeerReferrers lists what names a peer: what a refused removal tells.
func (s *State) ListPeerReferrers(ctx context.Context, p auth.Principal, id string) ([]api.Referrer, error) {
	return s.listReferrers(ctx, p, store.KindPeer, id, func(a *account) error {
		if peer, ok := a.peers.get(id); !ok || !sees(p, peer) {
			return problem.NotFound("peer")
		}
		return nil
	})
}

func (s *State) listReferrers(ctx context.Context, p auth.Principal, kind, id string, exists func(*account) error) ([]api.Referrer, error) {
	if err := s.reading(p, exists); err != nil {
		return nil, err
	}
	items := []api.Referrer{}
	err := s.store.Read(ctx, func(tx *store.Tx) error {
		list, err := referrers(ctx, tx, p.AccountID, kind, id)
		items = shownReferrers(list)
		return err
	})
	return items, asProblem(err)
}

func shownReferrers(list []problem.Referrer) []api.Referrer {
	items := make([]api.Referrer, len(list))
	for i, r := range list {
		items[i] = api.Referrer{Type: r.Type, Id: r.ID, Name: r.Name, Field: r.Field}
	}
	return items
}

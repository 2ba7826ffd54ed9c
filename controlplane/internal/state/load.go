package state

import (
	"context"
	"fmt"

	"github.com/wattlenet/wattle/controlplane/internal/netmap"
	"github.com/wattlenet/wattle/controlplane/internal/store"
)

// load reads every account into memory.
func (s *State) load(ctx context.Context) error {
	return s.store.Read(ctx, func(tx *store.Tx) error {
		rows, err := store.AllAccounts(ctx, tx)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if err := s.loadAccount(ctx, tx, row); err != nil {
				return fmt.Errorf("account %s: %w", row.ID, err)
			}
		}
		return nil
	})
}

func (s *State) loadAccount(ctx context.Context, tx *store.Tx, row store.Account) error {
	changes, err := stored(ctx, tx, row)
	if err != nil {
		return err
	}
	seen, err := store.AccountPresence(ctx, tx, row.ID)
	if err != nil {
		return err
	}
	return s.build(row, changes, seen)
}

// stored reads an account as the changes that make it up.
func stored(ctx context.Context, tx *store.Tx, row store.Account) (changes []change, err error) {
	users, err := store.AccountUsers(ctx, tx, row.ID)
	if err != nil {
		return nil, err
	}
	tokens, err := store.AccountTokens(ctx, tx, row.ID)
	if err != nil {
		return nil, err
	}
	keys, err := store.AccountSetupKeys(ctx, tx, row.ID)
	if err != nil {
		return nil, err
	}
	invites, err := store.AccountInvites(ctx, tx, row.ID)
	if err != nil {
		return nil, err
	}
	objects, err := store.AccountObjects(ctx, tx, row.ID)
	if err != nil {
		return nil, err
	}
	peers, err := store.AccountPeers(ctx, tx, row.ID)
	if err != nil {
		return nil, err
	}
	members, err := store.AccountMemberships(ctx, tx, row.ID)
	if err != nil {
		return nil, err
	}
	managed, err := store.AccountManaged(ctx, tx, row.ID)
	if err != nil {
		return nil, err
	}
	changes = append(changes, change{Account: &row})
	for i := range managed {
		changes = append(changes, change{Managed: &managed[i]})
	}
	for i := range users {
		changes = append(changes, change{User: &users[i]})
	}
	for i := range tokens {
		changes = append(changes, change{Token: &tokens[i]})
	}
	for i := range keys {
		changes = append(changes, change{SetupKey: &keys[i]})
	}
	for i := range invites {
		changes = append(changes, change{Invite: &invites[i]})
	}
	for i := range peers {
		changes = append(changes, change{Peer: &peers[i]})
	}
	rows := map[string][]change{}
	for i := range objects {
		rows[objects[i].Kind] = append(rows[objects[i].Kind], change{Object: &objects[i]})
	}
	changes = append(changes, rows[store.KindGroup]...)
	for i := range members {
		changes = append(changes, change{Member: &members[i]})
	}
	for _, n := range kinds { // they name groups, peers and one another
		changes = append(changes, rows[n.kindName()]...)
	}
	return changes, nil
}

// build makes an account out of changes and of what is known of its peers, by
// which they meet posture checks, and takes it up.
func (s *State) build(row store.Account, changes []change, seen []store.Presence) error {
	a, err := s.compose(row, changes, seen)
	if err != nil {
		return err
	}
	s.index(changes)
	s.mu.Lock()
	s.accounts[row.ID] = a
	s.mu.Unlock()
	return nil
}

// compose makes an account out of changes and tells nobody.
func (s *State) compose(row store.Account, changes []change, seen []store.Presence) (*account, error) {
	engine, err := netmap.New(netmap.Config{Account: row.ID, Epoch: row.Epoch, Secret: s.mapID, Blobs: s.blobs})
	if err != nil {
		return nil, err
	}
	a := newAccount(row.ID, engine)
	a.places = s.cfg.Places
	if err := a.present.restore(seen); err != nil {
		return nil, err
	}
	var all []netmap.Change
	for _, c := range changes {
		more, err := a.apply(c)
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	a.row = row
	return a, engine.Load(row.Serial, all)
}

// adopt takes up the account that a committed set-up made.
func (s *State) adopt(w *write) error {
	err := s.build(w.account, w.changes, nil)
	if err != nil {
		s.cfg.Logger.Error("new account does not load", "account", w.account.ID, "error", err)
	}
	return err
}

package state

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/wattlenet/wattle/controlplane/internal/netmap"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// sampledPairs is how many pairs of each kind a preview names.
const sampledPairs = 20

// A Previewed is how a write ends that was only tried: nothing was stored, and
// this is what it would have meant. It is no fault.
type Previewed struct{ Preview api.AccessPreview }

func (*Previewed) Error() string { return "the write was tried and not stored" }

type previewKey struct{}

// Preview makes the write that is carried out under the context a trial: it is
// checked as any other and ends with a Previewed.
func Preview(ctx context.Context) context.Context {
	return context.WithValue(ctx, previewKey{}, true)
}

func trial(ctx context.Context) bool { return ctx.Value(previewKey{}) != nil }

// errTried takes back the transaction of a trial.
var errTried = errors.New("the write was only tried")

// shadowLife is how long a shadow that nobody asks is kept.
const shadowLife = time.Minute

// A shadow is a second copy of an account, on which trials are carried out and
// taken back. It is read from the store beside the one in use, so that no write
// waits for it, and used as long as the account stands still: a plan of Terraform
// tries many changes one after the other.
type shadow struct {
	account *account
	numbers netmap.Numbers
	before  *netmap.Picture
	asked   time.Time
}

// preview tells what the changes of a trial would mean, which was made on top of
// a serial. Trials wait for each other.
func (s *State) preview(ctx context.Context, a *account, serial int64, changes []change) error {
	select {
	case s.trials <- struct{}{}:
		defer func() { <-s.trials }()
	case <-ctx.Done():
		return ctx.Err()
	}
	seen, err := s.shadowOf(ctx, a, serial)
	if err != nil {
		return asProblem(err)
	}
	a.shadow = nil // until it is known to be as it was
	if err := seen.apply(changes); err != nil {
		return conflict("the account changed while the write was tried; repeat the request")
	}
	impact := netmap.Compare(seen.before, seen.account.engine.Picture(&seen.numbers), sampledPairs)
	back, err := s.undone(ctx, seen.account.row, changes)
	if err != nil {
		return asProblem(err)
	}
	if back != nil && seen.apply(back) == nil {
		seen.asked = now()
		a.shadow = seen
	}
	return &Previewed{api.AccessPreview{
		Gained: showPairs(impact.Gained), Lost: showPairs(impact.Lost), Changed: showPairs(impact.Changed),
	}}
}

// shadowOf returns the shadow of an account at a serial, the one of the last trial
// if the account did not change since. The caller holds the place of a trial.
func (s *State) shadowOf(ctx context.Context, a *account, serial int64) (*shadow, error) {
	if a.shadow != nil && a.shadow.account.row.Serial == serial {
		return a.shadow, nil
	}
	beside, err := s.beside(ctx, a.id)
	if err != nil {
		return nil, err
	}
	seen := &shadow{account: beside}
	seen.before = beside.engine.Picture(&seen.numbers)
	return seen, nil
}

// apply brings changes into the copy.
func (s *shadow) apply(changes []change) error {
	var learned []netmap.Change
	for _, c := range changes {
		more, err := s.account.apply(c)
		if err != nil {
			return err
		}
		learned = append(learned, more...)
	}
	_, err := s.account.engine.Apply(s.account.engine.Serial()+1, learned...)
	return err
}

// undone are the changes that take those of a trial back, as the store has the
// rows that it would have changed; nil where that is not so simple, and where the
// account moved on.
func (s *State) undone(ctx context.Context, row store.Account, changes []change) (back []change, err error) {
	err = s.store.Read(ctx, func(tx *store.Tx) error {
		accounts, err := store.AllAccounts(ctx, tx)
		if err != nil || !slices.ContainsFunc(accounts, func(a store.Account) bool { return a.ID == row.ID && a.Serial == row.Serial }) {
			return err
		}
		list := []change{}
		for _, c := range slices.Backward(changes) {
			was, known, err := before(ctx, tx, row.ID, c)
			if err != nil || !known {
				return err
			}
			list = append(list, was...)
		}
		back = list
		return nil
	})
	return back, err
}

// before is the change that puts back what another one changed. known is false
// when more than one row went with it, as the members of a group do.
func before(ctx context.Context, tx *store.Tx, accountID string, c change) (was []change, known bool, err error) {
	switch {
	case c.Object != nil:
		row, err := store.FindObject(ctx, tx, accountID, c.Object.Kind, c.Object.ID)
		switch {
		case errors.Is(err, store.ErrNoRow):
			return []change{{Object: c.Object, Remove: true}}, true, nil
		case err != nil:
			return nil, false, err
		}
		return []change{{Object: &row}}, !c.Remove || row.Kind != store.KindGroup, nil
	case c.Member != nil:
		row, err := store.FindMembership(ctx, tx, c.Member.GroupID, c.Member.PeerID)
		switch {
		case errors.Is(err, store.ErrNoRow):
			return []change{{Member: c.Member, Remove: true}}, true, nil
		case err != nil:
			return nil, false, err
		}
		return []change{{Member: &row}}, true, nil
	case c.Touched != nil, c.Managed != nil: // access does not follow from them
		return nil, true, nil
	}
	return nil, false, nil
}

// forgetShadows lets go of copies that nobody asked for a while.
func (s *State) forgetShadows() {
	select {
	case s.trials <- struct{}{}:
		defer func() { <-s.trials }()
	default:
		return // one is in use
	}
	for _, a := range s.all() {
		if a.shadow != nil && now().Sub(a.shadow.asked) >= shadowLife {
			a.shadow = nil
		}
	}
}

// beside reads an account that nobody else knows.
func (s *State) beside(ctx context.Context, accountID string) (a *account, err error) {
	err = s.store.Read(ctx, func(tx *store.Tx) error {
		rows, err := store.AllAccounts(ctx, tx)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if row.ID != accountID {
				continue
			}
			changes, err := stored(ctx, tx, row)
			if err != nil {
				return err
			}
			seen, err := store.AccountPresence(ctx, tx, row.ID)
			if err != nil {
				return err
			}
			a, err = s.compose(row, changes, seen)
			return err
		}
		return problem.NotFound("account")
	})
	return a, err
}

func showPairs(pairs netmap.Pairs) api.AccessPairs {
	shown := api.AccessPairs{Count: int64(pairs.Count), Sample: []api.AccessPair{}}
	for _, p := range pairs.Sample {
		shown.Sample = append(shown.Sample, api.AccessPair{
			Source: showEnd(p.Source), Destination: showEnd(p.Destination), Before: p.Before, After: p.After,
		})
	}
	return shown
}

func showEnd(end netmap.End) api.AccessEnd {
	return api.AccessEnd{Type: api.AccessEndType(end.Kind), Id: end.ID, Name: end.Name}
}

package state

import (
	"context"
	"errors"
	"fmt"

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

// preview tells what the changes of a trial would mean. It reads the account
// anew, beside the one in use, so that no write waits for it; trials wait for
// each other.
func (s *State) preview(ctx context.Context, a *account, changes []change) error {
	select {
	case s.trials <- struct{}{}:
		defer func() { <-s.trials }()
	case <-ctx.Done():
		return ctx.Err()
	}
	beside, err := s.beside(ctx, a.id)
	if err != nil {
		return asProblem(err)
	}
	var numbers netmap.Numbers
	before := beside.engine.Picture(&numbers)
	var learned []netmap.Change
	for _, c := range changes {
		more, err := beside.apply(c)
		if err != nil {
			return problem.Internal(fmt.Errorf("try a change: %w", err))
		}
		learned = append(learned, more...)
	}
	if _, err := beside.engine.Apply(beside.row.Serial+1, learned...); err != nil {
		return conflict("the account changed while the write was tried; repeat the request")
	}
	impact := netmap.Compare(before, beside.engine.Picture(&numbers), sampledPairs)
	return &Previewed{api.AccessPreview{
		Gained: showPairs(impact.Gained), Lost: showPairs(impact.Lost), Changed: showPairs(impact.Changed),
	}}
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

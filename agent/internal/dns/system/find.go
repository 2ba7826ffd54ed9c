package system

import (
	"context"
	"errors"
	"fmt"
)

// errElsewhere is why a manager that runs is not the one.
var errElsewhere = errors.New("the programs of this machine do not ask it, says " + resolvConf)

// A finder returns the Setter of a kind, or why it is not the one here. The
// finders of a system stand in the order in which they are tried.
type finder struct {
	kind Kind
	find func(context.Context, Options) (Setter, error)
}

func findFile(_ context.Context, o Options) (Setter, error) { return newFile(o), nil }

// find returns the Setter of a kind, or of the first that answers the programs
// of this machine: the file is never written where a manager does.
func find(ctx context.Context, o Options) (Setter, error) {
	for _, f := range finders {
		if o.Kind != Auto && o.Kind != "" && o.Kind != f.kind {
			continue
		}
		setter, err := f.find(ctx, o)
		if err == nil {
			return setter, nil
		}
		if o.Kind == f.kind {
			return nil, unknown(o.Kind, err)
		}
		o.Logger.Debug("name servers are set otherwise", "not_by", string(f.kind), "reason", err)
	}
	return nil, unknown(o.Kind, errors.New("there is no such way"))
}

// unknownKind is the error for a journal that another version, or another
// system, wrote.
func unknownKind(j record) error {
	return fmt.Errorf("the journal is of a kind %q that this version does not know", j.Kind)
}

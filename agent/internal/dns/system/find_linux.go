package system

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
)

// finders return the Setter of a kind, or why it is not the one here.
var finders = []struct {
	kind Kind
	find func(context.Context, Options) (Setter, error)
}{
	{Resolved, findResolved},
	{NetworkManager, findNetworkManager},
	{Resolvconf, findResolvconf},
	{File, func(_ context.Context, o Options) (Setter, error) { return newFile(o), nil }},
}

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

// undo puts back what was set in a manager on this boot. What belongs to an
// interface is gone with it.
func undo(ctx context.Context, j record) error {
	switch j.Kind {
	case Resolved:
		link, err := net.InterfaceByName(j.Interface)
		if err != nil {
			return nil //nolint:nilerr // gone, and everything with it
		}
		var b bus
		return errors.Join(revert(ctx, &b, link.Index), b.close())
	case NetworkManager:
		var n networkManager
		if j.Global == nil || !n.bus.running(ctx, managerName) {
			return errors.Join(errors.New("NetworkManager does not run, and cannot be told"), n.bus.close())
		}
		return errors.Join(n.give(ctx, *j.Global, j.Servers), n.bus.close())
	case Resolvconf:
		program, err := findProgram()
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return removeEntry(ctx, program, j.Interface)
	}
	return fmt.Errorf("the journal is of a kind %q that this version does not know", j.Kind)
}

package system

import (
	"context"
	"errors"
	"net"
)

// finders are the ways of Linux.
var finders = []finder{
	{Resolved, findResolved},
	{NetworkManager, findNetworkManager},
	{Resolvconf, findResolvconf},
	{File, findFile},
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
		return undoResolvconf(ctx, j.Interface)
	}
	return unknownKind(j)
}

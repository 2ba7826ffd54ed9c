package system

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/godbus/dbus/v5"
)

// A bus is the system's message bus, connected when it is needed: its daemon may
// be restarted. Its zero value works.
type bus struct {
	mu   sync.Mutex // guards conn
	conn *dbus.Conn // nil before the first use
}

// open returns the connection.
func (b *bus) open() (*dbus.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conn != nil && b.conn.Connected() {
		return b.conn, nil
	}
	conn, err := dbus.ConnectSystemBus()
	if err != nil {
		return nil, fmt.Errorf("connect to the system's message bus: %w", err)
	}
	b.conn = conn
	return conn, nil
}

// close ends the connection; the next open makes another one.
func (b *bus) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conn == nil {
		return nil
	}
	err := b.conn.Close()
	b.conn = nil
	return err
}

// call calls a method of an object and stores what it returns.
func (b *bus) call(ctx context.Context, o object, method string, args []any, into ...any) error {
	conn, err := b.open()
	if err != nil {
		return err
	}
	if err := conn.Object(o.name, o.path).CallWithContext(ctx, method, dbus.FlagNoAutoStart, args...).Store(into...); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	return nil
}

// get reads a property.
func (b *bus) get(ctx context.Context, o object, iface, property string, into any) error {
	var value dbus.Variant
	if err := b.call(ctx, o, "org.freedesktop.DBus.Properties.Get", []any{iface, property}, &value); err != nil {
		return err
	}
	return value.Store(into)
}

// running reports whether a program has a name on the bus.
func (b *bus) running(ctx context.Context, name string) bool {
	var has bool
	return b.call(ctx, object{"org.freedesktop.DBus", "/org/freedesktop/DBus"}, "org.freedesktop.DBus.NameHasOwner", []any{name}, &has) == nil && has
}

// object is one that a program has on the bus.
type object struct {
	name string
	path dbus.ObjectPath
}

// refused reports whether an error means that the caller may not do this.
func refused(err error) bool {
	return hasName(err, "org.freedesktop.DBus.Error.AccessDenied", "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", "org.freedesktop.NetworkManager.Device.PermissionDenied", "org.freedesktop.NetworkManager.PermissionDenied")
}

// missing reports whether an error means that a program is too old for a method.
func missing(err error) bool { return hasName(err, "org.freedesktop.DBus.Error.UnknownMethod") }

func hasName(err error, names ...string) bool {
	failure, ok := errors.AsType[dbus.Error](err)
	return ok && slices.Contains(names, failure.Name)
}

// explained says what to do about an error of a manager.
func explained(kind Kind, err error) error {
	switch {
	case err == nil:
		return nil
	case refused(err):
		return fmt.Errorf("%s does not let this user set name servers: %w; install the polkit rules that come with wattle, or run the daemon as root", kind, err)
	}
	return fmt.Errorf("set the name servers of this machine with %s: %w; if that goes on, start the daemon with --dns off", kind, err)
}

// follow calls heard for each signal that matches, until ctx ends or the bus
// does. It calls heard once in the beginning.
func (b *bus) follow(ctx context.Context, matches [][]dbus.MatchOption, heard func(*dbus.Signal)) error {
	conn, err := b.open()
	if err != nil {
		return err
	}
	signals := make(chan *dbus.Signal, 64)
	conn.Signal(signals)
	defer conn.RemoveSignal(signals)
	for _, match := range matches {
		if err := conn.AddMatchSignalContext(ctx, match...); err != nil {
			return fmt.Errorf("watch the system's message bus: %w", err)
		}
	}
	heard(nil)
	for {
		select {
		case <-ctx.Done():
			return nil
		case signal, open := <-signals:
			if !open {
				return errBusClosed
			}
			heard(signal)
		}
	}
}

// errBusClosed means that the daemon of the bus has ended.
var errBusClosed = errors.New("the system's message bus has ended")

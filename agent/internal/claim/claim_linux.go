package claim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// prefix begins the names of our sockets. They stand in no folder (unix(7),
// abstract sockets): each network namespace has its own, as it has its own
// interfaces and tables, and they end with their process.
const prefix = "\x00wattle/"

func take(name string) (io.Closer, error) {
	var config net.ListenConfig
	listener, err := config.Listen(context.Background(), "unix", prefix+name)
	if err == nil {
		return listener, nil
	}
	if !errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("claim the %s: %w", name, err)
	}
	holder, err := holderOf(name)
	if err != nil {
		return nil, fmt.Errorf("claim the %s: %w", name, err)
	}
	if holder != 0 && holder != os.Geteuid() {
		return none{}, nil // anybody may bind such a name; only who could be an agent keeps us out
	}
	return nil, Taken{Name: name}
}

// none is a claim that nobody else heeds.
type none struct{}

func (none) Close() error { return nil }

// holderOf returns the user who holds a name.
func holderOf(name string) (uid int, err error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(context.Background(), "unix", prefix+name)
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EAGAIN) {
		return 0, nil // ended just now, or does not accept: somebody is there
	}
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	raw, err := conn.(*net.UnixConn).SyscallConn() // what a dialer of "unix" returns
	if err != nil {
		return 0, err
	}
	var found *unix.Ucred
	var failure error
	err = raw.Control(func(fd uintptr) { found, failure = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, failure); err != nil {
		return 0, err
	}
	return int(found.Uid), nil
}

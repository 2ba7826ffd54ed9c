package route

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Watch calls changed when addresses, links or routes of the machine have
// changed, at most once per settle, until ctx ends. Changes of the interface
// named own are the agent's and do not count. It returns an error when the
// kernel stops telling.
func Watch(ctx context.Context, own string, changed func()) error {
	socket, err := subscribe()
	if err != nil {
		return fmt.Errorf("watch addresses, links and routes: %w", err)
	}
	events := make(chan struct{}, 1)
	var reader sync.WaitGroup
	var failure error
	reader.Go(func() {
		defer close(events)
		failure = follow(socket, own, events)
	})
	settled(ctx, events, changed)
	socket.Close()
	reader.Wait()
	select {
	case <-ctx.Done():
		return nil
	default:
		return fmt.Errorf("watch addresses, links and routes: %w", failure)
	}
}

// subscribe opens the one socket on which the kernel tells of all three.
func subscribe() (*nl.NetlinkSocket, error) {
	return nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
}

// follow tells of changes that are not those of the interface own, until the
// socket is closed.
func follow(socket *nl.NetlinkSocket, own string, events chan<- struct{}) error {
	for {
		messages, _, err := socket.Receive()
		matters := errors.Is(err, unix.ENOBUFS) // some were lost
		if err != nil && !matters {
			return err
		}
		ours := -1 // while there is none of that name
		if link, err := netlink.LinkByName(own); err == nil {
			ours = link.Attrs().Index
		}
		for _, m := range messages {
			matters = matters || linkOf(m) != ours
		}
		if matters {
			select {
			case events <- struct{}{}:
			default:
			}
		}
	}
}

// linkOf is the index of the interface that a message is about: zero when it
// is about none, or a route over several.
func linkOf(m syscall.NetlinkMessage) int {
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if len(m.Data) >= unix.SizeofIfInfomsg {
			return int(nl.DeserializeIfInfomsg(m.Data).Index)
		}
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		if len(m.Data) >= unix.SizeofIfAddrmsg {
			return int(nl.DeserializeIfAddrmsg(m.Data).Index)
		}
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if len(m.Data) < unix.SizeofRtMsg {
			return 0
		}
		attributes, err := syscall.ParseNetlinkRouteAttr(&m)
		if err != nil {
			return 0
		}
		for _, a := range attributes {
			if a.Attr.Type == unix.RTA_OIF && len(a.Value) >= 4 {
				return int(nl.NativeEndian().Uint32(a.Value))
			}
		}
	}
	return 0
}

// settled calls changed once per burst of events, until ctx ends or there are
// no more events.
func settled(ctx context.Context, events <-chan struct{}, changed func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case _, more := <-events:
			if !more {
				return
			}
		}
		quiet := time.NewTimer(settle)
		select {
		case <-ctx.Done():
			quiet.Stop()
			return
		case <-quiet.C:
		}
		select { // what came meanwhile belongs to the burst
		case <-events:
		default:
		}
		changed()
	}
}

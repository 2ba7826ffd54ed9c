package route

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Watch calls changed when addresses, links or routes of the machine have
// changed, and disturbed when those of the interface named own have while it is
// up, by whomever; each at most once per settle, until ctx ends. They may be
// called at the same moment. It returns an error when the kernel stops telling.
func Watch(ctx context.Context, own string, changed, disturbed func()) error {
	socket, err := subscribe()
	if err != nil {
		return fmt.Errorf("watch addresses, links and routes: %w", err)
	}
	others, ours := make(chan struct{}, 1), make(chan struct{}, 1)
	var parts sync.WaitGroup
	var failure error
	parts.Go(func() {
		defer close(others)
		defer close(ours)
		failure = follow(socket, own, others, ours)
	})
	parts.Go(func() { settled(ctx, ours, disturbed) })
	settled(ctx, others, changed)
	socket.Close()
	parts.Wait()
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

// follow tells of changes, those of the interface own apart, until the socket is
// closed. While that interface is down nothing is expected of it: who has set it
// down sets it up.
func follow(socket *nl.NetlinkSocket, own string, others, ours chan<- struct{}) error {
	for {
		messages, _, err := socket.Receive()
		lost := errors.Is(err, unix.ENOBUFS) // some messages
		if err != nil && !lost {
			return err
		}
		index, up := -1, false // while there is none of that name
		if link, err := netlink.LinkByName(own); err == nil {
			index, up = link.Attrs().Index, link.Attrs().Flags&net.FlagUp != 0
		}
		about := func(m syscall.NetlinkMessage) bool { return linkOf(m) == index }
		if lost || slices.ContainsFunc(messages, func(m syscall.NetlinkMessage) bool { return !about(m) }) {
			tell(others)
		}
		if up && (lost || slices.ContainsFunc(messages, about)) {
			tell(ours)
		}
	}
}

// tell puts a token into a channel that holds one.
func tell(events chan<- struct{}) {
	select {
	case events <- struct{}{}:
	default:
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

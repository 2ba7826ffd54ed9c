package route

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/wattlenet/wattle/internal/namespacetest"
)

func TestBurstIsOneChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		events := make(chan struct{}, 1)
		changes := 0
		done := make(chan struct{})
		go func() { settled(ctx, events, func() { changes++ }); close(done) }()
		for range 5 {
			events <- struct{}{}
			synctest.Wait()
			if len(events) > 0 {
				<-events
			}
			time.Sleep(settle / 10)
		}
		time.Sleep(2 * settle)
		synctest.Wait()
		cancel()
		<-done
		if changes != 1 {
			t.Errorf("%d changes, want 1", changes)
		}
	})
}

func TestNoMoreEventsEndTheWatch(t *testing.T) {
	events := make(chan struct{})
	close(events)
	settled(t.Context(), events, func() { t.Error("a change without an event") })
}

// TestWatch runs in namespaces of its own, where it may change interfaces without root.
func TestWatch(t *testing.T) {
	namespacetest.Run(t, namespacetest.Network|namespacetest.Mounts, testWatch)
}

func testWatch(t *testing.T) {
	t.Run("messages name their interface", func(t *testing.T) {
		socket, err := subscribe()
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		index := interfaceWith(t, "eth0", "192.168.7.2/24", "fd00:7::2/64")
		wanted := map[uint16]bool{unix.RTM_NEWLINK: true, unix.RTM_NEWADDR: true, unix.RTM_NEWROUTE: true}
		for len(wanted) > 0 { // each of them comes, or the test hangs
			messages, _, err := socket.Receive()
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range messages {
				switch linkOf(m) {
				case index:
					delete(wanted, m.Header.Type)
				case 0: // the others are the loopback and the other end of the interface
					t.Errorf("message of type %d is about no interface", m.Header.Type)
				}
			}
		}
	})
	for own, which := range map[string]string{"wt0": "others", "eth1": "its own"} {
		t.Run("changes of "+which+" are told until the end", func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			told, done := map[string]chan struct{}{"others": make(chan struct{}, 1), "its own": make(chan struct{}, 1)}, make(chan error, 1)
			go func() {
				done <- Watch(ctx, own, func() { tell(told["others"]) }, func() { tell(told["its own"]) })
			}()
			link, err := netlink.LinkByIndex(interfaceWith(t, "eth1", "192.168.8.2/24"))
			if err != nil {
				t.Fatal(err)
			}
			for { // the watch may begin later
				select {
				case <-told[which]:
					cancel()
				case err := <-done:
					if err != nil || ctx.Err() == nil {
						t.Errorf("the watch ended with %v, %v", err, ctx.Err())
					}
					if err := netlink.LinkDel(link); err != nil {
						t.Error(err)
					}
					return
				default:
					if err := errors.Join(netlink.LinkSetDown(link), netlink.LinkSetUp(link)); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
}

func TestWhatIsCutShortIsAboutNothing(t *testing.T) {
	for _, kind := range []uint16{unix.RTM_NEWLINK, unix.RTM_NEWADDR, unix.RTM_NEWROUTE, unix.RTM_NEWRULE} {
		for size := range unix.SizeofIfInfomsg {
			if got := linkOf(syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: kind}, Data: make([]byte, size)}); got != 0 {
				t.Errorf("type %d, %d bytes: interface %d", kind, size, got)
			}
		}
	}
}

package lab

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A WAN is a long way between its hosts and the network it is on: delay, loss,
// rate and order are those of a Line, the same in both directions. It is the
// Network of what lies behind it and translates nothing.
//
//	network ── wan │ far │ lan ── hosts, routers
//	               │  ↕  │
//	               │ tun │ <─ a timer heap in this process
//
// Every packet that arrives is routed into a TUN device, waits in this process,
// and comes back out of the device to be routed on. That costs far more than
// the kernel's own way: use it to see what happens, never for a throughput.
type WAN struct {
	*Router

	device *os.File
	lanes  [2]*lane // towards the network, towards the LAN

	mu      sync.Mutex // guards lanes
	wake    chan struct{}
	closing chan struct{}
	ended   sync.WaitGroup
}

// wanTable and wanDevice are numbers and names inside the WAN's own namespace.
const (
	wanTable  = 100
	wanDevice = "far"
)

// WAN makes a long way to network.
func (l *Lab) WAN(name string, line Line, network Network) (*WAN, error) {
	r, err := l.Router(name, None, network)
	if err != nil {
		return nil, err
	}
	w := &WAN{Router: r, wake: make(chan struct{}, 1), closing: make(chan struct{})}
	for i := range w.lanes {
		w.lanes[i] = &lane{Line: line, random: rand.New(rand.NewPCG(uint64(i)+1, 20))}
	}
	if err := w.open(); err != nil {
		return nil, fmt.Errorf("lab: %s: %w", name, err)
	}
	w.ended.Add(2)
	go w.read()
	go w.write()
	l.mu.Lock()
	l.wans[name] = w
	l.mu.Unlock()
	return w, nil
}

// FindWAN returns the WAN of that name.
func (l *Lab) FindWAN(name string) (*WAN, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w, ok := l.wans[name]
	return w, ok
}

// open makes the device and leads all traffic through it.
func (w *WAN) open() error {
	err := w.Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("open /dev/net/tun: %w", err)
		}
		request, err := unix.NewIfreq(wanDevice)
		if err == nil {
			request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("make the device: %w", err), unix.Close(fd))
		}
		w.device = os.NewFile(uintptr(fd), wanDevice)
		return nil
	})
	if err != nil {
		return err
	}
	return w.ip(
		"link set "+wanDevice+" addrgenmode none", "link set "+wanDevice+" mtu 65535 up",
		fmt.Sprintf("route add default dev %s table %d", wanDevice, wanTable),
		fmt.Sprintf("rule add iif wan pref 10 lookup %d", wanTable),
		fmt.Sprintf("rule add iif lan pref 10 lookup %d", wanTable),
	)
}

// Set gives the way another Line. What is under way arrives as it would have.
func (w *WAN) Set(line Line) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.lanes {
		l.Line = line
	}
}

// Dropped counts the packets of both directions that did not pass.
func (w *WAN) Dropped() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lanes[0].dropped + w.lanes[1].dropped
}

// read takes packets up until the device is closed.
func (w *WAN) read() {
	defer w.ended.Done()
	buffer := make([]byte, 1<<16)
	for {
		n, err := w.device.Read(buffer)
		if err != nil {
			return
		}
		to, ok := destination(buffer[:n])
		if !ok {
			continue // the kernel's own word at this device, such as the groups of IPv6 that a router is in
		}
		direction := 0
		if w.LAN.Contains(to) {
			direction = 1
		}
		w.mu.Lock()
		w.lanes[direction].enter(time.Now(), append([]byte(nil), buffer[:n]...))
		w.mu.Unlock()
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// destination reads where an IPv4 packet goes (RFC 791, section 3.1).
func destination(packet []byte) (netip.Addr, bool) {
	if len(packet) < 20 || packet[0]>>4 != 4 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom4([4]byte(packet[16:20])), true
}

// write lets packets go when they are due.
func (w *WAN) write() {
	defer w.ended.Done()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait := time.Hour
		w.mu.Lock()
		for _, l := range w.lanes {
			for packet := l.leave(time.Now()); packet != nil; packet = l.leave(time.Now()) {
				// A packet that the kernel refuses is lost, like any other.
				_, _ = w.device.Write(packet)
			}
			if due, ok := l.next(); ok {
				wait = min(wait, time.Until(due))
			}
		}
		w.mu.Unlock()
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-w.wake:
		case <-w.closing:
			return
		}
	}
}

// close ends the way; the lab calls it.
func (w *WAN) close() error {
	close(w.closing)
	err := w.device.Close()
	w.ended.Wait()
	return err
}

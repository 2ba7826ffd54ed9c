package portmap

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wattlenet/wattle/acceptance/lab/gateway"
)

const tunnelPort = 51820

var outside = netip.MustParseAddr("198.51.100.7")

// A home is a gateway on loopback with what it forwards.
type home struct {
	gateway *gateway.Gateway
	ports   Ports
	stop    func()
}

// newHome starts a gateway that speaks one protocol.
func newHome(t *testing.T, protocol string, change func(*gateway.Config)) *home {
	t.Helper()
	config := gateway.Config{External: outside, Forward: func(uint16, netip.AddrPort) error { return nil }}
	h := &home{}
	silent := socket(t) // nobody answers on it
	h.ports = Ports{Control: silent.Port(), Discover: silent}
	switch protocol {
	case PCP, NATPMP:
		conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		config.Control, config.PCP = conn, protocol == PCP
		h.ports.Control = netip.MustParseAddrPort(conn.LocalAddr().String()).Port()
	case UPnP:
		conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		web, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		config.Discover, config.Web = conn, web
		h.ports.Discover = netip.MustParseAddrPort(conn.LocalAddr().String())
	}
	if change != nil {
		change(&config)
	}
	h.gateway = gateway.New(config)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = h.gateway.Run(ctx) })
	h.stop = func() { cancel(); running.Wait() }
	t.Cleanup(h.stop)
	return h
}

// socket returns the address of a socket that is closed again: whoever sends
// there is refused at once.
func socket(t *testing.T) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddrPort(conn.LocalAddr().String())
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	return addr
}

var local = Gateway{Addr: netip.MustParseAddr("127.0.0.1"), Local: netip.MustParseAddr("127.0.0.1")}

// A news is what a Mapper has said.
type news struct {
	mapping Mapping
	err     error
}

func run(t *testing.T, h *home) (said chan news, mapper *Mapper, stop func()) {
	t.Helper()
	said = make(chan news, 16)
	mapper, err := New(Config{
		Logger: slog.New(slog.DiscardHandler), Port: func() uint16 { return tunnelPort }, Ports: h.ports,
		Changed: func(m Mapping, err error) { said <- news{m, err} },
		Find:    func() (Gateway, error) { return local, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := mapper.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	return said, mapper, stop
}

func TestEveryProtocol(t *testing.T) {
	for name, test := range map[string]struct {
		protocol string
		change   func(*gateway.Config)
	}{
		"PCP":                              {PCP, nil},
		"NAT-PMP":                          {NATPMP, nil},
		"UPnP":                             {UPnP, nil},
		"UPnP that forwards for ever only": {UPnP, func(c *gateway.Config) { c.Permanent = true }},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t, test.protocol, test.change)
			said, _, stop := run(t, h)
			got := <-said
			want := Mapping{Protocol: test.protocol, Gateway: local.Addr, External: netip.AddrPortFrom(outside, tunnelPort), Lifetime: lifetime}
			if got.err != nil || got.mapping != want {
				t.Fatalf("%+v, want %+v", got, want)
			}
			if to := h.gateway.Mappings()[tunnelPort]; to != netip.AddrPortFrom(local.Local, tunnelPort) {
				t.Errorf("the gateway forwards to %s", to)
			}
			stop()
			if left := h.gateway.Mappings(); len(left) != 0 {
				t.Errorf("the gateway still forwards %v", left)
			}
			if last := <-said; last.mapping != (Mapping{}) {
				t.Errorf("the last word is %+v", last)
			}
		})
	}
}

func TestTakenPort(t *testing.T) {
	other := netip.MustParseAddrPort("127.0.0.2:51820")
	for _, protocol := range []string{PCP, NATPMP, UPnP} {
		t.Run(protocol, func(t *testing.T) {
			h := newHome(t, protocol, nil)
			taken := &natPMP{netip.AddrPortFrom(local.Addr, h.ports.Control)}
			if protocol == UPnP {
				c := newUPnP(local, h.ports.Discover)
				if _, err := c.add(t.Context(), 40000, tunnelPort); err != nil {
					t.Fatal(err)
				}
			} else if _, err := taken.add(t.Context(), other.Port()+1, tunnelPort); err != nil {
				t.Fatal(err)
			}
			said, _, _ := run(t, h)
			if got := <-said; got.mapping.External != netip.AddrPortFrom(outside, tunnelPort+1) {
				t.Errorf("mapped to %+v, want the next port", got)
			}
		})
	}
}

func TestNobodyForwards(t *testing.T) {
	h := newHome(t, "", nil)
	said, mapper, _ := run(t, h)
	if got := <-said; got.err == nil {
		t.Fatalf("%+v, want an error", got)
	}
	mapper.NetworkChanged() // asks again at once
	if got := <-said; got.err == nil {
		t.Fatalf("%+v, want an error", got)
	}
}

func TestPublicAddressAsksNobody(t *testing.T) {
	for text, want := range map[string]bool{
		"192.168.1.10": true, "10.0.0.1": true, "100.64.0.9": true, "203.0.113.9": false, "2001:db8::1": false,
	} {
		if got := translated(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s is translated: %t, want %t", text, got, want)
		}
	}
}

// A script is a gateway that answers as it was told, and notes when it was asked.
type script struct {
	begun   time.Time
	answers []Mapping // of add, in order; then it refuses
	asked   []time.Duration
	wanted  []uint16
	removed int
}

func (s *script) add(_ context.Context, _, wanted uint16) (Mapping, error) {
	s.asked, s.wanted = append(s.asked, time.Since(s.begun)), append(s.wanted, wanted)
	if len(s.answers) == 0 {
		return Mapping{}, errors.New("no more")
	}
	next := s.answers[0]
	s.answers = s.answers[1:]
	return next, nil
}

func (s *script) remove(context.Context, uint16) error {
	s.removed++
	return nil
}

// A mapping is renewed when half of what the gateway promised has passed, with the
// port that it has. One that the gateway has moved is told.
func TestMappingIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := func(port uint16, life time.Duration) Mapping {
			return Mapping{External: netip.AddrPortFrom(outside, port), Lifetime: life}
		}
		var said []uint16
		m, err := New(Config{
			Logger: slog.New(slog.DiscardHandler), Port: func() uint16 { return tunnelPort },
			Find:    func() (Gateway, error) { return local, nil },
			Changed: func(m Mapping, _ error) { said = append(said, m.External.Port()) },
		})
		if err != nil {
			t.Fatal(err)
		}
		s := &script{begun: time.Now(), answers: []Mapping{at(1000, 10*time.Second), at(2000, 100*time.Hour), at(2000, time.Hour)}}
		m.keep(t.Context(), &held{forwarder: s, gateway: local, port: tunnelPort, mapping: at(1000, 2*time.Hour)})
		first := time.Hour
		second := first + shortest/2 // less is not believed
		third := second + longest/2  // nor is more
		if want := []time.Duration{first, second, third, third + time.Hour/2}; !slices.Equal(s.asked, want) {
			t.Errorf("asked after %v, want %v", s.asked, want)
		}
		if want := []uint16{1000, 1000, 2000, 2000}; !slices.Equal(s.wanted, want) {
			t.Errorf("wanted %v, want %v", s.wanted, want)
		}
		if want := []uint16{1000, 2000}; !slices.Equal(said, want) {
			t.Errorf("said %v, want %v: each port once", said, want)
		}
		if s.removed != 1 {
			t.Errorf("removed %d times", s.removed)
		}
	})
}

func TestNetworkChangeMovesTheMapping(t *testing.T) {
	h := newHome(t, PCP, nil)
	port := uint16(tunnelPort)
	var mu sync.Mutex // guards port
	said := make(chan news, 16)
	mapper, err := New(Config{
		Logger: slog.New(slog.DiscardHandler), Ports: h.ports,
		Port: func() uint16 {
			mu.Lock()
			defer mu.Unlock()
			return port
		},
		Changed: func(m Mapping, err error) { said <- news{m, err} },
		Find:    func() (Gateway, error) { return local, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = mapper.Run(ctx) })
	defer func() { cancel(); running.Wait() }()
	<-said
	mapper.NetworkChanged() // to the same network: nothing is lost
	mu.Lock()
	port = 40000
	mu.Unlock()
	mapper.NetworkChanged()
	<-said // none for a moment
	if got := <-said; got.mapping.External.Port() != 40000 {
		t.Errorf("mapped to %+v, want port 40000", got)
	}
	if len(h.gateway.Mappings()) != 1 {
		t.Errorf("the gateway forwards %v, want one port", h.gateway.Mappings())
	}
}

func FuzzControl(f *testing.F) {
	nonce := [pcpNonce]byte{1, 2, 3}
	answer := appendPCP(nil, nonce, local.Local, tunnelPort, tunnelPort, time.Hour)
	answer[1] |= pcpResponse
	f.Add(answer)
	f.Add([]byte{0, 0x81, 0, 1, 0, 0, 0, 0})
	f.Add([]byte{0, 128, 0, 0, 0, 0, 0, 1, 198, 51, 100, 7})
	f.Add([]byte{0, 129, 0, 0, 0, 0, 0, 1, 0xca, 0x6c, 0xca, 0x6c, 0, 0, 0x0e, 0x10})
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, ours, err := readPCP(b, nonce, tunnelPort); ours && err == nil {
			checkMapping(t, m)
		}
		addr, ours, err := readPMPAddress(b)
		if !ours || err != nil {
			addr = outside
		}
		if m, ours, err := readPMPMap(b, addr, tunnelPort); ours && err == nil {
			checkMapping(t, m)
		}
	})
}

func checkMapping(t *testing.T, m Mapping) {
	if m.Lifetime > 0 && (!m.External.IsValid() || m.External.Port() == 0 || m.External.Addr().IsLoopback()) {
		t.Errorf("accepted %+v", m)
	}
}

func FuzzUPnP(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nLOCATION: http://192.168.1.1:5000/root.xml\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nLOCATION: http://203.0.113.9/\r\n\r\n"))
	f.Add([]byte(`<root><URLBase>http://192.168.1.1/</URLBase><device><serviceList><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType><controlURL>/c</controlURL></service></serviceList></device></root>`))
	f.Add([]byte(`<Envelope><Body><Fault><detail><UPnPError><errorCode>718</errorCode></UPnPError></detail></Fault></Body></Envelope>`))
	at := netip.MustParseAddr("192.168.1.1")
	f.Fuzz(func(t *testing.T, b []byte) {
		if location := readLocation(b, at); location != nil {
			if host, err := netip.ParseAddr(location.Hostname()); err != nil || host != at {
				t.Errorf("led to %s", location)
			}
			if service, err := readDescription(b, location); err == nil && service.control == nil {
				t.Error("a service without an address")
			}
		}
		_, _ = readAnswer("AddPortMapping", b)
	})
}

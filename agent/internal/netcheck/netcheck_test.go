package netcheck

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/stun/v2"

	"github.com/wattlenet/wattle/agent/internal/portmap"
)

// A fakeServer is a STUN server with two addresses and two ports (RFC 5780) on
// the loopback, behind a NAT of its own imagination.
type fakeServer struct {
	sockets [2][2]net.PacketConn // by address and port

	// mapped is what the server says of a client that asks at a socket.
	mapped func(from netip.AddrPort, address, port int) netip.AddrPort

	// filters swallows answers from another address or port than was asked.
	filters func(otherAddress, otherPort bool) bool

	// largest is the largest packet that arrives; 0: every one.
	largest int

	reading sync.WaitGroup
}

func (f *fakeServer) start(t *testing.T) netip.AddrPort {
	t.Helper()
	hosts := []string{"127.0.0.1", "127.0.0.2"}
	for port := range 2 {
		for attempt := 0; ; attempt++ {
			first, err := net.ListenPacket("udp4", hosts[0]+":0")
			if err != nil {
				t.Fatal(err)
			}
			number := first.LocalAddr().(*net.UDPAddr).Port
			second, err := net.ListenPacket("udp4", fmt.Sprintf("%s:%d", hosts[1], number))
			if err == nil {
				f.sockets[0][port], f.sockets[1][port] = first, second
				break
			}
			_ = first.Close()
			if attempt == 20 {
				t.Skipf("SKIPPED: no second loopback address here: %v", err)
			}
		}
	}
	for address := range 2 {
		for port := range 2 {
			f.reading.Go(func() { f.serve(address, port) })
		}
	}
	t.Cleanup(func() {
		for _, pair := range f.sockets {
			_ = errors.Join(pair[0].Close(), pair[1].Close())
		}
		f.reading.Wait()
	})
	return netip.MustParseAddrPort(f.sockets[0][0].LocalAddr().String())
}

func (f *fakeServer) serve(address, port int) {
	buffer := make([]byte, 2048)
	for {
		n, from, err := f.sockets[address][port].ReadFrom(buffer)
		if err != nil {
			return
		}
		if f.largest != 0 && n+headers4 > f.largest {
			continue
		}
		request := &stun.Message{Raw: append([]byte(nil), buffer[:n]...)}
		if request.Decode() != nil || request.Type != stun.BindingRequest {
			continue
		}
		other := f.sockets[1][1].LocalAddr().(*net.UDPAddr)
		if address == 1 {
			other = f.sockets[0][1].LocalAddr().(*net.UDPAddr)
		}
		at := netip.MustParseAddrPort(from.String())
		mapped := at
		if f.mapped != nil {
			mapped = f.mapped(at, address, port)
		}
		answer, err := stun.Build(stun.NewTransactionIDSetter(request.TransactionID), stun.BindingSuccess,
			&stun.XORMappedAddress{IP: mapped.Addr().AsSlice(), Port: int(mapped.Port())}, &stun.OtherAddress{IP: other.IP, Port: other.Port})
		if err != nil {
			continue
		}
		fromAddress, fromPort := address, port
		if raw, err := request.Get(stun.AttrChangeRequest); err == nil {
			bits := binary.BigEndian.Uint32(raw)
			fromAddress ^= int(bits&changeIP) >> 2
			fromPort ^= int(bits&changePort) >> 1
		}
		if f.filters != nil && f.filters(fromAddress != address, fromPort != port) {
			continue
		}
		_, _ = f.sockets[fromAddress][fromPort].WriteTo(answer.Raw, from) // asked again
	}
}

// outside is a public address of a NAT, at a port.
func outside(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("127.9.9.9"), port)
}

func config(servers ...netip.AddrPort) Config {
	c := Config{
		Logger: slog.New(slog.DiscardHandler),
		Gateway: func() (portmap.Gateway, error) {
			return portmap.Gateway{}, errors.New("there is no gateway")
		},
	}
	for _, server := range servers {
		c.Servers = append(c.Servers, Server{Host: server.String(), Relay: true})
	}
	return c
}

func TestKindsOfNAT(t *testing.T) {
	for name, test := range map[string]struct {
		server *fakeServer
		want   NAT
	}{
		"none": {&fakeServer{}, NAT{Mapping: None, Filtering: EndpointIndependent, PreservesPort: true}},
		"endpoint independent, keeps the port": {
			&fakeServer{
				mapped:  func(from netip.AddrPort, _, _ int) netip.AddrPort { return outside(from.Port()) },
				filters: func(otherAddress, _ bool) bool { return otherAddress },
			},
			NAT{Mapping: EndpointIndependent, Filtering: AddressDependent, PreservesPort: true, Hairpin: true},
		},
		"address dependent": {
			&fakeServer{mapped: func(_ netip.AddrPort, address, _ int) netip.AddrPort { return outside(uint16(1000 + address)) }},
			NAT{Mapping: AddressDependent, Filtering: EndpointIndependent},
		},
		"address and port dependent": {
			&fakeServer{
				mapped: func(_ netip.AddrPort, address, port int) netip.AddrPort {
					return outside(uint16(1000 + 10*address + port))
				},
				filters: func(otherAddress, otherPort bool) bool { return otherAddress || otherPort },
			},
			NAT{Mapping: AddressAndPortDependent, Filtering: AddressAndPortDependent},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := test.server.start(t)
			report, err := Run(t.Context(), config(address))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, report.NAT); diff != "" {
				t.Error(diff)
			}
			if !report.IPv4.UDP || report.IPv4.Address != "127.0.0.1" || report.Servers[0].RTTMillis <= 0 || report.Servers[0].TCP {
				t.Errorf("report %+v", report)
			}
		})
	}
}

func TestCompare(t *testing.T) {
	said := func(server string, port uint16) seen {
		return seen{netip.MustParseAddrPort(server), answer{mapped: outside(port)}}
	}
	for _, test := range []struct {
		answers []seen
		want    string
	}{
		{[]seen{said("192.0.2.1:1", 1)}, Unknown},
		{[]seen{said("192.0.2.1:1", 1), said("192.0.2.1:2", 1)}, Unknown}, // one address tells half
		{[]seen{said("192.0.2.1:1", 1), said("192.0.2.1:2", 2)}, AddressAndPortDependent},
		{[]seen{said("192.0.2.1:1", 1), said("192.0.2.2:1", 1)}, EndpointIndependent},
		{[]seen{said("192.0.2.1:1", 1), said("192.0.2.2:1", 2)}, AddressAndPortDependent},
		{[]seen{said("192.0.2.1:1", 1), said("192.0.2.1:2", 1), said("192.0.2.2:1", 2)}, AddressDependent},
		{[]seen{said("192.0.2.1:1", 1), said("192.0.2.2:1", 1), said("192.0.2.3:1", 2)}, AddressAndPortDependent},
	} {
		if got := compare(test.answers); got != test.want {
			t.Errorf("%v: %s, want %s", test.answers, got, test.want)
		}
	}
}

func TestMTU(t *testing.T) {
	if !canForbidFragments {
		t.Skip("SKIPPED: this system cannot forbid fragments")
	}
	server := &fakeServer{largest: 1400}
	report, err := Run(t.Context(), config(server.start(t)))
	if err != nil || report.IPv4.MTU != 1400 {
		t.Errorf("MTU %d, %v", report.IPv4.MTU, err)
	}
}

func TestNobodyAnswers(t *testing.T) {
	mute, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mute.Close() })
	c := config(netip.MustParseAddrPort(mute.LocalAddr().String()))
	c.Servers = append(c.Servers, Server{Host: "127.0.0.1:no-such-port"}, Server{Host: "nonsense"})
	report, err := Run(t.Context(), c)
	if err != nil || report.IPv4.UDP || report.NAT.Mapping != Unknown || !strings.Contains(strings.Join(report.Warnings, " "), "no UDP") {
		t.Errorf("report %+v, %v", report, err)
	}
	for _, server := range report.Servers {
		if server.Error == "" {
			t.Errorf("no error for %+v", server)
		}
	}
	report, err = Run(t.Context(), config())
	if err != nil || !strings.Contains(strings.Join(report.Warnings, " "), "--stun") {
		t.Errorf("report %+v, %v", report, err)
	}
}

func TestManagement(t *testing.T) {
	ahead := 90 * time.Second
	plane := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusUnauthorized) // an answer all the same
	}))
	t.Cleanup(plane.Close)
	c := config()
	c.ManagementURL = plane.URL
	m, portal := c.management(t.Context())
	if !m.Reached || !m.ClockKnown || m.ClockOffsetSeconds < 88 || m.ClockOffsetSeconds > 92 || portal != PortalNo {
		t.Errorf("management %+v, portal %s", m, portal)
	}
	plane.Close()
	if m, portal := c.management(t.Context()); m.Reached || m.Error == "" || portal != Unknown {
		t.Errorf("management %+v, portal %s", m, portal)
	}
}

// answers is a network in which every request has the same answer.
type answers struct{ response *http.Response }

func (a answers) RoundTrip(*http.Request) (*http.Response, error) {
	if a.response == nil {
		return nil, errors.New("refused")
	}
	return a.response, nil
}

func TestPortal(t *testing.T) {
	plane := "https://mesh.example:8443"
	for name, test := range map[string]struct {
		status   int
		location string
		want     string
	}{
		"signs in elsewhere":   {http.StatusFound, "http://login.hotel.example/", PortalYes},
		"says so":              {http.StatusNetworkAuthenticationRequired, "", PortalYes},
		"to its own HTTPS":     {http.StatusMovedPermanently, "https://mesh.example/", Unknown},
		"a page of its own":    {http.StatusOK, "", Unknown},
		"nobody answers there": {0, "", Unknown},
	} {
		a := answers{}
		if test.status != 0 {
			a.response = &http.Response{StatusCode: test.status, Header: http.Header{}, Body: http.NoBody}
			if test.location != "" {
				a.response.Header.Set("Location", test.location)
			}
		}
		address := mustParse(t, plane)
		if got := portal(t.Context(), a, address, false); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
	if got := portal(context.Background(), answers{}, mustParse(t, plane), true); got != PortalNo {
		t.Errorf("a control plane that is reached: %s", got)
	}
}

func mustParse(t *testing.T, address string) *url.URL {
	t.Helper()
	parsed, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestDifferences(t *testing.T) {
	good := Report{
		IPv4: Family{UDP: true, MTU: 1500}, IPv6: Family{UDP: true}, NAT: NAT{Mapping: EndpointIndependent, Filtering: AddressDependent},
		PortMapping: PortMapping{Protocol: "pcp"}, Servers: []Answer{{Relay: true, UDP: true}},
		Management: Management{Reached: true, ClockKnown: true, ClockOffsetSeconds: -2}, CaptivePortal: PortalNo,
	}
	all := []string{
		"udp", "ipv4", "ipv6", "mapping=endpoint_independent", "filtering=address_dependent", "port_mapping", "relay", "management", "clock",
		"no_captive_portal", "mtu=1420",
	}
	if list, err := good.Differences(all); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	bad := Report{NAT: NAT{Mapping: Unknown, Filtering: Unknown}, CaptivePortal: Unknown}
	if list, err := bad.Differences(all); err != nil || len(list) != len(all) {
		t.Errorf("%d of %d differ, %v: %v", len(list), len(all), err, list)
	}
	late := good
	late.Management.ClockOffsetSeconds = 60
	if list, _ := late.Differences(all); len(list) != 1 || !strings.Contains(list[0], "60 s") {
		t.Errorf("%v", list)
	}
	for _, word := range []string{"nonsense", "udp=yes", "mapping", "mapping=full_cone", "mtu=wide", ""} {
		if _, err := good.Differences([]string{word}); err == nil {
			t.Errorf("%q is understood", word)
		}
	}
}

func TestServersOf(t *testing.T) {
	got := ServersOf("frankfurt", []string{
		"turn:r.example:3478?transport=udp", "turn:r.example:3478?transport=tcp", "stun:s.example", "turns:r.example:443?transport=tcp",
		"wss://r.example/relay", "nonsense",
	})
	got = append(got, Named([]string{"a.example", "b.example:1"})...)
	got = append(got, BesideManagement("https://mesh.example:8443")...)
	got = append(got, BesideManagement("%")...)
	want := []Server{
		{"r.example:3478", true, "frankfurt"},
		{"s.example:3478", false, "frankfurt"},
		{"a.example:3478", false, ""},
		{"b.example:1", false, ""},
		{"mesh.example:3478", true, ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// FuzzRead gives what servers may send to the reader.
func FuzzRead(f *testing.F) {
	for _, with := range [][]stun.Setter{
		{&stun.XORMappedAddress{IP: net.IPv4(192, 0, 2, 1), Port: 7}, &stun.OtherAddress{IP: net.ParseIP("2001:db8::1"), Port: 9}},
		{stun.RawAttribute{Type: stun.AttrOtherAddress, Value: []byte{0, 9, 1}}},
		{stun.RawAttribute{Type: stun.AttrXORMappedAddress, Value: []byte{0, 1, 0, 0, 1}}},
	} {
		m, err := stun.Build(append([]stun.Setter{stun.TransactionID, stun.BindingSuccess}, with...)...)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m.Raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := &stun.Message{Raw: raw}
		if m.Decode() != nil {
			return
		}
		a, err := read(m, time.Millisecond)
		if err == nil && a.mapped.IsValid() && !a.mapped.Addr().IsValid() {
			t.Error("an address that is none")
		}
	})
}

package proxied_test

import (
	"bytes"
	"cmp"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/pires/go-proxyproto"

	"github.com/wattlenet/wattle/internal/proxied"
)

func trusted(t testing.TB, networks ...string) proxied.Trusted {
	t.Helper()
	list, err := proxied.Parse(networks)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestParse(t *testing.T) {
	for _, bad := range []string{"10.0.0.0/33", "proxy.example", ""} {
		if _, err := proxied.Parse([]string{"10.0.0.0/8", bad}); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	list := trusted(t, "10.1.2.3/8", "2001:db8::1")
	for addr, want := range map[string]bool{
		"10.9.9.9": true, "::ffff:10.9.9.9": true, "11.0.0.1": false, "2001:db8::1": true, "2001:db8::2": false,
	} {
		if got := list.Trusts(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s is trusted: %t", addr, got)
		}
	}
	if proxied.Trusted(nil).Trusts(netip.MustParseAddr("127.0.0.1")) {
		t.Error("nobody is trusted unless it is said")
	}
}

func TestForwardedFor(t *testing.T) {
	for name, test := range map[string]struct {
		remote string
		noted  []string
		want   string
	}{
		"from a proxy":                   {"10.0.0.1:9", []string{"198.51.100.7"}, "198.51.100.7:9"},
		"from two proxies":               {"10.0.0.1:9", []string{"198.51.100.7, 10.0.0.2"}, "198.51.100.7:9"},
		"in two headers":                 {"10.0.0.1:9", []string{"198.51.100.7", "10.0.0.2"}, "198.51.100.7:9"},
		"invented by the client":         {"10.0.0.1:9", []string{"192.0.2.1, 198.51.100.7"}, "198.51.100.7:9"},
		"an invented proxy":              {"10.0.0.1:9", []string{"192.0.2.1, 10.0.0.3, 198.51.100.7"}, "198.51.100.7:9"},
		"from somebody":                  {"198.51.100.1:9", []string{"192.0.2.1"}, "198.51.100.1:9"},
		"not told":                       {"10.0.0.1:9", nil, "10.0.0.1:9"},
		"not an address":                 {"10.0.0.1:9", []string{"192.0.2.1, unknown"}, "10.0.0.1:9"},
		"not an address beyond a proxy":  {"10.0.0.1:9", []string{"unknown, 10.0.0.2"}, "10.0.0.2:9"},
		"IPv6":                           {"[2001:db8::1]:9", []string{"2001:db8:1::7"}, "[2001:db8:1::7]:9"},
		"IPv4 as IPv6":                   {"10.0.0.1:9", []string{"::ffff:198.51.100.7"}, "198.51.100.7:9"},
		"a connection without addresses": {"", []string{"198.51.100.7"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var got string
			handler := trusted(t, "10.0.0.0/8", "2001:db8::1").Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.RemoteAddr }))
			request := httptest.NewRequest(http.MethodGet, "/", nil)
			request.RemoteAddr = test.remote
			for _, noted := range test.noted {
				request.Header.Add("X-Forwarded-For", noted)
			}
			handler.ServeHTTP(httptest.NewRecorder(), request)
			if got != test.want {
				t.Errorf("the client is %s, want %s", got, test.want)
			}
			if request.RemoteAddr != test.remote {
				t.Error("the request of the caller has changed")
			}
		})
	}
}

// accept opens a connection to a listener that trusts networks, sends what the
// client does, and returns the end of the server.
func accept(t *testing.T, networks []string, sent []byte) net.Conn {
	t.Helper()
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener := trusted(t, networks...).Listener(plain)
	t.Cleanup(func() { _ = listener.Close() }) // nothing was written
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() }) // the server may have closed it first
	if _, err := client.Write(sent); err != nil {
		t.Fatal(err)
	}
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // it was read only
	return conn
}

// header is what a proxy sends before the first byte of a client.
func header(t *testing.T, version byte, source string) []byte {
	t.Helper()
	var text bytes.Buffer
	h := proxyproto.HeaderProxyFromAddrs(version, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(source)), &net.TCPAddr{IP: net.IPv4(203, 0, 113, 1), Port: 443})
	if _, err := h.WriteTo(&text); err != nil {
		t.Fatal(err)
	}
	return text.Bytes()
}

func TestProxyProtocol(t *testing.T) {
	const word = "a client's first word"
	for name, test := range map[string]struct {
		trusts []string
		header []byte
		want   string // the address of the client; "": that of the connection
		reads  string
	}{
		"version 2":          {[]string{"127.0.0.0/8"}, header(t, 2, "198.51.100.7:4711"), "198.51.100.7:4711", word},
		"version 1":          {[]string{"127.0.0.0/8"}, header(t, 1, "198.51.100.7:4711"), "198.51.100.7:4711", word},
		"without a header":   {[]string{"127.0.0.0/8"}, nil, "", word},
		"from somebody else": {[]string{"10.0.0.0/8"}, header(t, 2, "198.51.100.7:4711"), "", string(header(t, 2, "198.51.100.7:4711")) + word},
		"trusting nobody":    {nil, header(t, 2, "198.51.100.7:4711"), "", string(header(t, 2, "198.51.100.7:4711")) + word},
	} {
		t.Run(name, func(t *testing.T) {
			conn := accept(t, test.trusts, append(bytes.Clone(test.header), word...))
			opener := proxied.Opened(conn).RemoteAddr().String()
			if want := cmp.Or(test.want, opener); conn.RemoteAddr().String() != want {
				t.Errorf("the client is %s, want %s", conn.RemoteAddr(), want)
			}
			if addr := netip.MustParseAddrPort(opener).Addr(); !addr.IsLoopback() {
				t.Errorf("opened by %s", opener)
			}
			read := make([]byte, len(test.reads))
			if _, err := io.ReadFull(conn, read); err != nil || string(read) != test.reads {
				t.Errorf("read %q, %v", read, err)
			}
		})
	}
}

// Whatever a trusted proxy sends, it names a client or is none.
func FuzzForwardedFor(f *testing.F) {
	f.Add("198.51.100.7, 10.0.0.2")
	f.Add(",,,fe80::1%eth0,")
	f.Fuzz(func(t *testing.T, noted string) {
		list := trusted(t, "10.0.0.0/8")
		request := httptest.NewRequest(http.MethodGet, "/", nil)
		request.RemoteAddr = "10.0.0.1:9"
		request.Header["X-Forwarded-For"] = []string{noted}
		list.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if at, err := netip.ParseAddrPort(r.RemoteAddr); err != nil || at.Port() != 9 || at.Addr().Zone() != "" {
				t.Errorf("%q names %q", noted, r.RemoteAddr)
			}
		})).ServeHTTP(httptest.NewRecorder(), request)
	})
}

package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/logging"
	"github.com/pion/stun/v2"
	"github.com/pion/turn/v3"
)

var (
	testSecret = Secret("a secret of the test")
	alice      = Holder{Account: "acme", Peer: "alice"}
	bob        = Holder{Account: "acme", Peer: "bob"}
	mallory    = Holder{Account: "other", Peer: "mallory"}
)

// patience bounds what a test waits for; it is never the measure of anything.
const patience = time.Minute

// startRelay runs a relay on loopback until the test ends.
func startRelay(t testing.TB, change func(*Config)) *Server {
	t.Helper()
	config := Config{
		Secret:       testSecret,
		Listen:       []string{"127.0.0.1:0"},
		ListenTLS:    []string{"127.0.0.1:0"},
		TLS:          testTLS(t),
		RelayAddress: netip.MustParseAddr("127.0.0.1"),
		Logger:       slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&config)
	}
	relay, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- relay.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		if n := relay.Stats().Allocations; n != 0 {
			t.Errorf("%d allocations are left after Run returned", n)
		}
	})
	return relay
}

// dial opens the client's side of network: udp, tcp, tls, tls without ALPN, or
// websocket.
func dial(t testing.TB, relay *Server, network string) net.PacketConn {
	t.Helper()
	if network == "udp" {
		conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	return turn.NewSTUNConn(dialStream(t, relay, network))
}

func dialStream(t testing.TB, relay *Server, network string) net.Conn {
	t.Helper()
	var conn net.Conn
	var err error
	switch network {
	case "tcp":
		conn, err = net.Dial("tcp", relay.Addrs()[0].String())
	case "tls":
		conn, err = tls.Dial("tcp", relay.TLSAddrs()[0].String(), &tls.Config{RootCAs: testRoots(t), ServerName: "relay.test", NextProtos: []string{ALPN}})
	case "tls without ALPN":
		conn, err = tls.Dial("tcp", relay.TLSAddrs()[0].String(), &tls.Config{RootCAs: testRoots(t), ServerName: "relay.test"})
	case "websocket":
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: testRoots(t), ServerName: "relay.test"}}
		var socket *websocket.Conn
		socket, _, err = websocket.Dial(t.Context(), "wss://"+relay.TLSAddrs()[0].String()+WebSocketPath,
			&websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}, Subprotocols: []string{WebSocketProtocol}})
		if err == nil {
			conn = websocket.NetConn(context.Background(), socket, websocket.MessageBinary) // not ours: any client may come
		}
	default:
		t.Fatalf("no such network: %q", network)
	}
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// testCertificate is valid for relay.test.
var testCertificate = sync.OnceValues(func() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"relay.test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
})

func testTLS(t testing.TB) *tls.Config {
	t.Helper()
	certificate, err := testCertificate()
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{certificate}}
}

func testRoots(t testing.TB) *x509.CertPool {
	t.Helper()
	certificate, err := x509.ParseCertificate(testTLS(t).Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificate)
	return roots
}

// connect makes pion's client, the second implementation that ours is tested
// with.
func connect(t *testing.T, relay *Server, network string, credential Credential) *turn.Client {
	t.Helper()
	factory := logging.NewDefaultLoggerFactory()
	factory.DefaultLogLevel = logging.LogLevelDisabled
	address := relay.Addrs()[0].String()
	conn := dial(t, relay, network)
	client, err := turn.NewClient(&turn.ClientConfig{
		STUNServerAddr: address,
		TURNServerAddr: address,
		Conn:           conn,
		Username:       credential.Username,
		Password:       credential.Password,
		Realm:          Realm,
		LoggerFactory:  factory,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		_ = conn.Close() // the relay may have closed it first
	})
	return client
}

func closeLater(t testing.TB, c io.Closer) {
	t.Helper()
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

func credentialOf(holder Holder) Credential {
	return NewCredential(testSecret, holder, time.Now().Add(time.Hour))
}

func allocate(t *testing.T, relay *Server, network string, holder Holder) (*turn.Client, net.PacketConn) {
	t.Helper()
	client := connect(t, relay, network, credentialOf(holder))
	relayed, err := client.Allocate()
	if err != nil {
		t.Fatalf("allocate as %v over %s: %v", holder, network, err)
	}
	t.Cleanup(func() { _ = relayed.Close() }) // a second close is an error
	return client, relayed
}

func TestBindingTellsTheAddress(t *testing.T) {
	relay := startRelay(t, nil)
	client := connect(t, relay, "udp", Credential{})
	addr, err := client.SendBindingRequest()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(addr.String(), "127.0.0.1:") {
		t.Errorf("mapped address is %s", addr)
	}
}

func TestTwoClientsMeet(t *testing.T) {
	for _, networks := range [][2]string{
		{"udp", "udp"}, {"udp", "tcp"}, {"tcp", "tcp"}, {"udp", "tls"}, {"tls without ALPN", "tls"}, {"websocket", "udp"}, {"websocket", "tls"},
	} {
		t.Run(networks[0]+" and "+networks[1], func(t *testing.T) {
			relay := startRelay(t, nil)
			_, a := allocate(t, relay, networks[0], alice)
			_, b := allocate(t, relay, networks[1], bob)
			exchange(t, a, b)
			if stats := relay.Stats(); stats.Allocations != 2 || stats.BytesToPeers == 0 || stats.BytesFromPeers == 0 {
				t.Errorf("stats: %+v", stats)
			}
		})
	}
}

// exchange sends both ways between two allocations until both have answered:
// the first packet of each only opens the permission.
func exchange(t *testing.T, a, b net.PacketConn) {
	t.Helper()
	if _, err := a.WriteTo([]byte("permission"), b.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := b.WriteTo([]byte("a packet there"), a.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		expect(t, a, "a packet there", b.LocalAddr())
		if _, err := a.WriteTo([]byte("a packet back"), b.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		expect(t, b, "a packet back", a.LocalAddr())
	}
}

func expect(t *testing.T, conn net.PacketConn, text string, from net.Addr) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 1500)
	n, source, err := conn.ReadFrom(buffer)
	for err == nil && string(buffer[:n]) == "permission" && source.String() == from.String() {
		n, source, err = conn.ReadFrom(buffer) // came when it was permitted already
	}
	if err != nil {
		t.Fatalf("read %q: %v", text, err)
	}
	if string(buffer[:n]) != text || source.String() != from.String() {
		t.Fatalf("got %q from %s, want %q from %s", buffer[:n], source, text, from)
	}
}

// Behind a one-to-one NAT the public address is not the host's, and nobody
// routes packets for it back.
func TestTwoClientsMeetBehindNAT(t *testing.T) {
	relay := startRelay(t, func(c *Config) { c.RelayAddress = netip.MustParseAddr("192.0.2.7") })
	_, a := allocate(t, relay, "udp", alice)
	_, b := allocate(t, relay, "udp", bob)
	if !strings.HasPrefix(a.LocalAddr().String(), "192.0.2.7:") {
		t.Fatalf("relayed address is %s", a.LocalAddr())
	}
	exchange(t, a, b)
}

func TestRelayPorts(t *testing.T) {
	free, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	port := addrPort(free.LocalAddr()).Port()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	relay := startRelay(t, func(c *Config) { c.RelayPorts = PortRange{Min: port, Max: port} })
	_, a := allocate(t, relay, "udp", alice)
	if got := addrPort(a.LocalAddr()).Port(); got != port {
		t.Errorf("relayed port is %d, want %d", got, port)
	}
	if _, err := connect(t, relay, "udp", credentialOf(bob)).Allocate(); err == nil {
		t.Error("a second allocation found a port in a range of one")
	}
}

func TestCredentialsAreChecked(t *testing.T) {
	now := time.Now()
	good := credentialOf(alice)
	cases := map[string]Credential{
		"wrong password":     {Username: good.Username, Password: good.Password + "x"},
		"expired":            NewCredential(testSecret, alice, now.Add(-time.Second)),
		"of another relay":   NewCredential(Secret("another secret"), alice, now.Add(time.Hour)),
		"of another peer":    {Username: credentialOf(bob).Username, Password: good.Password},
		"prolonged":          {Username: NewCredential(testSecret, alice, now.Add(2*time.Hour)).Username, Password: good.Password},
		"without expiry":     {Username: "acme.alice", Password: password(testSecret, "acme.alice")},
		"without an account": {Username: "99999999999:alice", Password: password(testSecret, "99999999999:alice")},
		"absent":             {},
	}
	for _, network := range []string{"udp", "tcp"} {
		relay := startRelay(t, nil)
		for name, credential := range cases {
			t.Run(name+" over "+network, func(t *testing.T) {
				_, err := connect(t, relay, network, credential).Allocate()
				if err == nil {
					t.Fatal("the relay made an allocation")
				}
				if told := strings.Contains(err.Error(), expiredHere); told != (name == "expired") {
					t.Errorf("the client is told %v", err)
				}
			})
		}
		if stats := relay.Stats(); stats.AllocationsMade != 0 || stats.RefusedExpired == 0 || stats.RefusedCredentials == 0 {
			t.Errorf("stats: %+v", stats)
		}
		allocate(t, relay, network, alice) // and the good one is accepted
	}
}

func TestPeersAreChecked(t *testing.T) {
	relay := startRelay(t, nil)
	client, _ := allocate(t, relay, "udp", alice)
	for _, peer := range []string{"127.0.0.2", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.9", "0.0.0.0", "224.0.0.1", "255.255.255.255"} {
		if err := client.CreatePermission(&net.UDPAddr{IP: net.ParseIP(peer), Port: 80}); err == nil {
			t.Errorf("the relay permitted %s", peer)
		}
	}
	if err := client.CreatePermission(&net.UDPAddr{IP: net.IPv4(198, 51, 100, 1), Port: 80}); err != nil {
		t.Errorf("the relay refused a public address: %v", err)
	}
	if got := relay.Stats().RefusedPeers; got != 9 {
		t.Errorf("%d peers were counted as refused, want 9", got)
	}
}

// expectDropped waits until at least n packets were dropped: each socket has a
// reader of its own.
func expectDropped(t *testing.T, relay *Server, n uint64) {
	t.Helper()
	for deadline := time.Now().Add(patience); relay.Stats().DroppedPackets < n; {
		if time.Now().After(deadline) {
			t.Fatalf("%d packets were dropped, want %d", relay.Stats().DroppedPackets, n)
		}
		time.Sleep(time.Millisecond)
	}
}

// A permission names an address, not a port: the relay's own address is
// permitted so that clients meet, yet its other ports stay closed.
func TestOwnPortsStayClosed(t *testing.T) {
	relay := startRelay(t, nil)
	service, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, service)
	_, a := allocate(t, relay, "udp", alice)
	_, b := allocate(t, relay, "udp", bob)
	if _, err := a.WriteTo([]byte("attack"), service.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if _, err := service.WriteToUDPAddrPort([]byte("attack"), addrPort(a.LocalAddr())); err != nil {
		t.Fatal(err)
	}
	exchange(t, a, b) // what comes after on the same path has arrived
	if err := service.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if n, _, err := service.ReadFromUDP(make([]byte, 64)); err == nil {
		t.Errorf("a service of the relay's host received %d bytes", n)
	}
	expectDropped(t, relay, 2)
}

func TestAccountsDoNotMeet(t *testing.T) {
	relay := startRelay(t, nil)
	_, a := allocate(t, relay, "udp", alice)
	_, b := allocate(t, relay, "udp", bob)
	_, m := allocate(t, relay, "udp", mallory)
	if _, err := a.WriteTo([]byte("permission"), m.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if _, err := m.WriteTo([]byte("attack"), a.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	exchange(t, a, b) // fails if the attack came first
	expectDropped(t, relay, 2)
}

func TestQuota(t *testing.T) {
	relay := startRelay(t, func(c *Config) { c.Quotas = Quotas{Allocations: 3, PerPeer: Quota{Allocations: 2}} })
	_, first := allocate(t, relay, "udp", alice)
	allocate(t, relay, "tcp", alice)
	_, err := connect(t, relay, "udp", credentialOf(alice)).Allocate()
	if err == nil || !strings.Contains(err.Error(), "486: this machine's quota of allocations at this relay is used up: 2") {
		t.Errorf("a third allocation of one peer: %v, want 486", err)
	}
	allocate(t, relay, "udp", bob)
	_, err = connect(t, relay, "udp", credentialOf(mallory)).Allocate()
	if err == nil || !strings.Contains(err.Error(), "508: the relay's quota of allocations is used up: 3") {
		t.Errorf("a fourth allocation of the relay: %v, want 508", err)
	}
	release(t, relay, first)
	allocate(t, relay, "udp", mallory)
	if beyond := relay.Stats().Beyond; beyond[peerAllocations] != 1 || beyond[relayAllocations] != 1 {
		t.Errorf("requests were counted against quotas as %v", beyond)
	}
}

// release gives an allocation back and waits until the relay has it, which
// pion's client does not.
func release(t *testing.T, relay *Server, allocation io.Closer) {
	t.Helper()
	left := relay.Stats().Allocations - 1
	if err := allocation.Close(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); relay.Stats().Allocations > left; {
		if time.Now().After(deadline) {
			t.Fatal("a released allocation is still held")
		}
		time.Sleep(time.Millisecond)
	}
}

// The machines of one account have a quota together, and take nothing from
// those of others.
func TestAccountQuota(t *testing.T) {
	relay := startRelay(t, func(c *Config) { c.Quotas.PerAccount.Allocations = 2 })
	_, first := allocate(t, relay, "udp", alice)
	allocate(t, relay, "udp", bob)
	third := Holder{Account: alice.Account, Peer: "carol"}
	_, err := connect(t, relay, "udp", credentialOf(third)).Allocate()
	if err == nil || !strings.Contains(err.Error(), "486: the account's quota of allocations at this relay is used up: 2") {
		t.Errorf("a third allocation of one account: %v, want 486", err)
	}
	allocate(t, relay, "udp", mallory)
	release(t, relay, first)
	allocate(t, relay, "udp", third)
}

// A client that leaves without a word frees its allocation.
func TestClosedStreamEndsAllocation(t *testing.T) {
	relay := startRelay(t, func(c *Config) { c.Quotas.Allocations = 1 })
	conn := dial(t, relay, "tcp")
	exchangeAllocate(t, conn, relay, credentialOf(alice))
	if got := relay.Stats().Allocations; got != 1 {
		t.Fatalf("%d allocations, want 1", got)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	// The relay learns of it in its own time.
	client := connect(t, relay, "udp", credentialOf(bob))
	deadline := time.Now().Add(patience)
	for {
		_, err := client.Allocate()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the allocation is still held: %v", err)
		}
	}
}

// exchangeAllocate speaks the two rounds of an Allocate by hand and returns
// the nonce.
func exchangeAllocate(t *testing.T, conn net.PacketConn, relay *Server, credential Credential) stun.Nonce {
	t.Helper()
	allocateType := stun.NewType(stun.MethodAllocate, stun.ClassRequest)
	transport := stun.RawAttribute{Type: stun.AttrRequestedTransport, Value: []byte{protocolUDP, 0, 0, 0}}
	challenge := roundTrip(t, conn, relay, allocateType, transport)
	var nonce stun.Nonce
	if err := nonce.GetFrom(challenge); err != nil {
		t.Fatal(err)
	}
	answer := roundTrip(t, conn, relay, allocateType, transport, nonce, stun.NewRealm(Realm), stun.NewUsername(credential.Username),
		stun.NewLongTermIntegrity(credential.Username, Realm, credential.Password))
	if answer.Type.Class != stun.ClassSuccessResponse {
		t.Fatalf("allocate: %s", answer)
	}
	return nonce
}

func roundTrip(t testing.TB, conn net.PacketConn, relay *Server, setters ...stun.Setter) *stun.Message {
	t.Helper()
	request, err := stun.Build(append([]stun.Setter{stun.TransactionID}, setters...)...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.WriteTo(request.Raw, net.UDPAddrFromAddrPort(relay.Addrs()[0])); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	answer := &stun.Message{Raw: make([]byte, 1500)}
	n, _, err := conn.ReadFrom(answer.Raw)
	if err != nil {
		t.Fatalf("no answer to %s: %v", request, err)
	}
	answer.Raw = answer.Raw[:n]
	if err := answer.Decode(); err != nil {
		t.Fatal(err)
	}
	return answer
}

// An allocation may be refreshed by whoever made it, also with a renewed user
// name, and by nobody else (RFC 8656, section 7.1).
func TestAllocationBelongsToItsPeer(t *testing.T) {
	relay := startRelay(t, nil)
	conn := dial(t, relay, "udp")
	closeLater(t, conn)
	refresh := func(credential Credential, nonce stun.Nonce) stun.ErrorCode {
		answer := roundTrip(t, conn, relay, stun.NewType(stun.MethodRefresh, stun.ClassRequest), nonce, stun.NewRealm(Realm),
			stun.NewUsername(credential.Username), stun.NewLongTermIntegrity(credential.Username, Realm, credential.Password))
		var code stun.ErrorCodeAttribute
		_ = code.GetFrom(answer) // success has none
		return code.Code
	}
	nonce := exchangeAllocate(t, conn, relay, credentialOf(alice))
	if code := refresh(NewCredential(testSecret, alice, time.Now().Add(2*time.Hour)), nonce); code != 0 {
		t.Errorf("renewed credential: %d", code)
	}
	if code := refresh(credentialOf(bob), nonce); code != stun.CodeWrongCredentials {
		t.Errorf("another peer's credential: %d, want 441", code)
	}
	other := dial(t, relay, "udp")
	closeLater(t, other)
	conn = other
	if code := refresh(credentialOf(alice), nonce); code != stun.CodeAllocMismatch {
		t.Errorf("no allocation here: %d, want 437", code)
	}
}

func TestPortInUse(t *testing.T) {
	relay := startRelay(t, nil)
	_, err := New(Config{Secret: testSecret, Listen: []string{relay.Addrs()[0].String()}, Logger: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "is in use: stop the program") {
		t.Errorf("second relay on the same port: %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	logger := slog.New(slog.DiscardHandler)
	listen := []string{"127.0.0.1:0"}
	for name, config := range map[string]Config{
		"no secret":       {Listen: listen, Logger: logger},
		"no address":      {Secret: testSecret, Logger: logger},
		"bad address":     {Secret: testSecret, Listen: []string{"nowhere"}, Logger: logger},
		"no logger":       {Secret: testSecret, Listen: listen},
		"relay over IPv6": {Secret: testSecret, Listen: listen, Logger: logger, RelayAddress: netip.MustParseAddr("2001:db8::1")},
		"relay anywhere":  {Secret: testSecret, Listen: listen, Logger: logger, RelayAddress: netip.IPv4Unspecified()},
		"ports reversed":  {Secret: testSecret, Listen: listen, Logger: logger, RelayPorts: PortRange{Min: 2, Max: 1}},
		"negative quota":  {Secret: testSecret, Listen: listen, Logger: logger, Quotas: Quotas{Allocations: -1}},
	} {
		if relay, err := New(config); err == nil {
			t.Errorf("%s: accepted", name)
			if err := relay.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestCloseWithoutRun(t *testing.T) {
	relay, err := New(Config{Secret: testSecret, Listen: []string{"127.0.0.1:0"}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	address := relay.Addrs()[0].String()
	if err := relay.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := New(Config{Secret: testSecret, Listen: []string{address}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatalf("the port is still held: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

package server

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/stun/v2"

	"github.com/wattlenet/wattle/internal/exposition"
)

var testNonces = newNonces([]byte("the key of the nonces of a test"))

func newGate() *gate {
	stats := &counters{}
	testNonces.inner.learn(stun.NewNonce("a nonce of pion"))
	return &gate{
		nonces:       testNonces,
		secret:       testSecret,
		ledger:       newLedger(Quotas{Allocations: 10, PerPeer: Quota{Allocations: 1}}, stats),
		destinations: &destinations{interfaces: func() ([]netip.Prefix, error) { return nil, nil }},
		budget:       &budget{},
		public:       netip.MustParseAddr("203.0.113.1"),
		stats:        stats,
	}
}

func from(port uint16) fiveTuple {
	return fiveTuple{client: netip.AddrPortFrom(netip.MustParseAddr("198.51.100.1"), port)}
}

func request(t testing.TB, method stun.Method, credential Credential, setters ...stun.Setter) []byte {
	t.Helper()
	m, err := stun.Build(append(append([]stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}, setters...),
		testNonces.fresh(time.Now()), stun.NewRealm(Realm), stun.NewUsername(credential.Username),
		stun.NewLongTermIntegrity(credential.Username, Realm, credential.Password))...)
	if err != nil {
		t.Fatal(err)
	}
	return m.Raw
}

// naked is the shortest request: without a credential, and without attributes.
func naked(t testing.TB, method stun.Method) []byte {
	t.Helper()
	m, err := stun.Build(stun.TransactionID, stun.NewType(method, stun.ClassRequest))
	if err != nil {
		t.Fatal(err)
	}
	return m.Raw
}

func code(t *testing.T, raw []byte) stun.ErrorCode {
	t.Helper()
	m := &stun.Message{Raw: raw}
	if err := m.Decode(); err != nil {
		t.Fatal(err)
	}
	var attribute stun.ErrorCodeAttribute
	if err := attribute.GetFrom(m); err != nil {
		t.Fatal(err)
	}
	return attribute.Code
}

func TestGateAllocate(t *testing.T) {
	raw := func(kind stun.AttrType, value ...byte) stun.Setter {
		return stun.RawAttribute{Type: kind, Value: value}
	}
	for name, test := range map[string]struct {
		attribute stun.Setter
		want      stun.ErrorCode // 0: passes
	}{
		"UDP":             {raw(stun.AttrRequestedTransport, protocolUDP, 0, 0, 0), 0},
		"TCP":             {raw(stun.AttrRequestedTransport, 6, 0, 0, 0), stun.CodeUnsupportedTransProto},
		"IPv4":            {raw(stun.AttrRequestedAddressFamily, 1, 0, 0, 0), 0},
		"IPv6":            {raw(stun.AttrRequestedAddressFamily, 2, 0, 0, 0), stun.CodeAddrFamilyNotSupported},
		"pair of ports":   {raw(stun.AttrEvenPort, 0x80), stun.CodeInsufficientCapacity},
		"reserved before": {raw(stun.AttrReservationToken, 1, 2, 3, 4, 5, 6, 7, 8), stun.CodeInsufficientCapacity},
	} {
		t.Run(name, func(t *testing.T) {
			verdict := newGate().admit(request(t, stun.MethodAllocate, credentialOf(alice), test.attribute), from(1))
			switch {
			case test.want == 0 && (!verdict.pass || !verdict.then.reserved):
				t.Errorf("verdict %+v, want pass", verdict)
			case test.want != 0 && (verdict.pass || code(t, verdict.answer) != test.want):
				t.Errorf("verdict %+v, want %d", verdict, test.want)
			}
		})
	}
}

// Between the verdict and pion's answer the quota is already taken; a request
// that pion refuses gives it back.
func TestGateReservation(t *testing.T) {
	g := newGate()
	ask := func(port uint16) verdict {
		return g.admit(request(t, stun.MethodAllocate, credentialOf(alice)), from(port))
	}
	if v := ask(1); !v.pass {
		t.Fatalf("first request: %+v", v)
	}
	if v := ask(2); v.pass || code(t, v.answer) != stun.CodeAllocQuotaReached {
		t.Fatalf("second request while the first is pending: %+v", v)
	}
	g.ledger.settle(from(1))
	if v := ask(2); !v.pass {
		t.Fatalf("request after the first was refused: %+v", v)
	}
}

func TestGateAnswersStrangersSparingly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		answered := func(requests int) int {
			n := 0
			for i := range requests {
				if g.admit(naked(t, stun.MethodAllocate), from(uint16(i))).answer != nil {
					n++
				}
			}
			return n
		}
		if got := answered(100_000); got != answerBurst {
			t.Errorf("%d of 100000 strange requests are answered, want %d", got, answerBurst)
		}
		var text exposition.Text
		g.stats.read().expose(&text)
		if line := fmt.Sprintf("wattle_relay_unanswered_strangers_total %d\n", 100_000-answerBurst); !strings.Contains(text.String(), line) {
			t.Errorf("the metrics do not have %q", line)
		}
		time.Sleep(time.Second)
		if got := answered(1000); got != 200 {
			t.Errorf("a second later %d are answered, want 200", got)
		}
		other := fiveTuple{client: netip.MustParseAddrPort("198.51.100.2:1")}
		if g.admit(naked(t, stun.MethodAllocate), other).answer == nil {
			t.Error("another address pays for the first")
		}
		stream := from(1)
		stream.stream = true
		if g.admit(naked(t, stun.MethodAllocate), stream).answer == nil {
			t.Error("a TCP client, whose address is proved, is not answered")
		}
	})
}

// Somebody who pretends to be a client that has an allocation is not answered
// without end, and takes no answer from the client itself.
func TestGateAnswersPretendersSparingly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		if err := g.ledger.reserve(from(1), alice); err != nil {
			t.Fatal(err)
		}
		for name, raw := range map[string][]byte{
			"a request without a credential": naked(t, stun.MethodRefresh),
			"a wrong credential":             request(t, stun.MethodRefresh, Credential{Username: "1:a.b", Password: "y"}),
		} {
			answers := 0
			for range 10 * answerBurst {
				if g.admit(raw, from(1)).answer != nil {
					answers++
				}
			}
			if answers != answerBurst {
				t.Errorf("%s is answered %d times, want %d", name, answers, answerBurst)
			}
			if !g.admit(request(t, stun.MethodRefresh, credentialOf(alice)), from(1)).pass {
				t.Errorf("after %s the client is refused", name)
			}
			time.Sleep(answerBurst * answerInterval)
		}
	})
}

// Refusals are not longer than what they refuse.
func TestGateDoesNotAmplify(t *testing.T) {
	raw := request(t, stun.MethodAllocate, Credential{Username: "x", Password: "y"})
	if v := newGate().admit(raw, from(1)); v.pass || len(v.answer) > len(raw) {
		t.Errorf("%d bytes answer %d (passed: %t)", len(v.answer), len(raw), v.pass)
	}
}

func TestSubscriber(t *testing.T) {
	for in, want := range map[string]string{
		"198.51.100.7":        "198.51.100.7",
		"::ffff:198.51.100.7": "198.51.100.7",
		"2001:db8:1:2:3::4":   "2001:db8:1:2::",
		"fe80::1%eth0":        "fe80::",
	} {
		if got := subscriber(netip.MustParseAddr(in)); got.String() != want {
			t.Errorf("subscriber(%s) = %s, want %s", in, got, want)
		}
	}
}

func TestDestinations(t *testing.T) {
	host := []netip.Prefix{netip.MustParsePrefix("203.0.113.5/24"), netip.MustParsePrefix("10.9.0.5/16"), netip.MustParsePrefix("127.0.0.1/8")}
	lan := []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16"), netip.MustParsePrefix("100.64.0.0/10")}
	for name, test := range map[string]struct {
		addr                      string
		byDefault, private, given bool
	}{
		"public":                 {"198.51.100.1", true, true, true},
		"public, mapped":         {"::ffff:198.51.100.1", true, true, true},
		"own public network":     {"203.0.113.9", false, false, false},
		"own public address":     {"203.0.113.5", false, false, false},
		"own private network":    {"10.9.1.1", false, true, true},
		"own private address":    {"10.9.0.5", false, false, false},
		"other private network":  {"192.168.0.1", false, true, false},
		"loopback":               {"127.0.0.2", false, false, false},
		"metadata":               {"169.254.169.254", false, false, false},
		"multicast":              {"239.1.1.1", false, false, false},
		"broadcast":              {"255.255.255.255", false, false, false},
		"unspecified":            {"0.0.0.0", false, false, false},
		"carrier or overlay":     {"100.64.1.1", false, false, true},
		"IPv6":                   {"2001:db8::1", false, false, false},
		"IPv6 loopback":          {"::1", false, false, false},
		"mapped loopback":        {"::ffff:127.0.0.2", false, false, false},
		"mapped private network": {"::ffff:10.9.1.1", false, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			permits := func(d *destinations) bool {
				d.interfaces = func() ([]netip.Prefix, error) { return host, nil }
				return d.permits(netip.MustParseAddr(test.addr))
			}
			if got := permits(&destinations{}); got != test.byDefault {
				t.Errorf("by default %t", got)
			}
			if got := permits(&destinations{allowPrivate: true}); got != test.private {
				t.Errorf("with private peers %t", got)
			}
			if got := permits(&destinations{allowed: lan}); got != test.given {
				t.Errorf("with networks %v %t", lan, got)
			}
		})
	}
}

func TestDestinationsFailClosed(t *testing.T) {
	d := &destinations{interfaces: func() ([]netip.Prefix, error) { return nil, net.ErrClosed }}
	if d.permits(netip.MustParseAddr("198.51.100.1")) {
		t.Error("permitted although the own networks are unknown")
	}
}

func TestSecretDoesNotPrint(t *testing.T) {
	if got := Secret("hidden").String(); got != "(secret)" {
		t.Error(got)
	}
}

func FuzzParseUsername(f *testing.F) {
	for _, seed := range []string{"1893456000:acme.alice", ":.", "x:y.z", "9223372036854775808:a.b", "-1:a.b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, username string) {
		holder, err := parseUsername(username, time.Unix(1, 0))
		if err == nil && (holder.Account == "" || holder.Peer == "") {
			t.Errorf("%q gives %+v", username, holder)
		}
	})
}

func FuzzGate(f *testing.F) {
	f.Add(request(f, stun.MethodAllocate, credentialOf(alice)))
	f.Add(request(f, stun.MethodChannelBind, credentialOf(alice), stun.RawAttribute{Type: stun.AttrXORPeerAddress, Value: []byte{0, 1, 1}}))
	f.Add([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		v := newGate().admit(raw, from(1))
		if v.pass && v.answer != nil {
			t.Error("both passed and answered")
		}
	})
}

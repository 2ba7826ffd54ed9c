package engine

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wattlenet/wattle/agent/internal/connectivity"
	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/agent/internal/postquantum"
	"github.com/wattlenet/wattle/agent/internal/settings"
)

// The account says what is wanted, the machine may say otherwise, and what a
// later control plane means by a word of its own is no less than strict.
func TestWhoSaysWhichKeys(t *testing.T) {
	for _, c := range []struct {
		account, machine string
		want             postquantum.Mode
	}{
		{"", "", postquantum.Off},
		{"permissive", "", postquantum.Permissive},
		{"strict", "", postquantum.Strict},
		{"paranoid", "", postquantum.Strict},
		{"strict", "off", postquantum.Off},
		{"", "strict", postquantum.Strict},
	} {
		l, fake := linkUnder(t, "post_quantum", c.machine)
		m := newMap(t, 1, 2)
		m.Self.PostQuantum = c.account
		if faults := l.apply(t.Context(), m); len(faults) != 0 {
			t.Fatal(faults)
		}
		if fake.mode != c.want || fake.tunnel.RequirePresharedKey != (c.want == postquantum.Strict) {
			t.Errorf("account %q, machine %q: the paths are told %q, the device requires %t, want %q", c.account, c.machine, fake.mode, fake.tunnel.RequirePresharedKey, c.want)
		}
	}
}

// The account says whether paths are kept open, and the machine may say otherwise.
func TestWhoSaysWhetherPathsAreKept(t *testing.T) {
	for _, c := range []struct {
		account bool
		machine string
		want    bool
	}{{false, "", false}, {true, "", true}, {true, "on", false}, {false, "off", true}} {
		l, fake := linkUnder(t, "lazy_connections", c.machine)
		m := newMap(t, 1, 2)
		m.Self.KeepsPaths = c.account
		if faults := l.apply(t.Context(), m); len(faults) != 0 {
			t.Fatal(faults)
		}
		if fake.kept != c.want {
			t.Errorf("account %t, machine %q: kept is %t", c.account, c.machine, fake.kept)
		}
	}
}

func TestSessionIsPostQuantumOnceItBeganAfterTheKey(t *testing.T) {
	agreed := time.Unix(1000, 0)
	for _, c := range []struct {
		keys          connectivity.KeyStatus
		began         time.Time
		state, reason string
	}{
		{connectivity.KeyStatus{}, agreed, "", ""},
		{connectivity.KeyStatus{State: postquantum.Agreed, Since: agreed}, time.Time{}, "pending", "next_session"},
		{connectivity.KeyStatus{State: postquantum.Agreed, Since: agreed}, agreed.Add(-time.Second), "pending", "next_session"},
		{connectivity.KeyStatus{State: postquantum.Agreed, Since: agreed}, agreed.Add(time.Millisecond), "active", ""},
		{connectivity.KeyStatus{State: postquantum.Unavailable, Reason: postquantum.ReasonTooOld}, agreed, "unavailable", "peer_too_old"},
		{connectivity.KeyStatus{State: postquantum.Pending, Reason: postquantum.ReasonUnheard}, agreed, "pending", "no_answer"},
	} {
		if state, reason := describeKeys(c.keys, c.began); state != c.state || reason != c.reason {
			t.Errorf("%+v, a session of %v: %q %q, want %q %q", c.keys, c.began, state, reason, c.state, c.reason)
		}
	}
}

func TestStrictMachineWarnsOfPeersThatCannot(t *testing.T) {
	cannot := string(postquantum.Unavailable)
	one := []local.Peer{{Name: "a", PostQuantum: local.PostQuantumActive}, {Name: "b", PostQuantum: cannot}}
	three := append(slices.Clone(one), local.Peer{Name: "c", PostQuantum: cannot}, local.Peer{Name: "d", PostQuantum: cannot})
	for _, c := range []struct {
		mode  postquantum.Mode
		peers []local.Peer
		want  string // empty: no warning
	}{
		{postquantum.Strict, one[:1], ""},
		{postquantum.Permissive, three, ""},
		{postquantum.Strict, one, "this machine and b,"},
		{postquantum.Strict, three, "this machine and b and 2 others,"},
	} {
		got := strings.Join(keyless(c.mode, c.peers), "\n")
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s with %d peers: %q, want %q", c.mode, len(c.peers), got, c.want)
		}
	}
}

// linkUnder is a link of a machine with one setting; an empty value is none. It
// comes with what stands for its paths and its tunnel.
func linkUnder(t *testing.T, name, value string) (*link, *Fake) {
	t.Helper()
	flags := settings.Given{}
	if value != "" {
		flags[name] = value
	}
	book, err := settings.Open("", flags, nil)
	if err != nil {
		t.Fatal(err)
	}
	l, fake, _ := newTestLink(t)
	l.under = (&Engine{config: Config{Settings: book}}).under
	return l, fake
}

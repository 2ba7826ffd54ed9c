package state

import (
	"bytes"
	"testing"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/generated/api"
)

// wireGuardKey is a key of 32 equal bytes.
func wireGuardKey(b byte) string { return b64(bytes.Repeat([]byte{b}, 32)) }

func TestAgentKeys(t *testing.T) {
	f := fresh(t)
	mine, other := request(f.network.ReusableSetupKey, "m"), request(f.network.ReusableSetupKey, "n")
	first := must(f.Enroll(t.Context(), auth.Principal{}, mine, somewhere))(t)
	must(f.Enroll(t.Context(), auth.Principal{}, other, somewhere))(t)
	agent := auth.Principal{Kind: auth.KindAgent, AccountID: first.AccountId, PeerID: first.PeerId, ID: first.PeerId, Channel: auth.ChannelAgent}
	set := func(key, next string) error {
		keys := api.AgentKeys{Key: key}
		if next != "" {
			keys.Next = &next
		}
		return f.SetAgentKey(t.Context(), agent, keys)
	}
	has := func(key, next string) {
		t.Helper()
		_, peer, err := f.peer(first.PeerId)
		if err != nil {
			t.Fatal(err)
		}
		if got := agentKeyAudit(peer); got["key"] != key || got["next"] != next {
			t.Fatalf("the server has %v, want %s and %q", got, key, next)
		}
	}
	k1, k2, k3 := mine.WireguardKey, wireGuardKey(2), wireGuardKey(3)
	refused(t, set(k2, ""), problem.KindConflict, "key", "neither")
	refused(t, set(k1, other.WireguardKey), problem.KindConflict, "next", "another peer")
	refused(t, set(k1, k1), problem.KindInvalid, "next", "another key")
	refused(t, set(k1, wireGuardKey(0)), problem.KindInvalid, "next", "32 bytes")
	has(k1, "")
	for _, step := range [][2]string{{k1, k2}, {k1, k2}, {k1, k3}, {k3, ""}, {k3, ""}, {k3, k1}, {k3, ""}} {
		if err := set(step[0], step[1]); err != nil {
			t.Fatalf("%v: %v", step, err)
		}
		has(step[0], step[1])
	}
	refused(t, set(k1, ""), problem.KindConflict, "key", "neither") // it was taken back
	if err := set(k3, k2); err != nil {
		t.Fatal(err)
	}
	// Nobody enrols with a key that is promised to another machine.
	third := request(f.network.ReusableSetupKey, "o")
	third.WireguardKey = k2
	_, err := f.Enroll(t.Context(), auth.Principal{}, third, somewhere)
	refused(t, err, problem.KindConflict, "wireguard_key", "another peer")
}

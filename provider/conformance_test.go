package main

import (
	"net/netip"
	"slices"
	"strconv"
	"testing"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/provider/internal/conformance"
)

// TestConformance tries every attribute of every noun on a real control plane.
func TestConformance(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: runs Terraform some hundred times")
	}
	conformance.Run(t, func(t *testing.T, needs []string) conformance.Server {
		plane := controlplanetest.New(t)
		s := conformance.Server{
			URL: plane.URL, Token: plane.Token,
			Existing: map[string][]string{},
			// A revoked key stays revoked: a new one is made instead.
			OneWay: []string{"setup_key.revoked"},
			Values: map[string][]string{},
		}
		if slices.Contains(needs, "peer") {
			s.Values["peer.ip"], s.Values["peer.ipv6"] = addresses(t, plane)
			for range 8 { // one for each attribute of a peer, and one more
				s.Existing["peer"] = append(s.Existing["peer"], controlplanetest.NewMachine(t, plane).PeerID)
			}
		}
		return s
	})
}

// addresses are two free addresses of each family inside the account's ranges, as HCL.
func addresses(t *testing.T, plane *controlplanetest.Server) (v4, v6 []string) {
	t.Helper()
	settings, err := plane.Client.GetAccountSettings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	two := func(network string) []string {
		prefix, err := netip.ParsePrefix(network)
		if err != nil {
			t.Fatal(err)
		}
		b := prefix.Addr().AsSlice()
		b[len(b)-1] = 201
		first, _ := netip.AddrFromSlice(b)
		return []string{strconv.Quote(first.String()), strconv.Quote(first.Next().String())}
	}
	return two(settings.NetworkRange), two(settings.NetworkRangeV6)
}

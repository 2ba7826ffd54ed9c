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
			Existing: map[string][]string{"user": {plane.OwnerID, plane.OwnerID}},
			// A revoked key stays revoked: a new one is made instead.
			OneWay: []string{"setup_key.revoked"},
			Values: map[string][]string{"peer.ip": addresses(t, plane)},
		}
		if slices.Contains(needs, "peer") {
			for range 6 { // one for each attribute of a peer, and one more
				s.Existing["peer"] = append(s.Existing["peer"], controlplanetest.NewMachine(t, plane).PeerID)
			}
		}
		return s
	})
}

// addresses are two free addresses inside the account's range, as HCL.
func addresses(t *testing.T, plane *controlplanetest.Server) []string {
	t.Helper()
	settings, err := plane.Client.GetAccountSettings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	network, err := netip.ParsePrefix(settings.NetworkRange)
	if err != nil {
		t.Fatal(err)
	}
	b := network.Addr().As4()
	b[3] = 201
	first := netip.AddrFrom4(b)
	return []string{strconv.Quote(first.String()), strconv.Quote(first.Next().String())}
}

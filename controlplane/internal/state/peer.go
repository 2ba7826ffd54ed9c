package state

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"reflect"

	"github.com/oapi-codegen/nullable"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/ipam"
	"github.com/wattlenet/wattle/controlplane/internal/netmap"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/label"
)

// onePeer is a peer as the network map takes it.
func onePeer(p store.Peer) ([]netmap.Change, error) {
	v4, err4 := netip.ParseAddr(p.IP)
	v6, err6 := netip.ParseAddr(p.IPv6)
	if err := errors.Join(err4, err6); err != nil {
		return nil, fmt.Errorf("address of peer %s: %w", p.ID, err)
	}
	return []netmap.Change{netmap.PeerPut{Peer: netmap.Peer{
		ID: p.ID, Ordinal: p.Ordinal, Key: base64.StdEncoding.EncodeToString(p.WireGuardKey),
		NextKey: base64.StdEncoding.EncodeToString(p.NextWireGuardKey), Name: p.DNSLabel,
		Aliases: append([]string(nil), p.ExtraDNSLabels...), IP: v4, IPv6: v6, Approved: !p.ApprovalRequired,
	}}}, nil
}

func (a *account) showPeer(p store.Peer) api.Peer {
	seen := a.present.read(p.ID)
	lastSeen := seen.lastSeen
	if lastSeen.IsZero() {
		lastSeen = p.CreatedAt
	}
	key := nullable.NewNullNullable[string]()
	if p.SetupKeyID != "" {
		key = nullable.NewNullableWithValue(p.SetupKeyID)
	}
	place := a.places.Find(parseAddress(seen.ip))
	return api.Peer{
		CountryCode: place.Country, CityName: place.City, GeonameId: place.GeonameID,
		Id: p.ID, Name: p.Name, Ip: p.IP, Ipv6: p.IPv6, ApprovalRequired: p.ApprovalRequired, ConnectionIp: seen.ip, Connected: seen.connected,
		LastSeen: lastSeen, Os: seen.facts.Os, KernelVersion: seen.facts.KernelVersion, Version: seen.facts.AgentVersion, Hostname: seen.facts.Hostname,
		DnsLabel: a.dnsName(p), ExtraDnsLabels: append([]string{}, p.ExtraDNSLabels...), Groups: a.groupReferences(a.groupIDs(p.ID)), UserId: p.UserID, Ephemeral: p.Ephemeral,
		SshEnabled: p.SSHEnabled, LoginExpirationEnabled: p.LoginExpirationEnabled, InactivityExpirationEnabled: p.InactivityExpirationEnabled,
		LastLogin: p.CreatedAt, SetupKeyId: key, CreatedAt: p.CreatedAt, ManagedBy: a.managedBy(p.ID), ObjectVersion: p.Version,
	}
}

func (a *account) dnsName(p store.Peer) string { return p.DNSLabel + "." + a.row.DNSDomain }

// ListPeers lists the peers with the number of peers that each may reach.
func (s *State) ListPeers(_ context.Context, p auth.Principal, params api.ListPeersParams) (items []api.Peer, next string, err error) {
	err = s.reading(p, func(a *account) error {
		fits := func(peer store.Peer) bool {
			switch {
			case !sees(p, peer),
				params.Name != nil && peer.Name != *params.Name,
				params.Ip != nil && peer.IP != *params.Ip,
				params.SetupKey != nil && (*params.SetupKey == "" || peer.SetupKeyID != *params.SetupKey),
				params.Group != nil && !a.groupsOf[peer.ID][*params.Group]:
				return false
			}
			return true
		}
		items, next, err = list(&a.peers, page{params.Ids, params.Limit, params.Cursor}, fits, func(peer store.Peer) api.Peer {
			shown := a.showPeer(peer)
			if n, err := a.engine.AccessibleCount(peer.ID); err == nil {
				shown.AccessiblePeersCount = &n
			}
			return shown
		})
		return err
	})
	return items, next, err
}

// GetPeer reads a peer.
func (s *State) GetPeer(_ context.Context, p auth.Principal, id string) (answer api.Peer, err error) {
	err = s.reading(p, func(a *account) error {
		peer, ok := a.peers.get(id)
		if !ok || !sees(p, peer) {
			return problem.NotFound("peer")
		}
		answer = a.showPeer(peer)
		return nil
	})
	return answer, err
}

// ListAccessiblePeers lists the peers to which a peer may open traffic.
func (s *State) ListAccessiblePeers(_ context.Context, p auth.Principal, id string) (items []api.AccessiblePeer, err error) {
	items = []api.AccessiblePeer{}
	err = s.reading(p, func(a *account) error {
		if peer, ok := a.peers.get(id); !ok || !sees(p, peer) {
			return problem.NotFound("peer")
		}
		ids, err := a.engine.Accessible(id)
		if err != nil {
			return problem.Internal(err)
		}
		for _, other := range ids {
			if peer, ok := a.peers.get(other); ok {
				shown := a.showPeer(peer)
				items = append(items, api.AccessiblePeer{
					Id: peer.ID, Name: peer.Name, Ip: peer.IP, Ipv6: peer.IPv6, DnsLabel: shown.DnsLabel, UserId: peer.UserID, Os: shown.Os,
					CountryCode: shown.CountryCode, CityName: shown.CityName, GeonameId: shown.GeonameId, Connected: shown.Connected, LastSeen: shown.LastSeen,
				})
			}
		}
		return nil
	})
	return items, err
}

// sees reports whether a principal may know about a peer: those with a
// restricted role only about the machines that they enrolled themselves.
func sees(p auth.Principal, peer store.Peer) bool {
	return !p.Restricted() || peer.UserID != "" && peer.UserID == p.ID
}

// UpdatePeer changes name, addresses, approval or flags of a peer; what is absent
// stays. The map and with it the agents follow.
func (s *State) UpdatePeer(ctx context.Context, p auth.Principal, id string, req api.PeerRequest, ifMatch string) (answer api.Peer, err error) {
	req.ApplyDefaults()
	a, err := s.account(p.AccountID)
	if err != nil {
		return answer, err
	}
	hostname := a.present.read(id).facts.Hostname
	err = s.write(ctx, p, api.PermissionPeersUpdate, func(w *write) error {
		was, err := w.peer(id, ifMatch)
		if err != nil {
			return err
		}
		peer, err := w.changedPeer(was, req, hostname)
		if err := together(faults(req.Validate()), err); err != nil {
			return err
		}
		if reflect.DeepEqual(peer, was) {
			return errUnchanged
		}
		peer.Version++
		w.change(change{Peer: &peer})
		if err := store.Peers.Update(w.ctx, w.tx, &peer); err != nil {
			return err
		}
		return w.note("peer.update", id, peer.Name, peerAudit(was), peerAudit(peer))
	}, func(a *account) { answer = a.showPeer(a.peers.byID[id]) })
	return answer, err
}

// changedPeer is a peer as a request wants it. The name that its machine reports
// is one that it goes on following.
func (w *write) changedPeer(peer store.Peer, req api.PeerRequest, hostname string) (store.Peer, error) {
	for _, flag := range []struct {
		asked *bool
		into  *bool
	}{
		{req.ApprovalRequired, &peer.ApprovalRequired},
		{req.SshEnabled, &peer.SSHEnabled},
		{req.LoginExpirationEnabled, &peer.LoginExpirationEnabled},
		{req.InactivityExpirationEnabled, &peer.InactivityExpirationEnabled},
	} {
		if flag.asked != nil {
			*flag.into = *flag.asked
		}
	}
	if peer.UserID == "" && (peer.LoginExpirationEnabled || peer.InactivityExpirationEnabled) {
		return peer, problem.Precondition(fmt.Sprintf("peer %q was enrolled by a setup key; only the login of a person can expire", peer.Name))
	}
	if req.Name != nil && *req.Name != peer.Name {
		peer.Renamed = *req.Name != hostname
		if err := w.rename(&peer, *req.Name); err != nil {
			return peer, err
		}
	}
	return peer, w.setAddresses(&peer, req)
}

// rename gives a peer a name and the DNS label that follows from it.
func (w *write) rename(peer *store.Peer, name string) (err error) {
	peer.Name = name
	peer.DNSLabel, err = w.freeLabel(*peer)
	return err
}

// followHostname gives the calling machine the name that it reports, unless an administrator
// gave it another one.
func (s *State) followHostname(ctx context.Context, p auth.Principal, hostname string) error {
	follows := func(peer store.Peer) bool { return !peer.Renamed && hostname != "" && hostname != peer.Name }
	_, peer, err := s.peer(p.PeerID)
	if err != nil || !follows(peer) {
		return err
	}
	return s.write(ctx, p, "", func(w *write) error {
		was, err := w.peer(p.PeerID, "")
		if err != nil {
			return err
		}
		if !follows(was) {
			return errUnchanged
		}
		peer := was
		if err := w.rename(&peer, hostname); err != nil {
			return err
		}
		peer.Version++
		w.change(change{Peer: &peer})
		if err := store.Peers.Update(w.ctx, w.tx, &peer); err != nil {
			return err
		}
		return w.note("peer.update", peer.ID, peer.Name, peerAudit(was), peerAudit(peer))
	}, func(*account) {})
}

func (w *write) peer(id, ifMatch string) (store.Peer, error) {
	peer, err := store.FindPeer(w.ctx, w.tx, w.account.ID, id)
	if peer, err = found(peer, err, "peer"); err != nil {
		return peer, err
	}
	return peer, checkMatch(ifMatch, "peer", peer.Version)
}

// setAddresses gives a peer addresses by hand.
func (w *write) setAddresses(peer *store.Peer, req api.PeerRequest) error {
	pool, err := ipam.ParsePool(w.account.Network, w.account.NetworkV6)
	if err != nil {
		return err
	}
	return together(
		w.setAddress(peer.ID, "ip", req.Ip, &peer.IP, pool.Usable),
		w.setAddress(peer.ID, "ipv6", req.Ipv6, &peer.IPv6, pool.Usable6),
	)
}

// setAddress gives a peer the address that is asked for; nil leaves it as it is.
func (w *write) setAddress(peer, field string, asked, into *string, usable func(netip.Addr) string) error {
	if asked == nil {
		return nil
	}
	address, err := netip.ParseAddr(*asked)
	if err != nil {
		return problem.Invalid(problem.Field(field, "must be an address, not %q", *asked))
	}
	if wrong := usable(address); wrong != "" {
		return problem.Invalid(problem.Field(field, "%s", wrong))
	}
	holder, err := store.PeerWithAddress(w.ctx, w.tx, w.account.ID, address.String())
	if err != nil {
		return err
	}
	if holder != "" && holder != peer {
		return problem.Conflict("peer", field, address.String())
	}
	*into = address.String()
	return nil
}

// DeletePeer removes a peer from the network. A peer that a policy names stays:
// the answer lists the policies.
func (s *State) DeletePeer(ctx context.Context, p auth.Principal, id, ifMatch string) error {
	return s.removePeer(ctx, p, api.PermissionPeersDelete, id, ifMatch, "peer.delete")
}

// WithdrawAgent removes the machine that calls.
func (s *State) WithdrawAgent(ctx context.Context, p auth.Principal) error {
	return s.removePeer(ctx, p, "", p.PeerID, "", "peer.withdraw")
}

func (s *State) removePeer(ctx context.Context, p auth.Principal, permission, id, ifMatch, activity string) error {
	return s.write(ctx, p, permission, func(w *write) error { return w.removePeer(id, ifMatch, activity) }, func(*account) {})
}

func (w *write) removePeer(id, ifMatch, activity string) error {
	peer, err := w.peer(id, ifMatch)
	if err != nil {
		return err
	}
	referrers, err := w.referrers(store.KindPeer, id)
	if err != nil {
		return err
	}
	if len(referrers) > 0 {
		return problem.StillReferred("peer", peer.Name, referrers...)
	}
	edges, err := store.PeerMemberships(w.ctx, w.tx, id)
	if err != nil {
		return err
	}
	for _, edge := range edges {
		w.touched[edge.GroupID] = true
		if err := store.Memberships.Delete(w.ctx, w.tx, edge.GroupID, id); err != nil {
			return err
		}
	}
	w.change(change{Peer: &peer, Remove: true})
	if err := store.Peers.Delete(w.ctx, w.tx, id); err != nil {
		return err
	}
	if err := store.FreeOrdinal(w.ctx, w.tx, w.account.ID, peer.Ordinal, w.now); err != nil {
		return err
	}
	return w.note(activity, id, peer.Name, peerAudit(peer), nil)
}

func peerAudit(p store.Peer) map[string]any {
	return map[string]any{
		"name": p.Name, "dns_label": p.DNSLabel, "ip": p.IP, "ipv6": p.IPv6, "approval_required": p.ApprovalRequired, "setup_key_id": p.SetupKeyID,
		"extra_dns_labels": p.ExtraDNSLabels, "ssh_enabled": p.SSHEnabled, "login_expiration_enabled": p.LoginExpirationEnabled,
		"inactivity_expiration_enabled": p.InactivityExpirationEnabled,
	}
}

// freeLabel returns the DNS label for the name of a peer: the name itself in the
// letters of RFC 1035, section 2.3.1, and with the ordinal behind it when another
// peer has that label.
func (w *write) freeLabel(peer store.Peer) (string, error) {
	wanted := label.Of(peer.Name)
	for try := range 100 {
		candidate := wanted
		switch {
		case try == 1:
			candidate = fmt.Sprintf("%s-%d", clip(wanted, 50), peer.Ordinal)
		case try > 1:
			candidate = fmt.Sprintf("%s-%d-%d", clip(wanted, 50), peer.Ordinal, try)
		}
		holder, err := store.PeerWithLabel(w.ctx, w.tx, w.account.ID, candidate)
		if err != nil {
			return "", err
		}
		if holder == "" || holder == peer.ID {
			return candidate, nil
		}
	}
	return "", problem.Conflict("peer", "name", peer.Name)
}

func clip(text string, most int) string { return text[:min(len(text), most)] }

package state

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/ipam"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/seal/token"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// machineKeys are the public keys of a machine that wants to enrol.
type machineKeys struct{ machine, wireguard []byte }

// Enroll turns a setup key into a peer. The caller has verified that the machine
// key signed the request. The same keys again answer with the same peer and
// count no further use; keys that belong to another peer are a conflict.
func (s *State) Enroll(ctx context.Context, p auth.Principal, req api.EnrollRequest, remote netip.Addr) (answer api.EnrollResult, err error) {
	req.ApplyDefaults()
	keys, err := checkEnrolment(req)
	if err != nil {
		return answer, err
	}
	secret, err := token.Parse(token.SetupKey, req.SetupKey)
	if err != nil {
		return answer, errUnknownKey
	}
	sum := secret.Sum()
	s.mu.RLock()
	accountID, known := s.keys[sum]
	s.mu.RUnlock()
	if !known {
		return answer, errUnknownKey
	}
	p = auth.Principal{Kind: auth.KindAgent, AccountID: accountID, Channel: auth.ChannelAgent, RequestID: p.RequestID}
	var id string
	err = s.write(ctx, p, "", func(w *write) (err error) {
		id, err = w.enroll(sum[:], keys, req, remote)
		return err
	}, func(a *account) {
		peer := a.peers.byID[id]
		a.present.greet(id, remote, req.Facts)
		answer = api.EnrollResult{PeerId: id, AccountId: a.id, Issuer: s.cfg.Issuer, Epoch: a.row.Epoch, Name: peer.Name}
	})
	if err != nil {
		return answer, err
	}
	if a, _, err := s.peer(id); err == nil {
		s.report("posture was not judged", s.assess(ctx, a, id))
	}
	return answer, nil
}

func checkEnrolment(req api.EnrollRequest) (keys machineKeys, err error) {
	var more []problem.FieldError
	for _, k := range []struct {
		field, text string
		into        *[]byte
	}{{"machine_key", req.MachineKey, &keys.machine}, {"wireguard_key", req.WireguardKey, &keys.wireguard}} {
		raw, err := base64.StdEncoding.DecodeString(k.text)
		if err != nil || len(raw) != 32 || base64.StdEncoding.EncodeToString(raw) != k.text {
			more = append(more, problem.Field(k.field, "must be a public key of 32 bytes in base64"))
		}
		*k.into = raw
	}
	return keys, faults(req.Validate(), more...)
}

func (w *write) enroll(sum []byte, keys machineKeys, req api.EnrollRequest, remote netip.Addr) (id string, err error) {
	k, err := store.FindSetupKeyBySecret(w.ctx, w.tx, sum)
	if errors.Is(err, store.ErrNoRow) {
		return "", errUnknownKey
	}
	if err != nil {
		return "", err
	}
	if id, err = w.enrolled(keys); id != "" || err != nil {
		return id, err
	}
	ok, err := store.UseSetupKey(w.ctx, w.tx, k.ID, w.now)
	if err != nil {
		return "", err
	}
	if !ok {
		// The reason is read after the refusal, so it is the one that held.
		return "", errors.Join(usable(k, w.now))
	}
	k.UsedTimes, k.LastUsed = k.UsedTimes+1, w.now
	w.change(change{SetupKey: &k})
	peer, err := w.insertPeer(k, keys, req)
	if err != nil {
		return "", err
	}
	if err := w.joinGroups(peer.ID, k); err != nil {
		return "", err
	}
	text, err := json.Marshal(req.Facts)
	if err != nil {
		return "", err
	}
	seen := store.Presence{PeerID: peer.ID, LastSeen: w.now, ConnectionIP: addressText(remote), Facts: string(text)}
	if err := store.PutPresence(w.ctx, w.tx, []store.Presence{seen}); err != nil {
		return "", err
	}
	w.p.ID, w.p.Name = peer.ID, peer.Name
	return peer.ID, w.note("peer.enroll", peer.ID, peer.Name, nil, peerAudit(peer))
}

// enrolled finds the peer that has these keys already: errUnchanged with its id
// when it has both, a conflict when they belong to another one.
func (w *write) enrolled(keys machineKeys) (id string, err error) {
	holders, err := store.PeersByKey(w.ctx, w.tx, keys.machine, keys.wireguard)
	if err != nil || len(holders) == 0 {
		return "", err
	}
	one := holders[0]
	if len(holders) == 1 && slices.Equal(one.MachineKey, keys.machine) && slices.Equal(one.WireGuardKey, keys.wireguard) && one.AccountID == w.account.ID {
		return one.ID, errUnchanged
	}
	field := "machine_key"
	if !slices.ContainsFunc(holders, func(p store.Peer) bool { return slices.Equal(p.MachineKey, keys.machine) }) {
		field = "wireguard_key"
	}
	return "", &problem.Problem{
		Kind: problem.KindConflict, Detail: "this key belongs to another peer; remove that peer, or make new keys by clearing the agent's state folder",
		Errors: []problem.FieldError{problem.Field(field, "belongs to another peer")},
	}
}

func (w *write) insertPeer(k store.SetupKey, keys machineKeys, req api.EnrollRequest) (peer store.Peer, err error) {
	peer = store.Peer{
		ID: newID(), AccountID: w.account.ID, Seq: w.seq(), Name: req.Facts.Hostname, ExtraDNSLabels: *req.ExtraDnsLabels, MachineKey: keys.machine, WireGuardKey: keys.wireguard,
		ApprovalRequired: w.account.PeerApproval, Ephemeral: k.Ephemeral, SetupKeyID: k.ID, CreatedAt: w.now, Version: 1,
	}
	if err := w.allot(&peer); err != nil {
		return peer, err
	}
	if peer.Name == "" {
		peer.Name = fmt.Sprintf("peer-%d", peer.Ordinal)
	}
	if err := w.freeLabels(k, peer.ExtraDNSLabels); err != nil {
		return peer, err
	}
	if peer.DNSLabel, err = w.freeLabel(peer); err != nil {
		return peer, err
	}
	w.change(change{Peer: &peer})
	if err := store.Peers.Insert(w.ctx, w.tx, &peer); err != nil {
		return peer, err
	}
	return peer, store.AddLabels(w.ctx, w.tx, w.account.ID, peer.ID, peer.ExtraDNSLabels)
}

// freeLabels checks the further DNS labels that a machine asks for: the key has
// to allow them, and nobody else may have one.
func (w *write) freeLabels(k store.SetupKey, labels []string) error {
	if len(labels) > 0 && !k.AllowExtraDNSLabels {
		return problem.Invalid(problem.Field("extra_dns_labels", "the setup key allows none; leave them out, or use a key with allow_extra_dns_labels"))
	}
	var taken []problem.FieldError
	for i, label := range labels {
		holder, err := store.PeerWithLabel(w.ctx, w.tx, w.account.ID, label)
		if err != nil {
			return err
		}
		if holder != "" {
			taken = append(taken, problem.Field(fmt.Sprintf("extra_dns_labels[%d]", i), "%s is the name of another peer", label))
		}
	}
	if len(taken) == 0 {
		return nil
	}
	return &problem.Problem{Kind: problem.KindConflict, Detail: "a DNS label is taken by another peer: " + taken[0].Detail, Errors: taken}
}

// allot gives a peer its ordinal and the addresses that follow from it. An
// ordinal whose address another peer got by hand is put aside.
func (w *write) allot(peer *store.Peer) error {
	pool, err := ipam.ParsePool(w.account.Network, w.account.NetworkV6)
	if err != nil {
		return err
	}
	for {
		ordinal, err := w.nextOrdinal(pool)
		if err != nil {
			return err
		}
		v4, v6, err := pool.Addresses(ordinal)
		if err != nil {
			return problem.Invalid(problem.Field("", "%s", err))
		}
		taken := ""
		for _, address := range []netip.Addr{v4, v6} {
			holder, err := store.PeerWithAddress(w.ctx, w.tx, w.account.ID, address.String())
			if err != nil {
				return err
			}
			taken = cmp.Or(taken, holder)
		}
		if taken == "" {
			peer.Ordinal, peer.IP, peer.IPv6 = ordinal, v4.String(), v6.String()
			return nil
		}
		if err := store.FreeOrdinal(w.ctx, w.tx, w.account.ID, ordinal, w.now); err != nil {
			return err
		}
	}
}

func (w *write) nextOrdinal(pool ipam.Pool) (uint32, error) {
	ordinal, ok, err := store.ReuseOrdinal(w.ctx, w.tx, w.account.ID, w.now.Add(-ipam.Quarantine))
	if ok || err != nil {
		return ordinal, err
	}
	ordinal = w.account.NextOrdinal
	if ordinal > pool.Capacity() {
		return 0, problem.Invalid(problem.Field("", "%s", ipam.ErrPoolExhausted))
	}
	w.account.NextOrdinal++
	store.KeepAccount(w.tx, w.account)
	return ordinal, nil
}

// joinGroups puts a new peer into All and into the groups of its key.
func (w *write) joinGroups(peerID string, k store.SetupKey) error {
	all, err := store.FindObjectByKey(w.ctx, w.tx, w.account.ID, store.KindGroup, *groupNameKey(issuedByAPI, allGroup))
	if err != nil {
		return err
	}
	if err := w.addMember(all.ID, peerID, "api"); err != nil {
		return err
	}
	for _, id := range k.AutoGroups {
		if err := w.addMember(id, peerID, "key"); err != nil {
			return err
		}
	}
	return nil
}

func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.Unmap().String()
}

package state

import (
	"bytes"
	"context"
	"encoding/base64"
	"slices"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// SetAgentKey takes the WireGuard keys that the calling machine uses and will
// use. A key becomes the one in use only after it was the next one, so whoever
// the machine talks to has heard of it before. A key of another peer is a
// conflict.
func (s *State) SetAgentKey(ctx context.Context, p auth.Principal, req api.AgentKeys) error {
	key, next, err := checkAgentKeys(req)
	if err != nil {
		return err
	}
	return s.write(ctx, p, "", func(w *write) error {
		peer, err := w.peer(p.PeerID, "")
		if err != nil {
			return err
		}
		if !bytes.Equal(key, peer.WireGuardKey) && !bytes.Equal(key, peer.NextWireGuardKey) {
			return &problem.Problem{
				Kind: problem.KindConflict, Detail: "the control plane has not been told of this key; set it as next first",
				Errors: []problem.FieldError{problem.Field("key", "is neither the key in use nor the next one")},
			}
		}
		if bytes.Equal(key, peer.WireGuardKey) && bytes.Equal(next, peer.NextWireGuardKey) {
			return errUnchanged
		}
		if err := w.freeKey(peer, next); err != nil {
			return err
		}
		before := agentKeyAudit(peer)
		peer.WireGuardKey, peer.NextWireGuardKey = key, next
		// The object of the management API stays as it is, and so does its version.
		w.change(change{Peer: &peer})
		if err := store.Peers.Update(w.ctx, w.tx, &peer); err != nil {
			return err
		}
		return w.note("peer.key", peer.ID, peer.Name, before, agentKeyAudit(peer))
	}, func(*account) {})
}

// freeKey refuses a key that another peer has.
func (w *write) freeKey(peer store.Peer, key []byte) error {
	if key == nil {
		return nil
	}
	holders, err := store.PeersByKey(w.ctx, w.tx, nil, key)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(holders, func(p store.Peer) bool { return p.ID != peer.ID }) {
		return &problem.Problem{
			Kind: problem.KindConflict, Detail: "this key belongs to another peer; make a new one",
			Errors: []problem.FieldError{problem.Field("next", "belongs to another peer")},
		}
	}
	return nil
}

func checkAgentKeys(req api.AgentKeys) (key, next []byte, err error) {
	var wrong []problem.FieldError
	key, wrong = publicKey("key", req.Key, wrong)
	if req.Next != nil {
		next, wrong = publicKey("next", *req.Next, wrong)
		if *req.Next == req.Key {
			wrong = append(wrong, problem.Field("next", "must be another key than the one in use"))
		}
	}
	return key, next, faults(req.Validate(), wrong...)
}

// publicKey reads a WireGuard key in its one form and adds what is wrong with it.
func publicKey(field, text string, wrong []problem.FieldError) ([]byte, []problem.FieldError) {
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != 32 || [32]byte(raw) == [32]byte{} {
		wrong = append(wrong, problem.Field(field, "must be a public key of 32 bytes in base64"))
	}
	return raw, wrong
}

// agentKeyAudit is the WireGuard keys of a peer in an audit event; they are public.
func agentKeyAudit(p store.Peer) map[string]any {
	return map[string]any{
		"key":  base64.StdEncoding.EncodeToString(p.WireGuardKey),
		"next": base64.StdEncoding.EncodeToString(p.NextWireGuardKey),
	}
}

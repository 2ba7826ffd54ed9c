package tunnel

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// IpcSet takes the changes of peers in WireGuard's text. The kernel gets each
// peer that differs whole: it cannot be told to take one prefix away.
func (k *kernel) IpcSet(text string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var peer *kernelPeer
	changed, order := map[PublicKey]bool{}, []PublicKey{}
	var gone []wgtypes.PeerConfig
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		switch name {
		case "public_key":
			raw, err := hex.DecodeString(value)
			if err != nil || len(raw) != KeySize {
				return fmt.Errorf("%q is not a public key", value)
			}
			peer = k.peer(PublicKey(raw))
			if !changed[peer.endpoint.key] {
				changed[peer.endpoint.key] = true
				order = append(order, peer.endpoint.key)
			}
		case "allowed_ip":
			prefix, away := strings.CutPrefix(value, "-")
			parsed, err := netip.ParsePrefix(prefix)
			if err != nil {
				return err
			}
			k.allow(peer, parsed, !away)
		case "preshared_key":
			raw, err := hex.DecodeString(value)
			if err != nil || len(raw) != KeySize {
				return errors.New("a pre-shared key has not 32 bytes")
			}
			peer.mixed = wgtypes.Key(raw)
		case "replace_allowed_ips":
			clear(peer.allowed)
		case "remove":
			key := peer.endpoint.key
			changed[key] = false
			gone = append(gone, wgtypes.PeerConfig{PublicKey: wgtypes.Key(key), Remove: true, UpdateOnly: true})
			delete(k.peers, key)
			k.loop.forget(key)
		case "endpoint": // always the peer's own object
		default:
			return fmt.Errorf("the kernel is not told of %q", name)
		}
	}
	var peers []wgtypes.PeerConfig
	for _, key := range order {
		if changed[key] {
			peers = append(peers, k.describe(k.peers[key]))
		}
	}
	return k.tell(append(peers, gone...)...)
}

// peer returns what is known of a peer, made at the first call. The caller
// holds mu.
func (k *kernel) peer(key PublicKey) *kernelPeer {
	p := k.peers[key]
	if p == nil {
		p = &kernelPeer{endpoint: k.bind.Endpoint(key), allowed: make(map[netip.Prefix]bool)}
		k.loop.learn(key)
		k.peers[key] = p
	}
	return p
}

// allow notes that a prefix belongs to a peer, or no longer: the kernel takes
// it from the former owner by itself.
func (k *kernel) allow(peer *kernelPeer, prefix netip.Prefix, belongs bool) {
	if !belongs {
		delete(peer.allowed, prefix)
		return
	}
	for _, other := range k.peers {
		delete(other.allowed, prefix)
	}
	peer.allowed[prefix] = true
}

// describe is a peer as the kernel shall have it.
func (k *kernel) describe(p *kernelPeer) wgtypes.PeerConfig {
	c := wgtypes.PeerConfig{PublicKey: wgtypes.Key(p.endpoint.key), PresharedKey: &p.mixed, ReplaceAllowedIPs: true}
	for prefix := range p.allowed {
		c.AllowedIPs = append(c.AllowedIPs, net.IPNet{
			IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen()),
		})
	}
	if at := k.whereTo(p.endpoint); at != p.at {
		p.at = at
		c.Endpoint = net.UDPAddrFromAddrPort(at)
	}
	return c
}

// IpcGet returns the counters of the peers in WireGuard's text.
func (k *kernel) IpcGet() (string, error) {
	state, err := k.client.Device(k.name)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", k.name, err)
	}
	u := newUAPI()
	for _, p := range state.Peers {
		u.set("public_key", hex.EncodeToString(p.PublicKey[:]))
		if !p.LastHandshakeTime.IsZero() {
			u.set("last_handshake_time_sec", fmt.Sprint(p.LastHandshakeTime.Unix()))
			u.set("last_handshake_time_nsec", fmt.Sprint(p.LastHandshakeTime.Nanosecond()))
		}
		u.set("rx_bytes", fmt.Sprint(p.ReceiveBytes)).set("tx_bytes", fmt.Sprint(p.TransmitBytes))
	}
	return u.String(), nil
}

// SetKey replaces the private key. Sessions go on receiving and do not send any
// more, as those of wireguard-go.
func (k *kernel) SetKey(private PrivateKey) error {
	key := wgtypes.Key(private.scalar)
	if err := k.client.ConfigureDevice(k.name, wgtypes.Config{PrivateKey: &key}); err != nil {
		return fmt.Errorf("set the key of %s: %w", k.name, err)
	}
	return nil
}

// Handshake leaves the session as it is: the kernel begins one with a packet
// that needs it, and is not told to.
func (k *kernel) Handshake(PublicKey) error { return nil }

// Rekey takes the peer out and puts it back: the kernel has no other way to
// end a session.
func (k *kernel) Rekey(key PublicKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.peers[key]
	if p == nil {
		return
	}
	p.at, p.rx, p.tx = netip.AddrPort{}, 0, 0
	gone := wgtypes.PeerConfig{PublicKey: wgtypes.Key(key), Remove: true, UpdateOnly: true}
	if err := k.tell(gone, k.describe(p)); err != nil {
		k.log.Warn("sessions of a peer not ended", "error", err)
	}
}

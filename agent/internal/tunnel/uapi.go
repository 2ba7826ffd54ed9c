package tunnel

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The device is configured in WireGuard's own text protocol: lines of key=value
// (https://www.wireguard.com/xplatform/#configuration-protocol).
type uapi struct{ strings.Builder }

func newUAPI() *uapi { return &uapi{} }

func (u *uapi) set(key, value string) *uapi {
	u.WriteString(key)
	u.WriteByte('=')
	u.WriteString(value)
	u.WriteByte('\n')
	return u
}

// samePeer compares peers, whatever the order of their prefixes.
func samePeer(a, b Peer) bool {
	return a.PublicKey == b.PublicKey && a.NextKey == b.NextKey && slices.Equal(sortedPrefixes(a.AllowedIPs), sortedPrefixes(b.AllowedIPs))
}

func sortedPrefixes(list []netip.Prefix) []netip.Prefix {
	return slices.SortedFunc(slices.Values(list), comparePrefixes)
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// diffPeers writes the lines that turn before into after; empty when they are
// equal. A prefix that moves from one peer to another is never without an owner:
// the device gives it to the new one and takes it from the old one in one step,
// and only what nobody has any more is removed.
func diffPeers(before, after []Peer) (string, error) {
	was := make(map[PublicKey]Peer, len(before))
	for _, p := range before {
		was[p.PublicKey] = p
	}
	owner := make(map[netip.Prefix]PublicKey)
	stays := make(map[PublicKey]bool, len(after))
	var changed []Peer
	for _, p := range after {
		if p.PublicKey.IsZero() {
			return "", fmt.Errorf("peer with allowed IPs %v has no public key", p.AllowedIPs)
		}
		for _, prefix := range p.AllowedIPs {
			if other, taken := owner[prefix.Masked()]; taken {
				return "", fmt.Errorf("allowed IP %s belongs to both %s and %s", prefix, other, p.PublicKey)
			}
			owner[prefix.Masked()] = p.PublicKey
		}
		old, known := was[p.PublicKey]
		if !known || !samePeer(Peer{AllowedIPs: old.AllowedIPs}, Peer{AllowedIPs: p.AllowedIPs}) {
			changed = append(changed, p)
		}
		stays[p.PublicKey] = true
	}
	u := newUAPI()
	for _, p := range changed {
		old, known := was[p.PublicKey]
		u.set("public_key", hex.EncodeToString(p.PublicKey[:]))
		u.set("endpoint", peerPrefix+p.PublicKey.String())
		if !known {
			u.set("replace_allowed_ips", "true")
		}
		for _, prefix := range p.AllowedIPs {
			if !slices.Contains(old.AllowedIPs, prefix) {
				u.set("allowed_ip", prefix.Masked().String())
			}
		}
		for _, prefix := range old.AllowedIPs {
			if _, owned := owner[prefix.Masked()]; !owned {
				u.set("allowed_ip", "-"+prefix.Masked().String())
			}
		}
	}
	for _, p := range before {
		if !stays[p.PublicKey] {
			u.set("public_key", hex.EncodeToString(p.PublicKey[:])).set("remove", "true")
		}
	}
	return u.String(), nil
}

// parseStats reads what the device answers to "get".
func parseStats(text string) (map[PublicKey]Stats, error) {
	out := make(map[PublicKey]Stats)
	var key PublicKey
	var seconds, nanoseconds int64
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if !ok {
			continue
		}
		stats := out[key]
		var err error
		switch name {
		case "public_key":
			var raw []byte
			if raw, err = hex.DecodeString(value); err == nil && len(raw) == KeySize {
				key, stats = PublicKey(raw), Stats{}
			}
		case "last_handshake_time_sec":
			seconds, err = strconv.ParseInt(value, 10, 64)
		case "last_handshake_time_nsec":
			nanoseconds, err = strconv.ParseInt(value, 10, 64)
			if seconds != 0 || nanoseconds != 0 {
				stats.LastHandshake = time.Unix(seconds, nanoseconds)
			}
		case "rx_bytes":
			stats.ReceivedBytes, err = strconv.ParseUint(value, 10, 64)
		case "tx_bytes":
			stats.SentBytes, err = strconv.ParseUint(value, 10, 64)
		}
		if err != nil {
			return nil, fmt.Errorf("read the WireGuard device: line %q: %w", name, err)
		}
		if !key.IsZero() {
			out[key] = stats
		}
	}
	return out, nil
}

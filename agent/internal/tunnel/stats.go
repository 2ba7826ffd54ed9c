package tunnel

import (
	"fmt"
	"time"
)

// Stats is what the device has counted for a peer since it was added.
type Stats struct {
	// LastHandshake is the moment of the last completed handshake; zero: none.
	LastHandshake time.Time

	ReceivedBytes uint64 // WireGuard messages included
	SentBytes     uint64
}

// With adds what was counted under another key of the peer, or before it was retired.
func (s Stats) With(o Stats) Stats {
	if o.LastHandshake.After(s.LastHandshake) {
		s.LastHandshake = o.LastHandshake
	}
	s.ReceivedBytes += o.ReceivedBytes
	s.SentBytes += o.SentBytes
	return s
}

// Stats returns the counters of every peer that has any.
func (d *Device) Stats() (map[PublicKey]Stats, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, errClosed
	}
	all, err := d.counters()
	if err != nil {
		return nil, err
	}
	for key, past := range d.roster.past() {
		all[key] = past.With(all[key])
	}
	return all, nil
}

// counters asks the device itself.
func (d *Device) counters() (map[PublicKey]Stats, error) {
	text, err := d.wg.IpcGet()
	if err != nil {
		return nil, fmt.Errorf("read the WireGuard device: %w", err)
	}
	return parseStats(text)
}

package connectivity

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"

	"github.com/pion/stun/v2"

	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

// While the control plane is away two machines can still agree on a secret, as
// far as they have a path: the sealed message goes along it, in parts that fit
// into every packet. Each part is a probe with one attribute more (RFC 8489,
// section 14), which agents that do not know it answer all the same:
//
//	number 8 | part 1 | parts 1 | bytes
//
// The number is the counter of the box, so a part of an older one is of no use.
const (
	// attrParcel is comprehension-optional (RFC 8489, section 18.3).
	attrParcel stun.AttrType = 0xca70

	parcelHeader = 8 + 1 + 1

	// parcelSize of a part leaves room for all headers in 1,280 bytes.
	parcelSize  = 1000
	parcelParts = (MaximumBox + parcelSize - 1) / parcelSize
)

var errParcel = errors.New("malformed part of a message")

// A part is a piece of a box. As a stun.Setter it makes a probe carry it.
type part struct {
	number uint64 // of the box
	at, of int
	bytes  []byte
}

// inParts cuts a box.
func inParts(number uint64, box []byte) []part {
	parts := make([]part, 0, parcelParts)
	for len(box) > 0 {
		n := min(len(box), parcelSize)
		parts = append(parts, part{number: number, at: len(parts), bytes: box[:n]})
		box = box[n:]
	}
	for i := range parts {
		parts[i].of = len(parts)
	}
	return parts
}

// AddTo implements stun.Setter.
func (p part) AddTo(m *stun.Message) error {
	m.Add(attrParcel, append(append(binary.BigEndian.AppendUint64(nil, p.number), byte(p.at), byte(p.of)), p.bytes...))
	return nil
}

// GetFrom implements stun.Getter. It checks every bound.
func (p *part) GetFrom(m *stun.Message) error {
	raw, err := m.Get(attrParcel)
	if err != nil {
		return err
	}
	if len(raw) < parcelHeader {
		return errParcel
	}
	*p = part{number: binary.BigEndian.Uint64(raw), at: int(raw[8]), of: int(raw[9]), bytes: raw[parcelHeader:]}
	if p.at >= p.of || p.of > parcelParts || len(p.bytes) == 0 || len(p.bytes) > parcelSize {
		return errParcel
	}
	return nil
}

// A parcel is what has arrived of the newest box. The zero value is nothing.
type parcel struct {
	number uint64
	parts  [][]byte // nil: not arrived yet
}

// add returns the box when it is whole, once.
func (c *parcel) add(p part) (box []byte, whole bool) {
	switch {
	case p.number < c.number:
		return nil, false
	case p.number > c.number:
		*c = parcel{number: p.number, parts: make([][]byte, p.of)}
	case p.of != len(c.parts): // of one that was whole, or malformed
		return nil, false
	}
	c.parts[p.at] = p.bytes
	for _, bytes := range c.parts {
		if bytes == nil {
			return nil, false
		}
		box = append(box, bytes...)
	}
	c.parts = nil
	return box, true
}

// passKeys says along a path what the exchange has to say.
func (p *Pathfinder) passKeys(ctx context.Context, pr *pair, path *tunnel.Path) {
	if pr.passing {
		pr.passNext = path
		return
	}
	pr.undelivered, pr.passNext = false, nil
	message, err := (&hello{Keys: pr.keys.Message()}).encode()
	var box []byte
	if err == nil {
		box, err = pr.seal.seal(message)
	}
	if err != nil {
		p.log.Warn("keys not passed", "peer", pr.peer.ID, "error", err.Error())
		return
	}
	p.log.Debug("keys passed along the path", "peer", pr.peer.ID, "path", path.String(), "bytes", len(box))
	pr.passing = true
	probe, parts := pr.probe, inParts(pr.seal.counter, box)
	p.task(func() {
		var asking sync.WaitGroup
		for _, part := range parts {
			asking.Go(func() { _, _ = p.inquire(ctx, probe, path, probeLimit, part) }) // the exchange repeats what is lost
		}
		asking.Wait()
		p.post(func(ctx context.Context) {
			pr.passing = false
			if next := pr.passNext; next != nil && ctx.Err() == nil {
				p.passKeys(ctx, pr, next)
			}
		})
	})
}

// heardPart takes a part that came in an authentic probe, and answers a whole
// message the way it came.
func (p *Pathfinder) heardPart(pb *prober, m *stun.Message, raw tunnel.STUNMessage) {
	var piece part
	if piece.GetFrom(m) != nil {
		return
	}
	p.post(func(ctx context.Context) {
		pr := p.pairWith(pb.peer)
		if pr == nil {
			return
		}
		box, whole := pr.parcel.add(piece)
		if !whole {
			return
		}
		message, restarted, err := p.open(pr, box)
		var h *hello
		if err == nil {
			h, err = decodeHello(message)
		}
		if restarted {
			p.peerRestarted(pr)
		}
		if err == nil && h.Session != "" {
			err = errParcel // that is for signals
		}
		if err != nil {
			p.log.Debug("message along the path refused", "peer", pr.peer.ID, "error", err.Error())
			return
		}
		path := p.cfg.Bind.DirectPath(raw.Addr)
		if raw.Relay != nil {
			path = raw.Relay.Path(raw.Addr, 0)
		}
		p.heedKeys(pr, h.Keys)
		if pr.tellKeys {
			pr.tellKeys = false
			p.passKeys(ctx, pr, path)
		}
		p.publish(pr)
	})
}

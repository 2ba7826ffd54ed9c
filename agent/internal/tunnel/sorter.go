package tunnel

import (
	"encoding/binary"

	"golang.zx2c4.com/wireguard/conn"
)

// A sorter files the packets of one batch. Neighbours mostly belong to one
// session, so it remembers the last answer.
type sorter struct {
	bind *Bind
	now  int64

	index uint32
	last  *Endpoint
}

// place sorts one datagram and returns the size and the endpoint the device
// shall see. Size 0 means that there is nothing for the device: a slot left
// with its size would be parsed again as the packet it held before.
func (s *sorter) place(packet []byte, size int, from *origin) (int, conn.Endpoint) {
	b := packet[:size]
	switch classify(b) {
	case classWireGuard:
		return s.wireguard(b, from)
	case classSTUN:
		return s.stun(packet, b, from)
	case classChannel:
		return s.channel(packet, b, from)
	default:
		s.bind.counters.noise.Add(1)
		return 0, nil
	}
}

func (s *sorter) wireguard(b []byte, from *origin) (int, conn.Endpoint) {
	if b[0] == messageInitiation {
		return s.initiation(b, from)
	}
	at := 4
	if b[0] == messageResponse {
		at = 8
	}
	index := binary.LittleEndian.Uint32(b[at:])
	if s.last == nil || s.index != index {
		value, ok := s.bind.indexes.Load(index)
		if !ok {
			// Not a session of ours, or one long gone: the device drops it.
			return len(b), &arrival{bind: s.bind, from: *from}
		}
		s.last, s.index = value.(*Endpoint), index
	}
	if !s.last.received(b, from, s.now) {
		return 0, nil
	}
	return len(b), s.last
}

func (s *sorter) initiation(b []byte, from *origin) (int, conn.Endpoint) {
	a := &arrival{bind: s.bind, from: *from}
	if len(b) != initiationSize || !s.bind.named.Allow() {
		return len(b), a
	}
	key, err := s.bind.own.Load().reader.sender(b)
	if err != nil {
		return len(b), a // the device has the last word
	}
	if s.bind.admit != nil {
		s.bind.admit(key)
	}
	s.bind.mu.Lock()
	a.peer = s.bind.peers[key]
	s.bind.mu.Unlock()
	if a.peer != nil && !a.peer.began(b, from, s.now) {
		return 0, nil
	}
	return len(b), a
}

// stun takes a STUN message out of the batch. A Data indication of a relay is
// opened: it carries a packet of a peer that has no channel yet.
func (s *sorter) stun(packet, b []byte, from *origin) (int, conn.Endpoint) {
	if from.relay == nil {
		from.relay = s.bind.relayAt(from.addr)
		if from.relay != nil {
			from.addr = noAddr
		}
	}
	if from.relay != nil && from.channel == 0 && isDataIndication(b) {
		peer, payload, err := openDataIndication(b)
		if err != nil {
			s.bind.counters.noise.Add(1)
			return 0, nil
		}
		from.addr = peer
		return s.unwrapped(packet, payload, from)
	}
	s.bind.queueSTUN(b, from)
	return 0, nil
}

func (s *sorter) channel(packet, b []byte, from *origin) (int, conn.Endpoint) {
	if from.relay == nil {
		from.relay = s.bind.relayAt(from.addr)
	}
	channel, payload, ok := channelData(b)
	if from.relay == nil || !ok {
		s.bind.counters.unknownRelay.Add(1)
		return 0, nil
	}
	from.channel = channel
	from.addr = from.relay.peerOf(channel)
	return s.unwrapped(packet, payload, from)
}

// unwrapped sorts what a relay carried. A frame within a frame is noise.
func (s *sorter) unwrapped(packet, payload []byte, from *origin) (int, conn.Endpoint) {
	switch classify(payload) {
	case classWireGuard:
		n := copy(packet, payload)
		return s.wireguard(packet[:n], from)
	case classSTUN:
		s.bind.queueSTUN(payload, from)
	default:
		s.bind.counters.noise.Add(1)
	}
	return 0, nil
}

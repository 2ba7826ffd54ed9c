package netmap

import "github.com/wattlenet/wattle/internal/mapstate"

// A form is the entry of a peer as others are told it, encoded once.
type form struct {
	raw  []byte
	hash mapstate.Digest
}

// forms are the entry for agents with every feature, and for those that know nothing of keys that change. The first
// changes whenever the second does. The zero value is that of a peer that is not there.
type forms struct{ whole, plain form }

func formsOf(p Peer) forms {
	f := forms{whole: formOf(p, 0)}
	if f.plain = f.whole; p.NextKey != "" {
		f.plain = formOf(p, FeatureKeys)
	}
	return f
}

func formOf(p Peer, lacks Features) form {
	entry := entryOf(p, lacks)
	return form{raw: marshal(entry), hash: mapstate.HashPeer(entry)}
}

// of returns the form for agents that lack some features.
func (f *forms) of(lacks Features) form {
	if lacks&FeatureKeys != 0 {
		return f.plain
	}
	return f.whole
}

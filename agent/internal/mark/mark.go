// Package mark tells the sockets of the agent from those of everybody else, so that no route leads them into the tunnel.
//
// Policy routing sends what does not bear the mark to the tunnel where a route says so. The agent's own packets bear it
// and take the way that the host has without the agent; else the tunnel would carry itself.
package mark

// The mark and the bits of a packet's mark that it occupies. The others belong to other software.
const (
	Value uint32 = 0x570000
	Mask  uint32 = 0xff0000
)

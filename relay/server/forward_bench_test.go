package server

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/wattlenet/wattle/relay/internal/batch"
)

const (
	benchPacket = 1300 // bytes of payload
	benchTrain  = 40   // packets under way at once
)

// BenchmarkPacket is what a packet over UDP costs, from the system call that brings it to the one that it leaves with,
// sent and received by its ends on the same processors:
//
//	echo        a socket that sends all of it back, by the same batches: what no relay can be faster than
//	switched    client -> its channel -> the channel of another client of this relay
//	to_peer     client -> its channel -> relayed socket -> somebody else
//	from_peer   somebody else -> relayed socket -> client
func BenchmarkPacket(b *testing.B) {
	frames := bytes.Repeat(frame(0x4000, make([]byte, benchPacket)), benchTrain)
	payloads := make([]byte, benchTrain*benchPacket)
	b.Run("echo", func(b *testing.B) {
		middle, client := newBenchEnd(b, "127.0.0.1:0"), newBenchEnd(b, "127.0.0.1:0")
		middle.echo(b)
		client.measure(b, client, frames, middle.at)
	})
	b.Run("switched", func(b *testing.B) {
		relay := startRelay(b, nil)
		from, to := bare(b, relay, "udp", alice), bare(b, relay, "udp", bob)
		from.mustBind(0x4000, to.relayed)
		to.mustBind(0x4000, from.relayed)
		endOf(b, from).measure(b, endOf(b, to), frames, relay.Addrs()[0])
	})
	b.Run("to_peer", func(b *testing.B) {
		relay := startRelay(b, benchPeers)
		from, peer := bare(b, relay, "udp", alice), newBenchEnd(b, "127.0.0.2:0")
		from.mustBind(0x4000, peer.at)
		endOf(b, from).measure(b, peer, frames, relay.Addrs()[0])
	})
	b.Run("from_peer", func(b *testing.B) {
		relay := startRelay(b, benchPeers)
		to, peer := bare(b, relay, "udp", alice), newBenchEnd(b, "127.0.0.2:0")
		to.mustBind(0x4000, peer.at)
		peer.measure(b, endOf(b, to), payloads, to.relayed)
	})
}

// benchPeers admits the peers of the benchmark, which are on loopback.
func benchPeers(c *Config) {
	c.AllowedPeerNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}
}

// A benchEnd is a socket that is read and written by batches.
type benchEnd struct {
	conn  *net.UDPConn
	batch *batch.Conn
	at    netip.AddrPort
}

func newBenchEnd(b *testing.B, at string) *benchEnd {
	b.Helper()
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at)))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() }) // an echo is ended by closing it
	return benchEndOf(b, conn)
}

// endOf takes the socket of a client over, which has made its requests.
func endOf(b *testing.B, c *bareClient) *benchEnd {
	b.Helper()
	return benchEndOf(b, c.conn.(*net.UDPConn))
}

func benchEndOf(b *testing.B, conn *net.UDPConn) *benchEnd {
	b.Helper()
	if err := errors.Join(tuneBuffers(conn), conn.SetDeadline(time.Time{})); err != nil {
		b.Fatal(err)
	}
	batched, err := batch.New(conn)
	if err != nil {
		b.Fatal(err)
	}
	return &benchEnd{conn: conn, batch: batched, at: addrPort(conn.LocalAddr())}
}

// echo sends everything back to its sender until b ends.
func (e *benchEnd) echo(b *testing.B) {
	var done sync.WaitGroup
	done.Go(func() {
		out := batch.NewOutbox()
		for {
			in, err := e.batch.Receive()
			if err != nil {
				return
			}
			for i := range in.Messages {
				for m := &in.Messages[i]; len(m.Bytes) > 0; {
					if out.Full() {
						_, _ = e.batch.Write(out) // what is lost is missed by the other end
					}
					out.Add(m.From, nil, m.Next())
				}
			}
			_, _ = e.batch.Write(out)
			in.Release()
		}
	})
	b.Cleanup(func() {
		_ = e.conn.Close()
		done.Wait()
	})
}

// measure sends trains of benchTrain packets to at, one when all of the last have arrived at the other end.
func (e *benchEnd) measure(b *testing.B, other *benchEnd, train []byte, at netip.AddrPort) {
	b.Helper()
	out, size := batch.NewOutbox(), len(train)/benchTrain
	b.ReportAllocs()
	b.SetBytes(benchTrain * benchPacket)
	for b.Loop() {
		for offset := 0; offset < len(train); offset += size {
			out.Add(at, nil, train[offset:offset+size])
		}
		if lost, err := e.batch.Write(out); lost > 0 || err != nil {
			b.Fatal(lost, err)
		}
		if err := other.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			b.Fatal(err)
		}
		for got := 0; got < benchTrain; {
			in, err := other.batch.Receive()
			if err != nil {
				b.Fatalf("%d of %d packets arrived: %v", got, benchTrain, err)
			}
			for i := range in.Messages {
				m := &in.Messages[i]
				got += (len(m.Bytes) + m.Segment - 1) / m.Segment
			}
			in.Release()
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchTrain), "ns/packet")
}

package control

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"
)

// nameServer resolves every name to 127.0.0.1 until it is told not to answer.
type nameServer struct{ down atomic.Bool }

func (n *nameServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		if n.down.Load() {
			return nil, errors.New("no name server")
		}
		ours, theirs := net.Pipe()
		go func() { // ends when the resolver closes its end
			stream := &dns.Conn{Conn: ours}
			question, err := stream.ReadMsg()
			if err != nil {
				return
			}
			answer := new(dns.Msg)
			answer.SetReply(question)
			if q := question.Question[0]; q.Qtype == dns.TypeA {
				answer.Answer = append(answer.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.IPv4(127, 0, 0, 1)})
			}
			_ = stream.WriteMsg(answer) // the resolver may be gone
		}()
		return theirs, nil
	}}
}

func TestTheLastGoodAddressIsKept(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	names := &nameServer{}
	d := newDialer(names.resolver())
	dial := func(host string) error {
		conn, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort(host, port))
		if err == nil {
			err = conn.Close()
		}
		return err
	}
	if err := dial("control.example"); err != nil {
		t.Fatal(err)
	}
	names.down.Store(true)
	if err := dial("control.example"); err != nil {
		t.Error("without name servers:", err)
	}
	if err := dial("other.example"); err == nil || !strings.Contains(err.Error(), "other.example") {
		t.Errorf("a name that was never resolved: %v", err)
	}
}

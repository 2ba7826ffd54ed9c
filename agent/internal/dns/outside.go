package dns

import (
	"context"
	"net"

	"github.com/miekg/dns"
)

// DialOutside returns a connection as to a name server that is asked over TCP
// (RFC 1035, section 4.2.2). What is asked there is asked of the servers that the
// machine had before, whatever the network says: the agent must find its control
// plane when the servers of the network can only be reached through it. It is
// meant for Dial of a net.Resolver. After Close it returns an error.
func (r *Resolver) DialOutside(context.Context) (net.Conn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, errClosed
	}
	ours, theirs := net.Pipe()
	r.outsiders.Go(func() { r.serveOutside(ours) })
	return theirs, nil
}

// serveOutside answers until the other end is closed, or the resolver.
func (r *Resolver) serveOutside(conn net.Conn) {
	stream := &dns.Conn{Conn: conn}
	defer func() { _ = conn.Close() }() // of a pipe
	ended := make(chan struct{})
	defer close(ended)
	r.outsiders.Go(func() {
		select {
		case <-ended:
		case <-r.outside.closing:
			_ = conn.Close() // of a pipe
		}
	})
	for {
		question, err := stream.ReadMsg()
		if err != nil || len(question.Question) != 1 {
			return
		}
		answer := new(dns.Msg)
		answer.SetRcode(question, dns.RcodeServerFailure)
		if found, err := r.outside.find(context.Background(), r.others(), question.Copy()); err == nil {
			answer.Rcode, answer.Answer, answer.Ns = found.Rcode, found.Answer, found.Ns
			answer.RecursionAvailable = true
		} else {
			r.logger.Debug("no former name server answers", "error", err)
		}
		if stream.WriteMsg(answer) != nil {
			return
		}
	}
}

// others returns the former servers, less this resolver.
func (r *Resolver) others() []Server {
	if r.outside.exchanger.dial == nil {
		return nil
	}
	return r.zone.Load().guide.without(r.former())
}

package dns

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// An upstream is a name server on this machine, over any transport.
type upstream struct {
	server Server
	answer func(question *dns.Msg) *dns.Msg // nil answers are not sent

	mu    sync.Mutex // guards asked
	asked []*dns.Msg
}

// respond makes the answer and notes the question.
func (u *upstream) respond(question *dns.Msg) *dns.Msg {
	u.mu.Lock()
	u.asked = append(u.asked, question.Copy())
	u.mu.Unlock()
	return u.answer(question)
}

// questions returns how many questions came.
func (u *upstream) questions() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.asked)
}

// first returns the first question.
func (u *upstream) first() *dns.Msg {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.asked[0].Copy()
}

func (u *upstream) ServeDNS(w dns.ResponseWriter, question *dns.Msg) {
	if m := u.respond(question); m != nil {
		_ = w.WriteMsg(m) // who asked may be gone
	}
}

// ServeHTTP answers as RFC 8484 says.
func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	question := new(dns.Msg)
	if err != nil || question.Unpack(raw) != nil || r.URL.Path != dohPath || r.Header.Get("Content-Type") != dohType || question.Id != 0 {
		http.Error(w, "no question", http.StatusBadRequest)
		return
	}
	packed, err := u.respond(question).Pack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", dohType+"; charset=utf-8") // as some servers say, without meaning
	_, _ = w.Write(packed)                                    // who asked may be gone
}

// roots trusts the certificate of every upstream.
var roots, certificate = selfSigned()

func selfSigned() (*tls.Config, tls.Certificate) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"dns.example"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// listen starts an upstream; UDP and TCP have the same port.
func listen(t *testing.T, over Transport, answer func(*dns.Msg) *dns.Msg) *upstream {
	t.Helper()
	u := &upstream{answer: answer}
	config := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{"dot"}}
	if over == HTTPS {
		web := httptest.NewUnstartedServer(u)
		web.TLS, web.EnableHTTP2 = config, true
		config.NextProtos = nil
		web.StartTLS()
		t.Cleanup(web.Close)
		u.server = Server{Addr: netip.MustParseAddrPort(web.Listener.Addr().String()), Over: HTTPS}
		return u
	}
	streams, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u.server = Server{Addr: netip.MustParseAddrPort(streams.Addr().String()), Over: over}
	if over == TLS {
		streams = tls.NewListener(streams, config)
	}
	parts := []*dns.Server{{Listener: streams, Handler: u}}
	if over == UDP {
		packets, err := net.ListenPacket("udp", streams.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, &dns.Server{PacketConn: packets, Handler: u})
	}
	for _, part := range parts {
		started := make(chan struct{})
		part.NotifyStartedFunc = func() { close(started) }
		ended := make(chan struct{})
		go func() { defer close(ended); _ = part.ActivateAndServe() }() // a server that does not run fails the test
		<-started
		t.Cleanup(func() { _ = part.Shutdown(); <-ended })
	}
	return u
}

// says answers every question about addresses with one.
func says(addr string, ttl uint32) func(*dns.Msg) *dns.Msg {
	return func(question *dns.Msg) *dns.Msg {
		m := new(dns.Msg)
		m.SetReply(question)
		if q := question.Question[0]; q.Qtype == dns.TypeA {
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}, A: net.ParseIP(addr)})
		}
		return m
	}
}

// fails answers every question with a code and no record.
func fails(code int) func(*dns.Msg) *dns.Msg {
	return func(question *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(question, code) }
}

// silent answers nothing.
func silent(*dns.Msg) *dns.Msg { return nil }

// forwarding makes a resolver with groups and former servers.
func forwarding(t *testing.T, config Config, former ...Server) *Resolver {
	t.Helper()
	r, err := New(Options{
		Logger: slog.New(slog.DiscardHandler), Network: newLoopback(), TLS: roots,
		Inside: HostNetwork{}.Dial, Outside: HostNetwork{}.Dial, Former: func() []Server { return former },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := r.Set(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	return r
}

// ask asks for an address and returns the code and the addresses.
func ask(ctx context.Context, r *Resolver, name string, kind uint16) (*dns.Msg, []string) {
	answer := r.Answer(ctx, new(dns.Msg).SetQuestion(name, kind))
	var addrs []string
	for _, record := range answer.Answer {
		switch record := record.(type) {
		case *dns.A:
			addrs = append(addrs, record.A.String())
		case *dns.AAAA:
			addrs = append(addrs, record.AAAA.String())
		}
	}
	return answer, addrs
}

package server

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v2"

	"github.com/wattlenet/wattle/internal/exposition"
)

// A relay that stops tells its clients, takes nobody new, carries data on, and
// ends as soon as the last one has left.
func TestDrain(t *testing.T) {
	relay, err := New(Config{
		Secret: testSecret, Listen: []string{"127.0.0.1:0"}, RelayAddress: netip.MustParseAddr("127.0.0.1"),
		Drain: time.Minute, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- relay.Run(ctx) }()
	clients := []*bareClient{bare(t, relay, "udp", alice), bare(t, relay, "tcp", bob)}
	a, b := clients[0], clients[1]
	a.mustBind(0x4000, b.relayed)
	b.mustBind(0x4000, a.relayed)
	cancel()
	for _, c := range clients {
		m := &stun.Message{Raw: c.receive()}
		if err := m.Decode(); err != nil || m.Type != stun.NewType(stun.MethodBinding, stun.ClassIndication) {
			t.Fatalf("a client is told %s (%v), want a Binding indication", m, err)
		}
		if got := codeOf(c.ask(stun.MethodRefresh)); got != stun.CodeInsufficientCapacity {
			t.Errorf("refresh: %d, want 508", got)
		}
	}
	if _, err := connect(t, relay, "udp", credentialOf(alice)).Allocate(); err == nil || !strings.Contains(err.Error(), "508") {
		t.Errorf("a new allocation: %v, want 508", err)
	}
	a.send(0x4000, []byte("still"))
	b.expectFrame(0x4000, []byte("still"))
	for _, c := range clients {
		if got := codeOf(c.ask(stun.MethodRefresh, stun.RawAttribute{Type: stun.AttrLifetime, Value: make([]byte, 4)})); got != 0 {
			t.Errorf("leaving: %d", got)
		}
	}
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("the relay waits although everybody has left")
	}
}

// codeOf returns the code of a refusal, 0 for success.
func codeOf(answer *stun.Message) stun.ErrorCode {
	var code stun.ErrorCodeAttribute
	_ = code.GetFrom(answer) // success has none
	return code.Code
}

// metricsOf is what the relay tells Prometheus.
func metricsOf(relay *Server) string {
	var text exposition.Text
	relay.Expose(&text)
	return text.String()
}

func TestMetrics(t *testing.T) {
	relay := startRelay(t, nil)
	bare(t, relay, "udp", alice)
	text := metricsOf(relay)
	for _, line := range []string{
		"# TYPE wattle_relay_allocations gauge", "wattle_relay_allocations 1", `wattle_relay_refused_total{reason="account_channels"} 0`,
		`wattle_relay_dropped_packets_total{reason="peer_bandwidth"} 0`, `wattle_relay_refused_total{reason="permissions"} 0`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %q in\n%s", line, text)
		}
	}
	for _, secret := range []string{alice.Account, alice.Peer} {
		if strings.Contains(text, secret) {
			t.Errorf("the metrics name %s", secret)
		}
	}
}

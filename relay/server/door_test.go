package server

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What speaks neither TURN nor WebSocket is answered as HTTP is, and costs no
// allocation.
func TestDoorAnswersOrdinaryRequests(t *testing.T) {
	relay := startRelay(t, nil)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: testRoots(t), ServerName: "relay.test"}}}
	t.Cleanup(client.CloseIdleConnections)
	for path, want := range map[string]int{WebSocketPath: http.StatusUpgradeRequired, "/": http.StatusNotFound} {
		answer, err := client.Get("https://" + relay.TLSAddrs()[0].String() + path)
		if err != nil {
			t.Fatal(err)
		}
		if err := answer.Body.Close(); err != nil {
			t.Error(err)
		}
		if answer.StatusCode != want {
			t.Errorf("%s: %s, want %d", path, answer.Status, want)
		}
	}
}

// A browser page of another origin gets no connection.
func TestForeignOriginIsRefused(t *testing.T) {
	relay := startRelay(t, nil)
	conn, err := tls.Dial("tcp", relay.TLSAddrs()[0].String(), &tls.Config{RootCAs: testRoots(t), ServerName: "relay.test"})
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, conn)
	_, err = io.WriteString(conn, "GET "+WebSocketPath+" HTTP/1.1\r\nHost: relay.test\r\nOrigin: https://elsewhere.test\r\n"+
		"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 12)
	if _, err := io.ReadFull(conn, head); err != nil || !strings.HasPrefix(string(head), "HTTP/1.1 403") {
		t.Errorf("answer %q, %v", head, err)
	}
}

// A relay stops although strangers hold connections in every state.
func TestDoorClosesOnStrangers(t *testing.T) {
	relay, err := New(Config{
		Secret: testSecret, Listen: []string{"127.0.0.1:0"}, ListenTLS: []string{"127.0.0.1:0"}, TLS: testTLS(t), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- relay.Run(ctx) }()
	silent, err := net.Dial("tcp", relay.TLSAddrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, silent)
	for _, network := range []string{"tls", "tls without ALPN", "websocket"} {
		conn := dialStream(t, relay, network)
		t.Cleanup(func() { _ = conn.Close() }) // the relay has closed it
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("the relay waits for strangers")
	}
}

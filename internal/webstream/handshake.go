package webstream

import (
	"context"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // the handshake of RFC 6455 is made with it; it protects nothing
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
)

const (
	// acceptGUID makes the answer to a key (RFC 6455, section 1.3).
	acceptGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
	// version is the only one (section 4.1).
	version = "13"
	// keySize is the length of a key in bytes (section 4.1).
	keySize = 16
)

// Dial opens a WebSocket at a wss: URL that speaks protocol, over a connection
// that carrier makes, with its proxy and its settings of TLS. Carrier must not
// offer HTTP/2. ctx bounds the handshake, not the life of the connection.
func Dial(ctx context.Context, carrier *http.Transport, address, protocol string) (*Conn, error) {
	target, err := url.Parse(address)
	if err != nil || target.Scheme != "wss" {
		return nil, fmt.Errorf("websocket: %q is not a wss: URL", address)
	}
	target.Scheme = "https"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("websocket: %w", err)
	}
	nonce := make([]byte, keySize)
	_, _ = rand.Read(nonce) // never fails
	key := base64.StdEncoding.EncodeToString(nonce)
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", "websocket")
	request.Header.Set("Sec-WebSocket-Version", version)
	request.Header.Set("Sec-WebSocket-Key", key)
	request.Header.Set("Sec-WebSocket-Protocol", protocol)

	var below net.Conn
	trace := &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) { below = got.Conn }}
	answer, err := carrier.RoundTrip(request.WithContext(httptrace.WithClientTrace(ctx, trace)))
	if err != nil {
		return nil, fmt.Errorf("websocket: %w", err)
	}
	if err := checkAnswer(answer, key, protocol); err != nil {
		return nil, errors.Join(err, answer.Body.Close())
	}
	return newConn(below, answer.Body.(io.ReadWriteCloser), nil, true), nil // that of a 101 is one
}

// checkAnswer does what section 4.1 asks of a client.
func checkAnswer(answer *http.Response, key, protocol string) error {
	switch {
	case answer.StatusCode != http.StatusSwitchingProtocols:
		return fmt.Errorf("websocket: the server answers %s", answer.Status)
	case !has(answer.Header, "Upgrade", "websocket"), !has(answer.Header, "Connection", "upgrade"),
		answer.Header.Get("Sec-WebSocket-Accept") != acceptOf(key):
		return errors.New("websocket: the answer is not that of a WebSocket server")
	case answer.Header.Get("Sec-WebSocket-Protocol") != protocol, answer.Header.Get("Sec-WebSocket-Extensions") != "":
		return fmt.Errorf("websocket: the server does not speak %q", protocol)
	}
	return nil
}

// acceptOf is Sec-WebSocket-Accept (section 4.2.2).
func acceptOf(key string) string {
	sum := sha1.Sum([]byte(key + acceptGUID)) //nolint:gosec // as above
	return base64.StdEncoding.EncodeToString(sum[:])
}

// has reports whether a header lists a token, in any case.
func has(h http.Header, name, token string) bool {
	for _, line := range h.Values(name) {
		for item := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(item), token) {
				return true
			}
		}
	}
	return false
}

// Accept makes a request a WebSocket that speaks protocol. When it returns an
// error the request has been answered: 426 when it asks for something else, 400
// when it asks wrongly, 403 when a page of another origin asks.
func Accept(w http.ResponseWriter, r *http.Request, protocol string) (*Conn, error) {
	if status, err := checkRequest(r, protocol); err != nil {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Sec-WebSocket-Version", version)
		http.Error(w, err.Error(), status)
		return nil, err
	}
	below, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		err = fmt.Errorf("websocket: %w", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return nil, err
	}
	_, err = io.WriteString(below, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Accept: "+acceptOf(r.Header.Get("Sec-WebSocket-Key"))+"\r\nSec-WebSocket-Protocol: "+protocol+"\r\n\r\n")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("websocket: %w", err), below.Close())
	}
	early, err := buffered.Reader.Peek(buffered.Reader.Buffered())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("websocket: %w", err), below.Close())
	}
	return newConn(below, below, append([]byte(nil), early...), false), nil
}

// checkRequest does what section 4.2.1 asks of a server.
func checkRequest(r *http.Request, protocol string) (status int, err error) {
	key, failure := base64.StdEncoding.DecodeString(r.Header.Get("Sec-WebSocket-Key"))
	switch {
	case r.Method != http.MethodGet, r.ProtoMajor != 1, !has(r.Header, "Connection", "upgrade"), !has(r.Header, "Upgrade", "websocket"):
		return http.StatusUpgradeRequired, errors.New("websocket: a WebSocket is served here, and nothing else")
	case r.Header.Get("Sec-WebSocket-Version") != version:
		return http.StatusUpgradeRequired, errors.New("websocket: version 13 is served here, and no other")
	case !ownOrigin(r):
		return http.StatusForbidden, errors.New("websocket: pages of other origins are not served")
	case failure != nil || len(key) != keySize:
		return http.StatusBadRequest, errors.New("websocket: Sec-WebSocket-Key is not 16 bytes in base64")
	case !has(r.Header, "Sec-WebSocket-Protocol", protocol):
		return http.StatusBadRequest, fmt.Errorf("websocket: %q is spoken here, and nothing else", protocol)
	}
	return 0, nil
}

// ownOrigin reports whether the request comes from no page, or from one of this
// host (section 10.2).
func ownOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	from, err := url.Parse(origin)
	return err == nil && strings.EqualFold(from.Host, r.Host)
}

package forward

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"
)

// web is the HTTP side of the proxy: CONNECT, and requests for http: addresses.
type web struct {
	s        *service
	server   *http.Server
	handover *handover
	running  sync.WaitGroup
}

func newWeb(s *service) *web {
	w := &web{s: s, handover: &handover{at: net.TCPAddrFromAddrPort(s.at), next: make(chan net.Conn), ended: make(chan struct{})}}
	transport := &http.Transport{DialContext: s.reach}
	plain := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite:   func(*httputil.ProxyRequest) {}, // as the client wrote it, without the headers of this hop
		ErrorLog:  log.New(io.Discard, "", 0),
		ErrorHandler: func(out http.ResponseWriter, _ *http.Request, err error) {
			http.Error(out, err.Error(), statusOf(err))
		},
	}
	w.server = &http.Server{
		ReadHeaderTimeout: greetingTimeout,
		ErrorLog:          log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(out http.ResponseWriter, request *http.Request) {
			switch {
			case request.Method == http.MethodConnect:
				w.connect(out, request)
			case request.URL.Scheme == "http" && request.URL.Host != "":
				plain.ServeHTTP(out, request)
			default:
				http.Error(out, "this is a proxy into the network; name it in http_proxy or ALL_PROXY", http.StatusBadRequest)
			}
		}),
	}
	w.running.Go(func() {
		_ = w.server.Serve(w.handover) // ends with close
		transport.CloseIdleConnections()
	})
	return w
}

// serve answers on a connection and returns when that has ended.
func (w *web) serve(connection *begun) {
	over := &watched{begun: connection, closed: make(chan struct{})}
	select {
	case w.handover.next <- over:
		<-over.closed
	case <-w.handover.ended:
	}
}

func (w *web) close() {
	_ = w.server.Close() // closes what is open; its listener cannot fail
	w.running.Wait()
}

// connect answers CONNECT with a tunnel.
func (w *web) connect(out http.ResponseWriter, request *http.Request) {
	target, err := w.s.reach(request.Context(), "tcp", request.Host)
	if err != nil {
		http.Error(out, err.Error(), statusOf(err))
		return
	}
	client, buffered, err := http.NewResponseController(out).Hijack()
	if err != nil {
		_ = target.Close() // unused
		http.Error(out, err.Error(), http.StatusInternalServerError)
		return
	}
	defer func() { _ = client.Close() }() // both directions have ended
	_, err = io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n")
	if err = errors.Join(err, client.SetDeadline(time.Time{})); err != nil {
		_ = target.Close() // unused
		return
	}
	w.s.join(client, rest(buffered.Reader, client), target)
}

// rest reads what the server has read ahead, then the connection.
func rest(ahead *bufio.Reader, connection net.Conn) io.Reader {
	first, _ := ahead.Peek(ahead.Buffered()) // what is buffered is there
	if len(first) == 0 {
		return connection
	}
	return ahead
}

// statusOf says why in the words of HTTP.
func statusOf(err error) int {
	switch {
	case errors.Is(err, ErrDenied) || errors.Is(err, ErrElsewhere):
		return http.StatusForbidden
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusGatewayTimeout
	}
	return http.StatusBadGateway
}

// handover is a listener whose connections come from another one.
type handover struct {
	at    net.Addr
	next  chan net.Conn
	once  sync.Once
	ended chan struct{}
}

func (h *handover) Accept() (net.Conn, error) {
	select {
	case connection := <-h.next:
		return connection, nil
	case <-h.ended:
		return nil, net.ErrClosed
	}
}

func (h *handover) Close() error {
	h.once.Do(func() { close(h.ended) })
	return nil
}

func (h *handover) Addr() net.Addr { return h.at }

// watched tells when it was closed.
type watched struct {
	*begun
	once   sync.Once
	closed chan struct{}
}

func (w *watched) Close() error {
	err := w.begun.Close()
	w.once.Do(func() { close(w.closed) })
	return err
}

package start

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	relay "github.com/wattlenet/wattle/relay/server"
)

// Settings of the HTTP server. An agent keeps one response open for days, so
// there is no overall deadline: the handlers set one for each body, answer and
// line.
const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 16 << 10

	// drainTime is how long running requests may take when the server stops.
	drainTime = 10 * time.Second
)

// newHTTPServer returns the server of the API and the agents. Without a TLS
// configuration it speaks plain HTTP. With a turn function it is given the
// connections whose clients ask for TURN (RFC 7443, section 4), until they end.
func newHTTPServer(handler http.Handler, secure *tls.Config, turn func(net.Conn), logger *slog.Logger) *http.Server {
	server := &http.Server{
		Handler:           handler,
		TLSConfig:         secure,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		// What a stranger's broken handshake says is of use to a searcher only.
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
	if secure == nil || turn == nil {
		return server
	}
	server.TLSConfig = secure.Clone()
	server.TLSConfig.NextProtos = append(slices.Clip(secure.NextProtos), relay.ALPN)
	server.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){
		relay.ALPN: func(_ *http.Server, conn *tls.Conn, _ http.Handler) { turn(conn) },
	}
	// Another protocol would turn HTTP/2 off.
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(true)
	return server
}

// serveHTTP serves until ctx is done. Then it calls leave, which ends the
// streams, and gives the other requests some time to finish.
func serveHTTP(ctx context.Context, server *http.Server, listener net.Listener, leave func()) error {
	served := make(chan error, 1)
	go func() {
		if server.TLSConfig != nil {
			served <- server.ServeTLS(listener, "", "") // the configuration has the certificate
			return
		}
		served <- server.Serve(listener)
	}()
	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	leave()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	err := server.Shutdown(drain)
	if err != nil {
		err = errors.Join(err, server.Close())
	}
	if served := <-served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if err != nil {
		return fmt.Errorf("stop serving: %w", err)
	}
	return nil
}

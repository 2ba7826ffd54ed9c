package exposition

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/pflag"
)

// patience bounds a request for the metrics.
const patience = 10 * time.Second

// Flag adds --metrics-listen to a command line.
func Flag(flags *pflag.FlagSet, address *string) {
	flags.StringVar(address, "metrics-listen", "", "address of Prometheus metrics over plain HTTP at /metrics, such as 127.0.0.1:9478 (default: none)")
}

// A Listener serves metrics over plain HTTP at /metrics. A nil one serves
// nothing, for programs that were given no address.
type Listener struct {
	listener net.Listener
	web      *http.Server
}

// Listen opens address for the metrics of sources; nothing is served before
// Run. It returns nil for an empty address.
func Listen(ctx context.Context, address string, sources ...Source) (*Listener, error) {
	if address == "" {
		return nil, nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for requests for metrics on %s: %w; choose another address with --metrics-listen", address, err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", Handler(sources...))
	return &Listener{listener, &http.Server{Handler: mux, ReadHeaderTimeout: patience, WriteTimeout: patience}}, nil
}

// Addr returns the address that is listened on.
func (l *Listener) Addr() net.Addr { return l.listener.Addr() }

// Run serves until ctx is done.
func (l *Listener) Run(ctx context.Context) error {
	if l == nil {
		return nil
	}
	defer context.AfterFunc(ctx, func() { _ = l.web.Close() })() // requests only read counters
	if err := l.web.Serve(l.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}

// Close releases the address of a listener whose Run was not called. After Run
// it does nothing.
func (l *Listener) Close() error {
	if l == nil {
		return nil
	}
	if err := l.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("stop serving metrics: %w", err)
	}
	return nil
}

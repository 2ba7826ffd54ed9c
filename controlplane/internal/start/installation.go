package start

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/certificate"
	"github.com/wattlenet/wattle/controlplane/internal/seal/token"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/exposition"
	"github.com/wattlenet/wattle/internal/proxied"
	relay "github.com/wattlenet/wattle/relay/server"
)

// An Installation is a control plane with its listeners, ready to run.
type Installation struct {
	config    Config
	folder    *dataFolder
	listener  net.Listener
	proxies   proxied.Trusted
	public    *url.URL
	pin       string // empty when clients need none
	authority []byte // certificate of the installation's own authority in PEM; nil without one
	setup     token.Secret
	tls       *tls.Config
	given     *certificate.Given // nil with an authority of its own
	*Plane
	relay   *relay.Server        // nil without an embedded relay
	offers  []relayOffer         // of every relay, the embedded one first
	metrics *exposition.Listener // nil without an address for them
}

// Open prepares an installation: it locks the data folder, opens the listener,
// the keys and the store. The caller runs or closes it. Nothing is served yet.
func Open(ctx context.Context, config Config) (*Installation, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	i := &Installation{config: config}
	if err := i.open(ctx); err != nil {
		return nil, errors.Join(err, i.Close())
	}
	return i, nil
}

func (i *Installation) open(ctx context.Context) (err error) {
	// What is printed must hold in another folder too.
	if i.config.DataDir, err = filepath.Abs(i.config.DataDir); err != nil {
		return fmt.Errorf("find the data folder: %w", err)
	}
	if i.folder, err = openFolder(i.config.DataDir); err != nil {
		return err
	}
	if err := i.listen(ctx); err != nil {
		return err
	}
	if err := i.prove(); err != nil {
		return err
	}
	issuer, err := i.folder.issuer(i.public)
	if err != nil {
		return err
	}
	if err := i.folder.touch(databaseFile); err != nil {
		return err
	}
	i.Plane, err = NewPlane(ctx, PlaneConfig{
		Database:    i.folder.file(databaseFile),
		MasterKey:   i.folder.file(masterKeyFile),
		Issuer:      issuer,
		PublicURL:   i.public.String(),
		CAPin:       i.pin,
		Relays:      i.relaysFor,
		SetupToken:  i.guardSetup(),
		Rate:        i.config.Rate,
		GeoDatabase: i.config.GeoDatabase,
		Logger:      i.config.Logger,
	})
	if err != nil {
		return err
	}
	if err := i.openRelays(ctx); err != nil {
		return err
	}
	return i.openMetrics(ctx)
}

func (i *Installation) openMetrics(ctx context.Context) (err error) {
	sources := []exposition.Source{i.Expose}
	if i.relay != nil {
		sources = append(sources, i.relay.Expose)
	}
	i.metrics, err = exposition.Listen(ctx, i.config.MetricsListen, sources...)
	return err
}

// openRelays opens the embedded relay and notes those that run elsewhere.
func (i *Installation) openRelays(ctx context.Context) error {
	separate, err := separateRelays(i.config)
	if err != nil {
		return err
	}
	if i.config.Relay {
		secret, err := i.State.Secret(ctx, relaySecretName)
		if err != nil {
			return fmt.Errorf("read the secret of the relay: %w", err)
		}
		server, offer, err := newEmbeddedRelay(i.config, i.public, i.listener.Addr().String(), secret)
		if err != nil {
			return err
		}
		if i.tls != nil {
			offer = offer.withHTTPS(i.public, i.pin)
		}
		i.relay, i.offers = server, append(i.offers, offer)
	}
	i.offers = append(i.offers, separate...)
	return nil
}

// listen opens the listener and finds out under which URL it is reached.
func (i *Installation) listen(ctx context.Context) error {
	var configuration net.ListenConfig
	listener, err := configuration.Listen(ctx, "tcp", i.config.Listen)
	if err != nil {
		return listenError("--listen", i.config.Listen, err)
	}
	if i.proxies, err = proxied.Parse(i.config.TrustedProxies); err != nil {
		return errors.Join(err, listener.Close()) // Config.check saw to it that there is none
	}
	i.listener = i.proxies.Listener(listener)
	address, err := netip.ParseAddrPort(listener.Addr().String())
	if err != nil {
		return fmt.Errorf("read the listening address: %w", err)
	}
	i.public, err = i.config.publicURL(address)
	return err
}

// guardSetup makes the token that setting up asks for. On loopback only who is
// on this machine can come first, and nothing is asked for.
func (i *Installation) guardSetup() *[sha256.Size]byte {
	if host, _, err := net.SplitHostPort(i.listener.Addr().String()); err == nil && isLoopback(host) {
		return nil
	}
	i.setup = token.New(auth.SetupTokenPrefix)
	digest := i.setup.Sum()
	return &digest
}

// prove sets up TLS by the given certificate or by the installation's own
// authority.
func (i *Installation) prove() error {
	if i.config.plainHTTP() {
		return nil
	}
	if i.config.TLSCert != "" {
		given, err := certificate.Files(i.config.TLSCert, i.config.TLSKey, i.config.Logger)
		if err != nil {
			return err
		}
		i.given, i.tls, i.pin = given, given.TLS(), given.Pin()
		return nil
	}
	authority, err := certificate.OpenAuthority(i.folder.path)
	if err != nil {
		return err
	}
	issued, err := authority.Issue(certificateNames(i.public, i.config.Listen), i.config.Logger)
	if err != nil {
		return err
	}
	i.tls, i.pin, i.authority = issued.TLS(), issued.Pin(), authority.PEM()
	return nil
}

func (i *Installation) relaysFor(accountID, peerID string) []api.RelayServer {
	relays := make([]api.RelayServer, len(i.offers))
	for n, offer := range i.offers {
		relays[n] = offer.forPeer(accountID, peerID)
	}
	return relays
}

// Run serves until ctx is done and stops in order: streams first, then
// requests, then the relay, the metrics and the store.
func (i *Installation) Run(ctx context.Context) error {
	var turn func(net.Conn)
	leave := i.Leave
	if i.relay != nil {
		turn = i.relay.ServeStream
		leave = func() { i.Leave(); i.relay.EndStreams() }
	}
	server := newHTTPServer(i.proxies.Handler(besideRelay(i.Handler, i.relay)), i.tls, turn, i.config.Logger)
	group, running := errgroup.WithContext(ctx)
	// What serves requests outlives the requests: it ends after the server.
	behind, stopBehind := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() error { return i.Plane.Run(behind) })
	group.Go(func() error { return i.metrics.Run(behind) })
	if i.given != nil {
		group.Go(func() error { i.given.Run(running); return nil })
	}
	if i.relay != nil {
		group.Go(func() error { return i.relay.Run(behind) })
	}
	group.Go(func() error {
		defer stopBehind()
		return serveHTTP(running, server, i.listener, leave)
	})
	return errors.Join(group.Wait(), i.Close())
}

// Close releases everything. After Run it does nothing.
func (i *Installation) Close() error {
	var faults []error
	if i.listener != nil {
		if err := i.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			faults = append(faults, err)
		}
	}
	faults = append(faults, i.metrics.Close())
	if i.relay != nil {
		faults = append(faults, i.relay.Close())
	}
	if i.Plane != nil {
		faults = append(faults, i.Plane.Close())
	}
	if i.folder != nil {
		faults = append(faults, i.folder.Close())
	}
	i.listener, i.metrics, i.relay, i.Plane, i.folder = nil, nil, nil, nil, nil
	return errors.Join(faults...)
}

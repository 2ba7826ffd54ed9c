package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/wattlenet/wattle/internal/certfile"
	"github.com/wattlenet/wattle/internal/exposition"
	"github.com/wattlenet/wattle/internal/program"
	"github.com/wattlenet/wattle/internal/proxied"
	"github.com/wattlenet/wattle/relay/server"
)

// options are the flags as they were typed.
type options struct {
	listen       []string
	listenTLS    []string
	cert, key    string
	relayAddress string
	relayPorts   string
	secretFile   string
	secret       string
	peerNetworks []string
	privatePeers bool
	quotas       server.Quotas
	queues       int
	drain        time.Duration
	metrics      string
	proxies      []string
	log          program.Log
}

// newCommand builds the command line of wattle-relay.
func newCommand() *cobra.Command {
	var o options
	command := &cobra.Command{
		Use:   "wattle-relay",
		Short: "Relay packets of peers that cannot reach each other directly (STUN, TURN)",
		Args:  program.Arguments,
		RunE:  func(c *cobra.Command, _ []string) error { return run(c, &o) },
	}
	flags := command.Flags()
	flags.StringSliceVar(&o.listen, "listen", []string{":3478"}, "addresses to listen on, each over UDP and TCP")
	flags.StringSliceVar(&o.listenTLS, "listen-tls", nil, "addresses for TURN over TLS, over WebSocket and over UDP, such as :443")
	flags.StringVar(&o.cert, "tls-cert", "", "certificate chain in PEM for --listen-tls")
	flags.StringVar(&o.key, "tls-key", "", "key of --tls-cert in PEM")
	flags.StringVar(&o.relayAddress, "relay-address", "", "IPv4 address at which allocations are reached; needed behind a one-to-one NAT (default: the address of the default route)")
	flags.StringVar(&o.relayPorts, "relay-ports", "", "UDP ports of allocations, such as 49152-65535 (default: the system chooses)")
	flags.StringVar(&o.secretFile, "secret-file", "", "file with the secret that the control plane shares with its relays")
	flags.StringVar(&o.secret, "secret", "", "the secret itself; process lists show it, prefer --secret-file or WATTLE_SECRET")
	flags.StringSliceVar(&o.peerNetworks, "allow-peer-network", nil, "private network that may be relayed to, such as 10.20.0.0/16")
	flags.BoolVar(&o.privatePeers, "allow-private-peers", false, "relay to all private networks: for a relay within a LAN")
	o.quotas.Flags(flags, "")
	flags.IntVar(&o.queues, "queues", 0, "sockets that read each UDP port (default: one for each processor, 8 at most)")
	flags.DurationVar(&o.drain, "drain", 5*time.Second, "how long clients may take to move to another relay when this one is told to stop")
	exposition.Flag(flags, &o.metrics)
	proxied.Flag(flags, &o.proxies)
	o.log.Flags(flags)
	return command
}

func run(command *cobra.Command, o *options) error {
	logger, err := o.log.Logger(command.ErrOrStderr())
	if err != nil {
		return err
	}
	config, files, err := o.config(logger)
	if err != nil {
		return err
	}
	relay, err := server.New(config)
	if err != nil {
		return err
	}
	metrics, err := exposition.Listen(command.Context(), o.metrics, relay.Expose)
	if err != nil {
		return errors.Join(err, relay.Close())
	}
	group, running := errgroup.WithContext(command.Context())
	served, stop := context.WithCancel(context.WithoutCancel(running))
	group.Go(func() error { return metrics.Run(served) })
	if files != nil {
		group.Go(func() error { files.Run(served); return nil })
	}
	group.Go(func() error {
		defer stop() // while clients leave, the counters are still of use
		return relay.Run(running)
	})
	return group.Wait()
}

// config translates the flags, and returns the certificate, nil when no address
// needs one. Errors are usage errors but for files that cannot be read.
func (o *options) config(logger *slog.Logger) (server.Config, *certfile.Files, error) {
	config := server.Config{
		Listen:            o.listen,
		ListenUDP:         o.listenTLS,
		ListenTLS:         o.listenTLS,
		AllowPrivatePeers: o.privatePeers,
		Quotas:            o.quotas,
		Queues:            o.queues,
		Drain:             o.drain,
		Logger:            logger,
	}
	if err := o.translate(&config); err != nil {
		return config, nil, err
	}
	files, err := o.certificate(logger)
	if err != nil {
		return config, nil, err
	}
	if files != nil {
		config.TLS = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return files.Current(), nil
		}}
	}
	if err := config.Check(); err != nil {
		return config, nil, program.Usage("%w", err)
	}
	return config, files, nil
}

// translate reads the flags that are texts.
func (o *options) translate(config *server.Config) (err error) {
	for flag, addresses := range map[string][]string{"listen": o.listen, "listen-tls": o.listenTLS} {
		for _, address := range addresses {
			if err := checkAddress(address); err != nil {
				return program.Usage("--%s %q is not an address such as :3478: %w", flag, address, err)
			}
		}
	}
	if config.Secret, err = o.readSecret(config.Logger); err != nil {
		return err
	}
	if config.TrustedProxies, err = proxied.Parse(o.proxies); err != nil {
		return program.Usage("--trusted-proxies: %w", err)
	}
	if o.relayAddress != "" {
		if config.RelayAddress, err = netip.ParseAddr(o.relayAddress); err != nil {
			return program.Usage("--relay-address %q is not an IP address", o.relayAddress)
		}
	}
	if o.relayPorts != "" {
		if config.RelayPorts, err = parsePorts(o.relayPorts); err != nil {
			return program.Usage("--relay-ports %q: %w", o.relayPorts, err)
		}
	}
	for _, text := range o.peerNetworks {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return program.Usage("--allow-peer-network %q is not a network such as 10.20.0.0/16", text)
		}
		config.AllowedPeerNetworks = append(config.AllowedPeerNetworks, network.Masked())
	}
	return nil
}

// checkAddress reports what keeps a text from being an address to listen on.
func checkAddress(text string) error {
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return err
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q is not a port", port)
	}
	return nil
}

// certificate loads the certificate, nil when no address needs one.
func (o *options) certificate(logger *slog.Logger) (*certfile.Files, error) {
	if given := o.cert != "" && o.key != ""; given != (len(o.listenTLS) > 0) || given != (o.cert != "" || o.key != "") {
		return nil, program.Usage("--listen-tls, --tls-cert and --tls-key belong together; give all or none")
	}
	if len(o.listenTLS) == 0 {
		return nil, nil
	}
	return certfile.Open(o.cert, o.key, logger)
}

func (o *options) readSecret(logger *slog.Logger) (server.Secret, error) {
	switch {
	case o.secretFile != "" && o.secret != "":
		return nil, program.Usage("--secret and --secret-file are both given; keep one")
	case o.secretFile != "":
		return server.ReadSecret(o.secretFile, logger)
	case o.secret == "":
		return nil, program.Usage("the secret is missing: give --secret-file or WATTLE_SECRET")
	case len(o.secret) < server.MinSecret:
		return nil, program.Usage("the secret has %d bytes, it needs %d or more", len(o.secret), server.MinSecret)
	}
	return server.Secret(o.secret), nil
}

// parsePorts reads "49152-65535".
func parsePorts(text string) (server.PortRange, error) {
	low, high, found := strings.Cut(text, "-")
	if !found {
		return server.PortRange{}, errors.New("not of the form 49152-65535")
	}
	first, err := strconv.ParseUint(low, 10, 16)
	if err != nil {
		return server.PortRange{}, fmt.Errorf("%q is not a port", low)
	}
	last, err := strconv.ParseUint(high, 10, 16)
	if err != nil {
		return server.PortRange{}, fmt.Errorf("%q is not a port", high)
	}
	if first == 0 || last < first {
		return server.PortRange{}, errors.New("not an ascending range of ports above 0")
	}
	return server.PortRange{Min: uint16(first), Max: uint16(last)}, nil
}

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

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
		Args:  cobra.NoArgs,
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
	config, err := o.config()
	if err != nil {
		return err
	}
	config.Logger = logger
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
	group.Go(func() error {
		defer stop() // while clients leave, the counters are still of use
		return relay.Run(running)
	})
	return group.Wait()
}

// config translates the flags. Errors are usage errors but for a secret file
// that cannot be read.
func (o *options) config() (server.Config, error) {
	config := server.Config{
		Listen:            o.listen,
		ListenUDP:         o.listenTLS,
		ListenTLS:         o.listenTLS,
		AllowPrivatePeers: o.privatePeers,
		Quotas:            o.quotas,
		Queues:            o.queues,
		Drain:             o.drain,
	}
	var err error
	if config.Secret, err = o.readSecret(); err != nil {
		return server.Config{}, err
	}
	if config.TLS, err = o.tls(); err != nil {
		return server.Config{}, err
	}
	if config.TrustedProxies, err = proxied.Parse(o.proxies); err != nil {
		return server.Config{}, program.Usage("--trusted-proxies: %w", err)
	}
	if o.relayAddress != "" {
		if config.RelayAddress, err = netip.ParseAddr(o.relayAddress); err != nil {
			return server.Config{}, program.Usage("--relay-address %q is not an IP address", o.relayAddress)
		}
	}
	if o.relayPorts != "" {
		if config.RelayPorts, err = parsePorts(o.relayPorts); err != nil {
			return server.Config{}, program.Usage("--relay-ports %q: %w", o.relayPorts, err)
		}
	}
	for _, text := range o.peerNetworks {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return server.Config{}, program.Usage("--allow-peer-network %q is not a network such as 10.20.0.0/16", text)
		}
		config.AllowedPeerNetworks = append(config.AllowedPeerNetworks, network.Masked())
	}
	return config, nil
}

// tls loads the certificate, nil when no address needs one.
func (o *options) tls() (*tls.Config, error) {
	if given := o.cert != "" && o.key != ""; given != (len(o.listenTLS) > 0) || given != (o.cert != "" || o.key != "") {
		return nil, program.Usage("--listen-tls, --tls-cert and --tls-key belong together; give all or none")
	}
	if len(o.listenTLS) == 0 {
		return nil, nil
	}
	c := &certificate{cert: o.cert, key: o.key}
	if _, err := c.get(nil); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}, nil
}

func (o *options) readSecret() (server.Secret, error) {
	switch {
	case o.secretFile != "" && o.secret != "":
		return nil, program.Usage("--secret and --secret-file are both given; keep one")
	case o.secretFile != "":
		return server.ReadSecret(o.secretFile)
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
		return server.PortRange{}, err
	}
	last, err := strconv.ParseUint(high, 10, 16)
	if err != nil {
		return server.PortRange{}, err
	}
	if first == 0 || last < first {
		return server.PortRange{}, errors.New("not an ascending range of ports above 0")
	}
	return server.PortRange{Min: uint16(first), Max: uint16(last)}, nil
}

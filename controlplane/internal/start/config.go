// Package start brings a control plane up and takes it down again.
//
//	data folder ─> store ─> state ─> owner (once) ─> certificate ─> listeners ─> serve
//
// Whatever can go wrong before the first request is told in one sentence with
// its cause and the next step.
package start

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/spf13/pflag"

	"github.com/wattlenet/wattle/internal/exposition"
	"github.com/wattlenet/wattle/internal/program"
	"github.com/wattlenet/wattle/internal/proxied"
	relay "github.com/wattlenet/wattle/relay/server"
)

// Config is what an installation is told when it starts. The zero value is not
// useful; Flags sets the defaults.
type Config struct {
	// DataDir holds everything that must survive: database, keys, authority.
	DataDir string

	// Listen is the address of the API and of the agents, such as :8443.
	Listen string

	// PublicURL is where clients find this server. Empty means the listening
	// address, or the address of the default route if that is every address.
	PublicURL string

	// TLSCert and TLSKey are files in PEM. Both empty: the installation has
	// an authority of its own.
	TLSCert, TLSKey string

	// InsecureHTTP serves without TLS on any address. Without it plain HTTP
	// is possible on loopback only, with a PublicURL that begins with http:.
	InsecureHTTP bool

	// OwnerEmail names the owner that the first start makes.
	OwnerEmail string

	// Credentials is the profile that the first start writes. Empty means the
	// usual place (sdk.ProfilePath).
	Credentials string

	// NewToken makes another token for the owner and writes the profile anew.
	NewToken bool

	// Relay starts the embedded relay.
	Relay bool

	// RelayListen is the address of the relay, UDP and TCP.
	RelayListen string

	// RelayAddress is what agents are told to reach the relay at. Empty means
	// the host of the public URL.
	RelayAddress string

	// SeparateRelays are relays that run elsewhere: wattle-relay, or any TURN
	// server that takes TURN REST credentials. Each is host:port, or
	// host:port/port for a wattle-relay with --listen-tls, and may have its region
	// in front: region=host:port.
	SeparateRelays []string

	// RelayRegion says where the embedded relay stands. Empty for nothing.
	RelayRegion string

	// RelayQuotas bound what agents hold and spend at the embedded relay.
	RelayQuotas relay.Quotas

	// RelaySecretFile holds the secret that the separate relays share with the
	// control plane. Required when there are any.
	RelaySecretFile string

	// GeoDatabase is a file in the MaxMind format that tells where machines are.
	// Empty for none.
	GeoDatabase string

	// Rate is how many requests a second one caller may make on average; 0
	// for the default, negative for no limit.
	Rate float64

	// TrustedProxies are the networks of reverse proxies that tell the addresses
	// of their clients; see package proxied.
	TrustedProxies []string

	// MetricsListen is the address of Prometheus metrics over plain HTTP. Empty
	// for none.
	MetricsListen string

	// Logger is required.
	Logger *slog.Logger
}

// Flags adds the flags of up, serve and setup to a command line.
func (c *Config) Flags(flags *pflag.FlagSet) {
	flags.StringVar(&c.DataDir, "data-dir", "/var/lib/wattle-server", "folder of the database and the keys")
	flags.StringVar(&c.Listen, "listen", ":8443", "address of the API and of the agents")
	flags.StringVar(&c.PublicURL, "public-url", "", "where clients find this server, such as https://wattle.example:8443 (default: this machine's address)")
	flags.StringVar(&c.TLSCert, "tls-cert", "", "certificate chain in PEM (default: an authority of its own)")
	flags.StringVar(&c.TLSKey, "tls-key", "", "key of --tls-cert in PEM")
	flags.BoolVar(&c.InsecureHTTP, "insecure-http", false, "serve without TLS: whoever is on the path reads every token")
	flags.BoolVar(&c.Relay, "relay", true, "run the embedded relay (STUN and TURN)")
	flags.StringVar(&c.RelayListen, "relay-listen", ":3478", "address of the relay, UDP and TCP")
	flags.StringVar(&c.RelayAddress, "relay-address", "", "address at which agents reach the relay (default: the host of the public URL)")
	flags.StringVar(&c.RelayRegion, "relay-region", "", "where the relay stands, for status and netcheck, such as frankfurt")
	c.RelayQuotas.Flags(flags, "relay-")
	flags.StringSliceVar(&c.SeparateRelays, "separate-relay", nil, "address of a wattle-relay that runs elsewhere, such as relay.example:3478, or frankfurt=relay.example:3478/443 with its region and its port for TLS; may be repeated")
	flags.StringVar(&c.RelaySecretFile, "relay-secret-file", "", "file with the secret that the separate relays share with this server (their --secret-file)")
	flags.StringVar(&c.GeoDatabase, "geo-database", "", "file in the MaxMind format (.mmdb) that tells countries or cities of addresses, for posture checks (default: none, and nobody meets a location check)")
	flags.Float64Var(&c.Rate, "rate-limit", 0, "requests per second and caller on average; 0 for the default, negative for no limit")
	proxied.Flag(flags, &c.TrustedProxies)
	exposition.Flag(flags, &c.MetricsListen)
}

// OwnerFlags adds the flags about the owner and his credentials.
func (c *Config) OwnerFlags(flags *pflag.FlagSet) {
	flags.StringVar(&c.OwnerEmail, "owner-email", "admin@localhost", "e-mail address of the owner that the first start makes")
	flags.StringVar(&c.Credentials, "credentials", "", "credentials profile that the first start writes (default: $WATTLE_CREDENTIALS or ~/.config/wattle/credentials)")
	flags.BoolVar(&c.NewToken, "new-token", false, "make another token for the owner and write the credentials profile anew")
}

// check reports what cannot work, as a usage error.
func (c *Config) check() error {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return program.Usage("--listen %q is not an address such as :8443 or 127.0.0.1:8443", c.Listen)
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return program.Usage("--tls-cert and --tls-key belong together; give both or none")
	}
	if c.TLSCert != "" && c.InsecureHTTP {
		return program.Usage("--tls-cert and --insecure-http contradict each other; give one of them")
	}
	if c.Relay {
		if _, _, err := net.SplitHostPort(c.RelayListen); err != nil {
			return program.Usage("--relay-listen %q is not an address such as :3478", c.RelayListen)
		}
	}
	if c.RelayAddress != "" {
		if address, err := netip.ParseAddr(c.RelayAddress); err != nil || !address.Is4() {
			return program.Usage("--relay-address %q is not an IPv4 address", c.RelayAddress)
		}
	}
	if _, err := proxied.Parse(c.TrustedProxies); err != nil {
		return program.Usage("--trusted-proxies: %w", err)
	}
	if err := c.checkSeparateRelays(); err != nil {
		return err
	}
	if c.PublicURL == "" {
		return nil
	}
	public, err := parsePublicURL(c.PublicURL)
	if err != nil {
		return err
	}
	if public.Scheme == "http" && !c.InsecureHTTP {
		if c.TLSCert != "" {
			return program.Usage("--public-url begins with http: but a certificate is given; make it https:")
		}
		if !isLoopback(host) {
			return program.Usage("plain HTTP on %s would show every token to whoever is on the path; make --public-url https:, listen on 127.0.0.1, or say --insecure-http", c.Listen)
		}
	}
	return nil
}

func (c *Config) checkSeparateRelays() error {
	if (len(c.SeparateRelays) > 0) != (c.RelaySecretFile != "") {
		return program.Usage("--separate-relay and --relay-secret-file belong together; give both or none")
	}
	for _, text := range c.SeparateRelays {
		if _, err := parseSeparateRelay(text); err != nil {
			return program.Usage("--separate-relay %q is not an address such as relay.example:3478 or frankfurt=relay.example:3478/443", text)
		}
	}
	return nil
}

func parsePublicURL(text string) (*url.URL, error) {
	public, err := url.Parse(strings.TrimSuffix(text, "/"))
	if err != nil || public.Host == "" || public.Hostname() == "" || (public.Scheme != "https" && public.Scheme != "http") ||
		public.Path != "" || public.RawQuery != "" || public.Fragment != "" || public.User != nil {
		return nil, program.Usage("--public-url %q is not a URL such as https://wattle.example:8443", text)
	}
	return public, nil
}

// plainHTTP reports whether the server listens without TLS.
func (c *Config) plainHTTP() bool {
	return c.InsecureHTTP || strings.HasPrefix(c.PublicURL, "http:")
}

// publicURL returns where clients find a server that listens on address.
func (c *Config) publicURL(address netip.AddrPort) (*url.URL, error) {
	if c.PublicURL != "" {
		return parsePublicURL(c.PublicURL)
	}
	scheme := "https"
	if c.plainHTTP() {
		scheme = "http"
	}
	host, _, _ := net.SplitHostPort(c.Listen)
	if host == "" || address.Addr().IsUnspecified() {
		host = ownAddress()
	}
	return &url.URL{Scheme: scheme, Host: net.JoinHostPort(host, fmt.Sprint(address.Port()))}, nil
}

// certificateNames is every name by which a client may call this server.
func certificateNames(public *url.URL, listen string) []string {
	names := []string{public.Hostname()}
	add := func(name string) {
		if name == "" {
			return
		}
		for _, known := range names {
			if strings.EqualFold(known, name) {
				return
			}
		}
		names = append(names, name)
	}
	if host, _, err := net.SplitHostPort(listen); err == nil {
		if address, err := netip.ParseAddr(host); err != nil || !address.IsUnspecified() {
			add(host)
		}
	}
	for _, name := range append([]string{"localhost", "127.0.0.1", "::1"}, interfaceAddresses()...) {
		add(name)
	}
	return names
}

// ownAddress returns the address of the default route, or localhost.
func ownAddress() string {
	// Nothing is sent: connecting a UDP socket only chooses the route.
	conn, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 9})
	if err != nil {
		return "localhost"
	}
	defer conn.Close() //nolint:errcheck // nothing was written
	local, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return "localhost"
	}
	return local.Addr().Unmap().String()
}

// interfaceAddresses returns the addresses of this machine that others could
// use; none when the system does not tell.
func interfaceAddresses() []string {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var addresses []string
	for _, entry := range list {
		prefix, err := netip.ParsePrefix(entry.String())
		if err == nil && prefix.Addr().IsGlobalUnicast() {
			addresses = append(addresses, prefix.Addr().Unmap().String())
		}
	}
	return addresses
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback()
}

package start

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/wattlenet/wattle/generated/api"
	relay "github.com/wattlenet/wattle/relay/server"
)

// relayCredentialLife is how long an agent may use the relay without hearing
// from the control plane: half a day, so that a night's outage is survived.
const relayCredentialLife = 12 * time.Hour

// relaySecretName is under what state keeps the secret that the control plane
// and its relay share.
const relaySecretName = "relay"

// A relayOffer is what agents are told of one relay.
type relayOffer struct {
	id     string
	region string // "": not told
	secret relay.Secret
	urls   []string
	pin    string // of the authority of its certificate; "": a public one
}

// newEmbeddedRelay opens the sockets of the relay of this process. It takes UDP
// at the port of the API too, unless something else has it.
func newEmbeddedRelay(config Config, public *url.URL, api string, secret []byte) (*relay.Server, relayOffer, error) {
	wanted := relay.Config{
		Secret:       secret,
		Listen:       []string{config.RelayListen},
		ListenUDP:    []string{api},
		RelayAddress: relayAddress(config.RelayAddress, public),
		Quotas:       config.RelayQuotas,
		Logger:       config.Logger,
	}
	server, err := relay.New(wanted)
	second := err == nil
	if !second {
		wanted.ListenUDP = nil
		server, err = relay.New(wanted)
	}
	if err != nil {
		return nil, relayOffer{}, fmt.Errorf("the embedded relay cannot start: %w; choose other addresses with --relay-listen and --relay-address, or leave it out with --relay=false", err)
	}
	host := public.Hostname()
	if config.RelayAddress != "" || isLoopback(host) {
		host = server.RelayAddress().String()
	}
	offer := relayOffer{id: "embedded", region: config.RelayRegion, secret: secret, urls: relayURLs(host, fmt.Sprint(server.Addrs()[0].Port()))}
	if second {
		offer.urls = append(offer.urls, secondUDP(host, cmp.Or(public.Port(), "443"))...)
	}
	return server, offer, nil
}

// secondUDP are the URIs of a second port over UDP. An agent that sees another
// address of itself there than at the first port is behind a NAT that maps by
// destination.
func secondUDP(host, port string) []string {
	at := net.JoinHostPort(host, port)
	return []string{"turn:" + at + "?transport=udp", "stun:" + at}
}

// relayAddress returns the address of allocations: what was configured, or the
// public address if it is a number, or zero for the address of the default route.
func relayAddress(configured string, public *url.URL) netip.Addr {
	if address, err := netip.ParseAddr(configured); err == nil {
		return address // Config.check saw to it that it is one
	}
	address, err := netip.ParseAddr(public.Hostname())
	if err != nil || !address.Is4() || address.IsLoopback() {
		return netip.Addr{}
	}
	return address
}

// relayURLs are the STUN and TURN URIs of a relay (RFC 7064, RFC 7065).
func relayURLs(host, port string) []string {
	at := net.JoinHostPort(host, port)
	return []string{"turn:" + at + "?transport=udp", "turn:" + at + "?transport=tcp", "stun:" + at}
}

// separateRelays are the relays that run elsewhere. All share the secret in
// config.RelaySecretFile.
func separateRelays(config Config) ([]relayOffer, error) {
	if len(config.SeparateRelays) == 0 {
		return nil, nil
	}
	secret, err := relay.ReadSecret(config.RelaySecretFile, config.Logger)
	if err != nil {
		return nil, fmt.Errorf("%w; --relay-secret-file names the file that every wattle-relay has as --secret-file", err)
	}
	var offers []relayOffer
	for _, text := range config.SeparateRelays {
		at, err := parseSeparateRelay(text)
		if err != nil {
			return nil, err // Config.check saw to it that there is none
		}
		offer := relayOffer{id: net.JoinHostPort(at.host, at.port), region: at.region, secret: secret, urls: relayURLs(at.host, at.port)}
		if at.secure != "" {
			offer.urls = append(offer.urls, secondUDP(at.host, at.secure)...)
			offer = offer.withHTTPS(&url.URL{Host: net.JoinHostPort(at.host, at.secure)}, "")
		}
		offers = append(offers, offer)
	}
	return offers, nil
}

// A separateRelay is one of Config.SeparateRelays, taken apart.
type separateRelay struct {
	region, host, port string
	secure             string // its port for TLS; "": none
}

// parseSeparateRelay reads [region=]host:port[/port].
func parseSeparateRelay(text string) (at separateRelay, err error) {
	address := text
	if region, rest, named := strings.Cut(text, "="); named {
		if at.region, address = region, rest; region == "" {
			return at, fmt.Errorf("relay %q: the region is empty", text)
		}
	}
	address, secure, cut := strings.Cut(address, "/")
	at.secure = secure
	if at.host, at.port, err = net.SplitHostPort(address); err != nil {
		return at, fmt.Errorf("relay %q: %w", text, err)
	}
	if at.host == "" || at.port == "" || cut && secure == "" {
		return at, fmt.Errorf("relay %q: the host or a port is empty", text)
	}
	return at, nil
}

// withHTTPS adds what the listener of the API and of the agents carries besides:
// TURN over TLS and over WebSocket, for networks that let nothing else pass.
func (o relayOffer) withHTTPS(public *url.URL, pin string) relayOffer {
	at := net.JoinHostPort(public.Hostname(), cmp.Or(public.Port(), "443"))
	o.urls = append(slices.Clip(o.urls), "turns:"+at+"?transport=tcp", "wss://"+at+relay.WebSocketPath)
	o.pin = pin
	return o
}

// forPeer returns the relay with credentials that only this peer is given.
func (o relayOffer) forPeer(accountID, peerID string) api.RelayServer {
	expires := time.Now().Add(relayCredentialLife).Truncate(time.Second).UTC()
	credential := relay.NewCredential(o.secret, relay.Holder{Account: accountID, Peer: peerID}, expires)
	server := api.RelayServer{
		Id: o.id, Urls: o.urls, Username: credential.Username, Password: credential.Password, Expires: expires,
	}
	if o.pin != "" {
		server.CaPin = &o.pin
	}
	if o.region != "" {
		server.Region = &o.region
	}
	return server
}

// besideRelay serves what handler does, and the WebSockets of the relay, which
// may be nil.
func besideRelay(handler http.Handler, server *relay.Server) http.Handler {
	if server == nil {
		return handler
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == relay.WebSocketPath {
			server.ServeHTTP(w, r)
			return
		}
		handler.ServeHTTP(w, r)
	})
}

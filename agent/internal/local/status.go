package local

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/wattlenet/wattle/internal/program"
)

// StatusSchema names the form of Status.
const StatusSchema = "wattle.status/v1"

// The states of the agent.
const (
	StateNotEnrolled = "not_enrolled" // no peer yet, or no more
	StateDown        = "down"         // enrolled, disconnected on purpose
	StateConnecting  = "connecting"   // no map yet
	StateReady       = "ready"        // connected, the map is complete and applied
	StateOffline     = "offline"      // working from the last map, without the control plane
)

// Status is everything that the agent knows about itself. It is complete in
// every state; what does not exist yet is empty.
type Status struct {
	Schema  string `json:"schema"`
	Version string `json:"version"`

	// State is one of the State constants.
	State string `json:"state"`

	// Name is the DNS label of this machine, FQDN its whole name.
	Name      string   `json:"name"`
	FQDN      string   `json:"fqdn"`
	PeerID    string   `json:"peer_id"`
	AccountID string   `json:"account_id"`
	Addresses []string `json:"addresses"`
	PublicKey string   `json:"public_key"`

	// PublicKeySince is when the key came into use; NextPublicKey is the one that
	// takes its place when those who packets flow to know it, empty for none.
	PublicKeySince *time.Time `json:"public_key_since,omitempty"`
	NextPublicKey  string     `json:"next_public_key"`

	// PostQuantum is what this machine wants of sessions: off, permissive or strict;
	// empty while there is no map.
	PostQuantum string `json:"post_quantum"`

	Management Management `json:"management"`
	Map        Map        `json:"map"`
	Tunnel     Tunnel     `json:"tunnel"`
	Firewall   Firewall   `json:"firewall"`
	DNS        DNS        `json:"dns"`
	Network    Network    `json:"network"`
	Relay      Relay      `json:"relay"`
	Peers      []Peer     `json:"peers"`
	Routes     []Route    `json:"routes"`
	Forwards   []Forward  `json:"forwards"`

	// Refused are the parts of the network map that this machine cannot follow; the
	// rest is in force.
	Refused []Refused `json:"refused"`

	// Warnings are sentences for the user: what is wrong, and the next step.
	Warnings []string `json:"warnings"`
}

// Refused is a part of the network map that is not in force.
type Refused struct {
	Kind   string `json:"kind"` // peer, rule, route, zone, record, nameserver or address
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// Ready reports whether the overlay works: with the newest map, or with the last
// one while the control plane is away.
func (s Status) Ready() bool { return s.State == StateReady || s.State == StateOffline }

// Management is the session with the control plane.
type Management struct {
	URL       string     `json:"url"`
	Connected bool       `json:"connected"`
	CaughtUp  bool       `json:"caught_up"`
	Since     *time.Time `json:"since,omitempty"`
	Server    string     `json:"server_version"`
	Error     string     `json:"error"`

	// ClockOffsetSeconds must be added to this machine's clock; 0 while it is right.
	ClockOffsetSeconds float64 `json:"clock_offset_seconds"`
}

// Map is the network map in force.
type Map struct {
	Epoch  string `json:"epoch"`
	Serial int64  `json:"serial"`
	Digest string `json:"digest"`

	// ApplyMillis is how long it took to bring this machine to the map, the last
	// time that it changed.
	ApplyMillis float64 `json:"apply_ms"`
}

// Tunnel is the WireGuard device.
type Tunnel struct {
	Mode       string `json:"mode"`
	Reason     string `json:"reason"` // why this mode, when another was wished
	Interface  string `json:"interface"`
	ListenPort uint16 `json:"listen_port"`

	// Dropped counts what the sockets of the tunnel did not deliver since it was
	// opened, by reason.
	Dropped map[string]uint64 `json:"dropped,omitempty"`
}

// Firewall is how the rules are enforced.
type Firewall struct {
	Kind    string `json:"kind"`
	Rules   int    `json:"rules"`
	Dropped uint64 `json:"dropped"`
	Note    string `json:"note"`

	// Opened are the chains of the host's own firewall that let the tunnel
	// through to the rules of the network.
	Opened []string `json:"opened"`

	// Matched is what the rules that judge have let through or dropped, and
	// Monitored what those have met that judge nothing and count.
	Matched   []Counted `json:"matched"`
	Monitored []Counted `json:"monitored"`
}

// Counted is what a rule has matched: packets in the direction in which a flow was
// opened.
type Counted struct {
	Rule string `json:"rule"` // its opaque id in the network map

	// Also is how many other rules are counted with it, which differ in their
	// destination outside of the overlay only.
	Also    int    `json:"also,omitempty"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"` // of whole IP packets
}

// DNS is the resolver, and who asks it.
type DNS struct {
	Domain string `json:"domain"`

	// Addresses are those at which the resolver answers.
	Addresses []string `json:"addresses"`

	// Kind is who decides which name servers this machine asks: systemd-resolved,
	// networkmanager, resolvconf, scutil, nrpt, file, or off when nothing is set.
	Kind string `json:"kind"`

	// Set says that this machine asks the resolver; AllNames, that it does for
	// every name and not only for Domains.
	Set      bool     `json:"set"`
	AllNames bool     `json:"all_names"`
	Domains  []string `json:"domains"`
	Search   []string `json:"search"`

	// Groups are the name servers of the network.
	Groups []NameserverGroup `json:"groups"`

	// FormerServers are the name servers that the machine had before, which are
	// asked for everything else.
	FormerServers []string `json:"former_servers"`

	// Error says what is not as it should be; empty when all is well.
	Error string `json:"error"`
}

// NameserverGroup is a group of name servers that some names are asked of.
type NameserverGroup struct {
	Servers []string `json:"servers"`

	// Domains are those whose names are asked; none means every name.
	Domains []string `json:"domains"`
}

// Network is how this machine's datagrams reach the world.
type Network struct {
	// Access is open (no NAT), easy (one mapping for all destinations), hard
	// (another one for each), blocked (no UDP passes), or empty while that is not known.
	Access string `json:"access"`

	// Mapped are the addresses that servers see, at most one for each version of IP.
	Mapped  []string `json:"mapped"`
	Gateway Gateway  `json:"gateway"`
}

// Gateway is the router of the local network that forwards the tunnel's port.
type Gateway struct {
	Protocol string `json:"protocol"` // pcp, nat-pmp or upnp; empty: it forwards nothing
	Address  string `json:"address"`
	External string `json:"external"` // address and port that lead to this machine
	Error    string `json:"error"`    // why it forwards nothing
}

// Relay is this machine's allocation at a relay.
type Relay struct {
	Server    string `json:"server"`
	Region    string `json:"region"` // where it stands; empty: not told
	Transport string `json:"transport"`
	Mapped    string `json:"mapped"`
	Error     string `json:"error"`
}

// Peer is another machine.
type Peer struct {
	ID        string   `json:"id"`
	Name      string   `json:"name"`
	Addresses []string `json:"addresses"`
	PublicKey string   `json:"public_key"`

	// Path is idle, relayed or direct; Reason says why it is not direct.
	Path          string     `json:"path"`
	Reason        string     `json:"reason"`
	Remote        string     `json:"remote"`
	Relay         string     `json:"relay"`
	RTTMillis     float64    `json:"rtt_ms"` // 0: not measured
	MTU           int        `json:"mtu"`    // largest packet that the direct path carries, in bytes; 0: as large as any
	LastHandshake *time.Time `json:"last_handshake,omitempty"`
	ReceivedBytes uint64     `json:"received_bytes"`
	SentBytes     uint64     `json:"sent_bytes"`
	LastError     string     `json:"last_error"`  // of the last attempt at a direct path
	RelayError    string     `json:"relay_error"` // why the relay carries nothing to the peer

	// PostQuantum is active while the session takes a key that withstands quantum
	// computers, pending or unavailable while it does not, for PostQuantumReason;
	// empty where this machine wants none.
	PostQuantum       string `json:"post_quantum"`
	PostQuantumReason string `json:"post_quantum_reason"`

	// Attempt is the last one at a direct path, absent while the peer is idle or
	// has not answered.
	Attempt *Attempt `json:"attempt,omitempty"`
}

// What is said about post-quantum keys of a peer.
const (
	PostQuantumActive  = "active"
	PostQuantumPending = "pending"

	// PostQuantumNextSession is the reason of a session that is older than the key.
	PostQuantumNextSession = "next_session"
)

// Attempt is what was tried for a direct path.
type Attempt struct {
	Began      time.Time   `json:"began"`
	TookMillis float64     `json:"took_ms"` // 0: it runs
	Local      []Candidate `json:"local"`   // offered to the peer
	Remote     []Candidate `json:"remote"`  // offered by the peer
	Checks     []Check     `json:"checks"`
}

// Candidate is an address where a machine may be reached.
type Candidate struct {
	Kind    string `json:"kind"` // host, reflexive, mapped or relayed
	Address string `json:"address"`
}

// Check is one pair of candidates that was tried.
type Check struct {
	Local  string `json:"local"`
	Remote string `json:"remote"`
	State  string `json:"state"` // waiting, in-progress, failed or succeeded
	Chosen bool   `json:"chosen"`
}

// Is reports whether name is the name or an overlay address of the peer.
func (p Peer) Is(name string) bool {
	return strings.EqualFold(p.Name, name) || slices.Contains(p.Addresses, name)
}

// Route is a destination outside of the overlay.
type Route struct {
	Name string `json:"name"`

	// Role is use, or serve on a machine that carries the traffic of others.
	Role string `json:"role"`

	// Prefix is the destination in CIDR form, or empty when Domains name it.
	Prefix  string   `json:"prefix"`
	Domains []string `json:"domains"`

	// Addresses are what the domains were found to mean lately.
	Addresses []string `json:"addresses"`

	// Routers are the names of the machines that lead there, the preferred first;
	// empty for the role serve.
	Routers []string `json:"routers"`

	// Router is the one of Routers that carries the traffic; empty: nobody.
	Router string `json:"router"`

	// Next is a better router that waits until it has been better for long
	// enough and no flows run through the present one; usually empty.
	Next string `json:"next"`

	// Note says why the route is not used; empty when it is.
	Note string `json:"note"`

	// Masquerade says that this machine hides the sources behind its own address.
	Masquerade bool `json:"masquerade"`
}

// Forward is a listener that leads from this host into the overlay or back.
type Forward struct {
	// Kind is proxy, out (into the overlay) or in (to a service of this host).
	Kind    string `json:"kind"`
	Network string `json:"network"` // tcp or udp
	Listen  string `json:"listen"`
	Target  string `json:"target"` // empty for the proxy

	Connections uint64 `json:"connections"` // carried since it was opened
	Error       string `json:"error"`       // why it is not open
}

// UpRequest connects the machine.
type UpRequest struct {
	ManagementURL  string   `json:"management_url,omitempty"`
	SetupKey       string   `json:"setup_key,omitempty"`
	CAPin          string   `json:"ca_pin,omitempty"`
	ExtraDNSLabels []string `json:"extra_dns_labels,omitempty"` // asked for at enrolment
	InsecureHTTP   bool     `json:"insecure_http,omitempty"`    // take an http: URL beyond this machine
	TimeoutSeconds float64  `json:"timeout_seconds,omitempty"`  // 0: 60 s
}

// LogoutRequest forgets the machine's identity.
type LogoutRequest struct {
	Delete bool `json:"delete"` // delete the peer too
}

// RotateKeyRequest replaces the machine's WireGuard key.
type RotateKeyRequest struct {
	TimeoutSeconds float64 `json:"timeout_seconds,omitempty"` // 0: 60 s
}

// PingRequest asks for echo requests to a peer, by name or overlay address.
type PingRequest struct {
	Peer           string  `json:"peer"`
	Count          int     `json:"count"` // 0: until UntilDirect or the end of the request
	IntervalMillis float64 `json:"interval_ms"`
	TimeoutMillis  float64 `json:"timeout_ms"` // of one request
	UntilDirect    bool    `json:"until_direct"`
}

// PingReply is one answer, or the lack of it.
type PingReply struct {
	Sequence  int     `json:"seq"`
	Peer      string  `json:"peer"`
	Address   string  `json:"address"`
	RTTMillis float64 `json:"rtt_ms"`
	Path      string  `json:"path"`
	Reason    string  `json:"reason"` // why not direct
	Remote    string  `json:"remote"` // socket of the peer, or of the relay
	Error     string  `json:"error"`  // empty when the peer answered
	Denied    bool    `json:"denied"`

	// PostQuantum and PostQuantumReason are those of the peer where the lack of a
	// key is why it does not answer; empty else.
	PostQuantum       string `json:"post_quantum,omitempty"`
	PostQuantumReason string `json:"post_quantum_reason,omitempty"`
}

// WaitRequest blocks until a condition holds: ready, connected, peer:NAME or
// dns:NAME.
type WaitRequest struct {
	For string `json:"for"` // empty: ready
}

// Condition splits For into its kind and, for peer and dns, the name. Anything else is an error of usage.
func (r WaitRequest) Condition() (kind, name string, err error) {
	kind, name, named := strings.Cut(cmp.Or(r.For, "ready"), ":")
	switch {
	case (kind == "ready" || kind == "connected") && !named, (kind == "peer" || kind == "dns") && name != "":
		return kind, name, nil
	}
	return "", "", Errorf(program.ExitUsage, "%q is nothing to wait for; use ready, connected, peer:NAME or dns:NAME", r.For)
}

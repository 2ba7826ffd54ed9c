package local

// The forms of the answers below.
const (
	WhoisSchema  = "wattle.whois/v1"
	AccessSchema = "wattle.access/v1"
	TraceSchema  = "wattle.trace/v1"
)

// NetcheckRequest says whom to ask besides those that the machine knows.
type NetcheckRequest struct {
	// STUN are further servers, as host:port.
	STUN []string `json:"stun"`

	// ManagementURL and CAPin are those of `wattle up`, for a machine that is not
	// enrolled; empty: those that it is enrolled with.
	ManagementURL string `json:"management_url"`
	CAPin         string `json:"ca_pin"`
}

// WhoisRequest asks who has an address or a name.
type WhoisRequest struct {
	Address string `json:"address"`
}

// The kinds of a WhoisAnswer.
const (
	WhoSelf  = "self"  // this machine
	WhoPeer  = "peer"  // another machine of the network
	WhoRoute = "route" // an address behind machines
)

// WhoisAnswer says who has an address.
type WhoisAnswer struct {
	Schema string `json:"schema"`
	Kind   string `json:"kind"`

	// ID, PublicKey and Addresses are those of a machine; empty for a route.
	ID        string   `json:"id"`
	Name      string   `json:"name"`
	FQDN      string   `json:"fqdn"`
	PublicKey string   `json:"public_key"`
	Addresses []string `json:"addresses"`

	// Prefix is the range of a route, Routers who leads there, the preferred first.
	Prefix  string   `json:"prefix"`
	Routers []string `json:"routers"`
}

// FlowRequest asks about the first packet of a flow.
type FlowRequest struct {
	// Direction is in or out, seen from this machine; empty when the ends tell.
	Direction string `json:"direction"`

	// Source and Destination are names or addresses.
	Source      string `json:"source"`
	Destination string `json:"destination"`

	Protocol string `json:"protocol"` // tcp, udp or icmp
	Port     uint16 `json:"port"`     // of the destination; 0 for icmp
}

// AccessAnswer says whether the rules in force on this machine let a flow begin.
// The other end has rules of its own.
type AccessAnswer struct {
	Schema      string `json:"schema"`
	Allowed     bool   `json:"allowed"`
	Source      string `json:"source"`
	Destination string `json:"destination"`
	Protocol    string `json:"protocol"`
	Port        uint16 `json:"port"`

	// Rule is the id of the rule that decided; empty when none matched.
	Rule string `json:"rule"`

	// Detail is a sentence.
	Detail string `json:"detail"`
}

// TraceAnswer is what each local step does with one packet.
type TraceAnswer struct {
	Schema string      `json:"schema"`
	Passes bool        `json:"passes"`
	Steps  []TraceStep `json:"steps"`
}

// TraceStep is one step. After one that drops the packet no other follows.
type TraceStep struct {
	Step   string `json:"step"` // source, destination, route, rules, peer, path or host
	Passes bool   `json:"passes"`
	Detail string `json:"detail"`
}

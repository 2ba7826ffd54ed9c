package connectivity

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pion/ice/v3"
	"github.com/pion/logging"

	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

// Choices of ours. pion's defaults are made for media calls: it would hold a
// reflexive pair back for 500 ms and keep sending every 2 s for ever.
const (
	attemptLimit   = 5 * time.Second
	checkInterval  = 50 * time.Millisecond
	checksPerPair  = 60 // at most 3 s of checks for one candidate pair
	reflexiveWait  = 50 * time.Millisecond
	peerReflexWait = 100 * time.Millisecond

	// lingering is how long an agent answers after it has nominated: the other
	// side may not have yet.
	lingering = 3 * time.Second

	maximumAddresses = 16 // local ones that are offered

	// wideMTU lets a full packet of the tunnel through whole over IPv4: IP 20,
	// UDP 8, WireGuard 32 bytes around it.
	wideMTU = tunnel.DefaultMTU + 60
)

var errNoPair = fmt.Errorf("no candidate pair was nominated within %s", attemptLimit)

// An attempt is one try to find a direct path. pion/ice has no renomination,
// so each attempt has a new agent; checks only, no data.
type attempt struct {
	session  string
	ufrag    string
	password string
	began    time.Time
	addrs    []netip.AddrPort // of this machine
	local    []string         // the same as candidates

	remote  []Offer       // candidates of the peer
	took    time.Duration // 0 while it runs
	checked []Check       // what came of it
	said    *Record       // all of this; nil: it has changed

	joined string // the peer's session; empty until its hello has come
	agent  *ice.Agent
	mux    *checkMux
	done   bool
	ending sync.Once
}

// newSession returns a random name for an attempt.
func newSession() string {
	var raw [sessionLength / 2]byte
	_, _ = rand.Read(raw[:]) // never fails since Go 1.24
	return hex.EncodeToString(raw[:])
}

// newAttempt makes the agent and starts to gather.
func newAttempt(c *checks, addrs []netip.AddrPort, loopback bool) (*attempt, error) {
	a := &attempt{session: newSession(), ufrag: newSession()[:16], password: newSession(), began: time.Now(), addrs: addrs}
	for _, addr := range addrs {
		line, err := hostCandidate(addr)
		if err != nil {
			return nil, err
		}
		a.local = append(a.local, line)
	}
	a.mux = c.newMux(a.ufrag, addrs)
	agent, err := ice.NewAgent(&ice.AgentConfig{
		LocalUfrag: a.ufrag, LocalPwd: a.password,
		NetworkTypes:           []ice.NetworkType{ice.NetworkTypeUDP4, ice.NetworkTypeUDP6},
		CandidateTypes:         []ice.CandidateType{ice.CandidateTypeHost},
		MulticastDNSMode:       ice.MulticastDNSModeDisabled,
		UDPMux:                 a.mux,
		IncludeLoopback:        loopback,
		CheckInterval:          new(checkInterval),
		MaxBindingRequests:     new(uint16(checksPerPair)),
		HostAcceptanceMinWait:  new(time.Duration(0)),
		SrflxAcceptanceMinWait: new(reflexiveWait),
		PrflxAcceptanceMinWait: new(peerReflexWait),
		// The life of a path is judged by its traffic, so an agent neither keeps
		// alive nor disconnects; the attempt has its own limit.
		KeepaliveInterval:   new(time.Duration(0)),
		DisconnectedTimeout: new(attemptLimit),
		FailedTimeout:       new(attemptLimit),
		LoggerFactory:       &logging.DefaultLoggerFactory{Writer: io.Discard, DefaultLogLevel: logging.LogLevelDisabled},
	})
	if err != nil {
		_ = a.mux.Close()
		return nil, fmt.Errorf("ICE agent: %w", err)
	}
	a.agent = agent
	// The candidates are known already; the agent refuses to gather unwatched.
	err = agent.OnCandidate(func(ice.Candidate) {})
	if err == nil {
		err = agent.GatherCandidates()
	}
	if err != nil {
		a.close()
		return nil, fmt.Errorf("ICE agent: %w", err)
	}
	return a, nil
}

// check runs the agent until it has nominated a pair or ctx ends.
func (a *attempt) check(ctx context.Context, leads bool, ufrag, password string) (*ice.CandidatePair, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptLimit)
	defer cancel()
	connect := a.agent.Accept
	if leads {
		connect = a.agent.Dial
	}
	if _, err := connect(ctx, ufrag, password); err != nil {
		if ctx.Err() != nil {
			return nil, errNoPair
		}
		return nil, fmt.Errorf("ICE: %w", err)
	}
	return a.agent.GetSelectedCandidatePair()
}

// add gives the agent the peer's candidates; what allow refuses or nobody can
// read is left out.
func (a *attempt) add(lines []string, allow func(netip.Addr) bool) {
	a.said = nil
	for _, line := range lines {
		candidate, err := ice.UnmarshalCandidate(line)
		if err != nil || candidate.NetworkType().IsTCP() {
			continue
		}
		addr, err := netip.ParseAddr(candidate.Address())
		if err != nil || !checkable(addr) || !allow(addr) {
			continue
		}
		offer := Offer{offerKind(candidate.Type()), netip.AddrPortFrom(addr.Unmap(), uint16(candidate.Port()))}
		if !slices.Contains(a.remote, offer) && len(a.remote) < maximumCandidates {
			a.remote = append(a.remote, offer)
		}
		_ = a.agent.AddRemoteCandidate(candidate) // fails only once closed
	}
}

// checkable refuses what no peer listens on.
func checkable(addr netip.Addr) bool {
	return addr.IsValid() && !addr.IsUnspecified() && !addr.IsMulticast() && !addr.IsLinkLocalUnicast()
}

// close ends the agent. It waits for the agent's goroutines.
func (a *attempt) close() {
	a.ending.Do(func() {
		if a.agent != nil {
			_ = a.mux.Close()
			_ = a.agent.Close() // has nothing to lose
		}
	})
}

func hostCandidate(addr netip.AddrPort) (string, error) {
	c, err := ice.NewCandidateHost(&ice.CandidateHostConfig{
		Network: "udp", Address: addr.Addr().String(), Port: int(addr.Port()), Component: ice.ComponentRTP,
	})
	if err != nil {
		return "", fmt.Errorf("candidate %s: %w", addr, err)
	}
	return c.Marshal(), nil
}

// reflexiveCandidate is offered to the peer and not given to our own agent: it
// shares the socket of the host candidates, so its checks would be the same
// packets twice (RFC 8445, section 6.1.2.4).
func reflexiveCandidate(mapped netip.AddrPort, port uint16) (string, error) {
	related := "0.0.0.0"
	if mapped.Addr().Is6() {
		related = "::"
	}
	c, err := ice.NewCandidateServerReflexive(&ice.CandidateServerReflexiveConfig{
		Network: "udp", Address: mapped.Addr().String(), Port: int(mapped.Port()), Component: ice.ComponentRTP,
		RelAddr: related, RelPort: int(port),
	})
	if err != nil {
		return "", fmt.Errorf("candidate %s: %w", mapped, err)
	}
	return c.Marshal(), nil
}

// localAddresses returns where this machine can be reached without help.
func localAddresses(cfg *Config, port uint16) ([]netip.AddrPort, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	var wide, narrow []netip.AddrPort
	for _, each := range interfaces {
		if each.Flags&net.FlagUp == 0 || each.Flags&net.FlagLoopback != 0 && !cfg.Loopback ||
			cfg.Interface != nil && !cfg.Interface(each.Name) {
			continue
		}
		addrs, err := each.Addrs()
		if err != nil {
			continue // the interface has just gone
		}
		for _, address := range addrs {
			network, ok := address.(*net.IPNet)
			if !ok {
				continue
			}
			addr, ok := netip.AddrFromSlice(network.IP)
			if addr = addr.Unmap(); !ok || !checkable(addr) || cfg.Address != nil && !cfg.Address(addr) {
				continue
			}
			if each.MTU >= wideMTU {
				wide = append(wide, netip.AddrPortFrom(addr, port))
			} else {
				narrow = append(narrow, netip.AddrPortFrom(addr, port))
			}
		}
	}
	return offered(wide, narrow), nil
}

// offered leaves the addresses of narrow interfaces out when there are others:
// mostly they are those of another tunnel, and full packets do not fit.
func offered(wide, narrow []netip.AddrPort) []netip.AddrPort {
	if len(wide) == 0 {
		wide = narrow
	}
	return wide[:min(len(wide), maximumAddresses)]
}

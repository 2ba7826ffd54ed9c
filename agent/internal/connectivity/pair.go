package connectivity

import (
	"context"
	"net/netip"
	"time"

	"github.com/wattlenet/wattle/agent/internal/postquantum"
	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

// Choices of ours.
const (
	idleAfter = 5 * time.Minute  // without a packet sent
	deadAfter = 90 * time.Second // without any path; WireGuard gives up then too

	hush         = 150 * time.Millisecond // answers have ceased for that, and for roundTrips: a question
	roundTrips   = 3                      //
	silence      = time.Second            // the same where answers are not usual
	probeLimit   = 900 * time.Millisecond // four probes; then the path is dead
	freshReceipt = 150 * time.Millisecond // no doubt about a path that received since
	askLimit     = 3 * time.Second        // a probe of routine
	answerSlack  = 20 * time.Millisecond  // between the arrival of an answer and its notice
	keepaliveAge = 20 * time.Second       // below the 30 s after which many NATs forget

	// leastKeepalive bounds what is learned from NATs that forget sooner.
	leastKeepalive = 4 * time.Second

	firstHello   = time.Second // until a hello is repeated; doubles
	longestHello = 30 * time.Second
	signalLimit  = 15 * time.Second
	offlineAfter = 3 * time.Second // unanswered hello: say so in the status

	relaySilence  = 2 * time.Second // on the relay: the peer may have moved to another
	rebindChannel = channelLifetime/2 - time.Minute
)

// A pair is this machine and one peer.
//
//	        wake, or a hello of the peer
//	idle ------------------------------> waking
//	 ^                                     | relayed address known     | ICE nominates
//	 | 5 min without a packet              v                           v
//	 +--------------------------------- relayed --ICE nominates--> direct
//	                                       ^                          |
//	                                       +-- four probes -----------+
//	                                           unanswered
//
// A direct path that falls silent is asked after 150 ms, carries its packets
// through the relay as well after as long again without an answer, and is given
// up 900 ms later.
type pair struct {
	peer     Peer
	endpoint *tunnel.Endpoint // this and the next two: of the bond in use
	seal     *sealer
	probe    *prober
	bonds    map[bondKey]*bond
	uses     tunnel.PublicKey // the peer's key that is in use

	keys      *postquantum.Exchange
	tellKeys  bool      // the peer does not know what keys says
	unmixed   time.Time // since then the session lacks the first secret; zero: it does not
	handshook time.Time // last time that a session with it was begun

	undelivered bool         // a signal that said what keys says
	passing     bool         // keys are said along a path
	passNext    *tunnel.Path // along which they are said then; nil: along none
	parcel      parcel

	awake  bool
	wanted time.Time // last reason to be awake that is not a packet on a path

	unlooked bool // the network has changed, and the path was not looked at yet

	direct  *tunnel.Path // nil: none is known
	relay   *tunnel.Path // nil: no channel
	former  *tunnel.Path // relayed too, carries copies for a moment; nil: none does
	primary *tunnel.Path // what the endpoint was told
	also    *tunnel.Path

	wide    *tunnel.Path   // has carried a full packet
	narrow  netip.AddrPort // a direct address that carries none; zero: none is known
	proving bool           // probes of full size are under way
	proved  time.Time      // end of the last of them

	suspect   bool           // direct is in doubt: the relay carries copies
	keepalive time.Duration  // of the direct path, once it was learned; 0: keepaliveAge
	pause     time.Duration  // before what was sent into the doubt
	gone      netip.AddrPort // where the peer was until the path was given up

	hushed   bool      // a question about the silence is under way
	calmed   time.Time // last answer to such a question
	deciding bool      // probes of doubt are under way
	asking   bool      // a probe of routine is under way

	remembered netip.AddrPort // where the peer was reached directly last; zero: nowhere
	announce   bool           // the peer shall hear that this process is new
	echoed     time.Time      // last probe in answer to one of the peer

	evidence evidence // of a watched peer

	relayed netip.AddrPort // the peer's; zero: unknown
	bound   time.Time      // last answer to ChannelBind

	access   Access // of the peer, by its own word
	captured bool   // a route leads the peer's addresses into the tunnel
	declined bool   // the peer takes no direct path

	attempt     *attempt
	lastJoined  string // the peer's session of the last attempt joined
	nextAttempt time.Time
	failures    int

	pending    *hello // waits for the one on its way
	sending    bool
	nextHello  time.Time
	helloDelay time.Duration
	signalErr  string

	since                    time.Time
	kind                     Path
	localAddress, remoteAddr string
	rtt                      time.Duration
	lastAttempt              time.Time
	directError              string // of the last attempt at a direct path; empty: it succeeded or still runs
	relayError               string // why the relay carries nothing to the peer; empty: nothing is known against it
}

// wake begins to look for a path.
func (p *Pathfinder) wake(ctx context.Context, pr *pair) {
	pr.wanted = time.Now()
	if pr.awake {
		return
	}
	p.rouse(pr)
	p.useRelay(ctx, pr) // by what is remembered; the hello may correct it
	p.tryRemembered(ctx, pr)
	p.startAttempt(pr)
	pr.keys.Step(time.Now(), postquantum.Use{}) // the hello carries it
	p.sendHello(ctx, pr)
	p.publish(pr)
}

func (p *Pathfinder) rouse(pr *pair) {
	pr.awake = true
	pr.wanted = time.Now()
	pr.helloDelay = firstHello
	pr.failures = 0
}

// sleep gives the pair's resources back. What was learned stays.
func (p *Pathfinder) sleep(pr *pair) {
	p.endAttempt(pr)
	pr.awake, pr.suspect, pr.unlooked = false, false, false
	pr.evidence = evidence{asking: pr.evidence.asking}
	pr.direct, pr.relay = nil, nil
	pr.lastJoined = ""
	pr.wide, pr.narrow = nil, netip.AddrPort{}
	pr.unmixed = time.Time{}
	pr.primary, pr.also = nil, nil
	pr.send(nil, nil)
	p.publish(pr)
}

// handleEvent reacts to what the tunnel has seen of a peer.
func (p *Pathfinder) handleEvent(ctx context.Context, pr *pair, event tunnel.Event) {
	switch event.Kind {
	case tunnel.Wake:
		p.wake(ctx, pr)
	case tunnel.Rekeyed:
		p.changedOver(pr, event.Peer)
	case tunnel.Arrived:
		p.changedOver(pr, event.Peer)
		if event.Relay != nil {
			pr.relayed = event.Addr
		} else if pr.direct == nil && p.looksDirect(pr) {
			pr.direct = pr.endpoint.Primary()
		}
		p.wake(ctx, pr)
		p.useRelay(ctx, pr)
		p.route(pr)
		if event.Relay != nil && pr.primary == nil && p.force(pr) == PathDirect {
			pr.send(nil, nil) // the tunnel has answered the way the handshake came
		}
	case tunnel.Stray:
		if event.Relay != nil {
			// The peer sends through the relay what it could send directly: it
			// doubts the path, and with reason if nothing arrives on ours either,
			// or it has found it too narrow.
			if pr.direct != nil {
				if age, ever := pr.direct.Received(); !ever || age > freshReceipt {
					p.doubt(ctx, pr)
				}
				p.questionWidth(ctx, pr)
			}
			return
		}
		// The peer's address may have changed behind its NAT. The packet is no
		// proof; the answer to a probe is.
		running := pr.attempt != nil && !pr.attempt.done
		if pr.awake && !running && event.Addr != pr.narrow && p.looksDirect(pr) {
			p.tryDirect(ctx, pr, event.Addr, true)
		}
	}
}

// route tells the endpoint which paths to use.
func (p *Pathfinder) route(pr *pair) {
	var primary, also *tunnel.Path
	switch {
	case pr.direct != nil && (pr.suspect || pr.unproven()):
		primary, also = pr.direct, pr.relay
	case pr.direct != nil:
		primary = pr.direct
	case pr.relay != nil:
		primary, also = pr.relay, pr.former
	}
	if primary != pr.primary || also != pr.also {
		pr.primary, pr.also = primary, also
		p.log.Debug("path chosen", "peer", pr.peer.ID, "path", primary.String(), "also", also.String())
		pr.send(primary, also)
	}
	p.publish(pr)
}

// useRelay binds a channel to the peer's relayed address. The path is used as
// soon as the request has left, one round trip before the answer.
func (p *Pathfinder) useRelay(ctx context.Context, pr *pair) {
	a, peer := p.allocation, pr.relayed
	if a == nil || !peer.IsValid() || p.force(pr) == PathDirect {
		return
	}
	number, err := a.channel(peer, pr.peer.ID)
	if err != nil {
		p.log.Info("no relay channel for a peer", "peer", pr.peer.ID, "error", err.Error())
		pr.relayError = err.Error()
		p.route(pr)
		return
	}
	bound := func() bool {
		return pr.relay != nil && pr.relay.Addr() == peer && pr.relay.Relay() == a.relay && pr.relay.Channel() == number
	}
	if bound() && time.Since(pr.bound) < rebindChannel {
		return
	}
	pr.bound = time.Now() // one request at a time
	path := a.relay.Path(peer, number)
	current := func() bool { return pr.awake && p.allocation == a && pr.relayed == peer }
	p.task(func() {
		err := a.bind(ctx, peer, number, func() {
			p.post(func(context.Context) {
				if current() && !bound() {
					p.leave(ctx, pr)
					pr.relay = path
					p.route(pr)
					p.announceRelayed(ctx, pr, path)
				}
			})
		})
		if ctx.Err() != nil {
			return
		}
		if a.gone(ctx, err) {
			p.relays.lose(a.relay, err) // of every peer; relayDown tells the loop
			return
		}
		p.post(func(context.Context) {
			switch {
			case !current():
			case err != nil:
				p.log.Info("relay does not reach a peer", "peer", pr.peer.ID, "error", err.Error())
				pr.relay, pr.relayError = nil, err.Error()
				p.route(pr)
			case pr.relayError != "":
				pr.relayError = ""
				p.publish(pr)
			}
		})
	})
}

// leave lets the relayed path that is in use carry copies for as long as both of
// its ends still receive. The next one leads nowhere until the peer has heard of
// it: its relay lets packets of this relay in no sooner (RFC 8656, section 9). Of
// several that follow each other the first is kept, since it is known to work.
func (p *Pathfinder) leave(ctx context.Context, pr *pair) {
	path := pr.primary
	if path == nil || path.Relay() == nil || pr.former != nil {
		return
	}
	pr.former = path
	p.task(func() {
		wait(ctx, handover)
		p.post(func(context.Context) {
			if pr.former == path {
				pr.former = nil
			}
			if pr.also == path {
				p.route(pr)
			}
		})
	})
}

// networkChanged looks at an awake pair again at once.
func (p *Pathfinder) networkChanged(ctx context.Context, pr *pair) {
	pr.unlooked = false
	pr.failures = 0
	pr.helloDelay = firstHello
	pr.wide, pr.narrow = nil, netip.AddrPort{}
	if pr.direct != nil {
		p.doubt(ctx, pr)
	}
	p.startAttempt(pr)
	p.sendHello(ctx, pr)
}

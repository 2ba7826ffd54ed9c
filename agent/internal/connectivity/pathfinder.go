package connectivity

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/pion/stun/v2"
	"golang.org/x/time/rate"

	"github.com/wattlenet/wattle/agent/internal/portmap"
	"github.com/wattlenet/wattle/agent/internal/postquantum"
	"github.com/wattlenet/wattle/agent/internal/tunnel"
	"github.com/wattlenet/wattle/internal/table"
)

// Choices of ours.
const (
	tickInterval = 100 * time.Millisecond // while any pair is awake; none otherwise

	// heldLimit and heldAge bound the messages of peers that the map does not
	// have yet: the map may be a moment behind the signal.
	heldLimit = 64
	heldAge   = 10 * time.Second

	// Anybody can send a probe with a tag that nobody has; to look for it costs a
	// walk through the directory. A peer repeats its probe.
	strangersPerSecond = 20
	strangersBurst     = 20
)

// A Pathfinder finds and keeps the path to every peer. One goroutine, that of
// Run, owns the pairs; everything else reaches them through its mailbox.
type Pathfinder struct {
	cfg          Config
	log          *slog.Logger
	transactions *transactions
	checks       *checks
	relays       *relays
	mailbox      mailbox
	mapper       *portmap.Mapper // nil: no port is mapped
	tasks        sync.WaitGroup
	started      time.Time
	strangers    *rate.Limiter // probes with a tag that is looked for among all peers

	// Owned by Run.
	key, other tunnel.PrivateKey // in use, and the next or former one; zero for none
	mode       postquantum.Mode
	keep       bool // a path to every peer
	turns      turns
	pairs      map[tunnel.PublicKey]*pair // by the key of the map
	byID       map[string]*pair
	directory  directory
	held       []heldBox
	ticking    bool            // pairs are looked at ten times a second
	allocation *allocation     // nil: no relay at the moment
	outside    outside         // this machine as servers see it
	mapping    portmap.Mapping // the zero value: no gateway forwards to us

	mu       sync.Mutex // guards all below
	status   map[string]published
	tags     map[string]*prober // by the tag of the peer's probes
	memory   memory
	stunURLs []string
	gateway  GatewayStatus
	network  NetworkStatus // but for its gateway
	told     postquantum.Mode
}

type heldBox struct {
	from string
	box  []byte
	at   time.Time
}

// New checks the configuration. Nothing happens before Run.
func New(cfg Config) (*Pathfinder, error) {
	if cfg.Logger == nil || cfg.PrivateKey.IsZero() || cfg.Bind == nil || cfg.Signal == nil {
		return nil, errConfig
	}
	cfg.MTU = cmp.Or(cfg.MTU, tunnel.DefaultMTU)
	p := &Pathfinder{
		cfg: cfg, log: cfg.Logger, started: time.Now(),
		key:          cfg.PrivateKey,
		mode:         postquantum.Off,
		transactions: newTransactions(),
		checks:       newChecks(cfg.Bind),
		mailbox:      newMailbox(),
		pairs:        make(map[tunnel.PublicKey]*pair),
		byID:         make(map[string]*pair),
		told:         postquantum.Off,
		directory:    newDirectory(),
		turns:        newTurns(),
		outside:      newOutside(),
		status:       make(map[string]published),
		tags:         make(map[string]*prober),
		strangers:    rate.NewLimiter(strangersPerSecond, strangersBurst),
		memory:       newMemory(cfg.Known, cfg.Learned),
	}
	p.relays = &relays{
		log: cfg.Logger, bind: cfg.Bind, transactions: p.transactions, mark: cfg.Mark, names: cfg.Resolver, allowed: cfg.Transports,
		changed: make(chan struct{}, 1), streaming: make(chan struct{}, 1),
		up:   func(a *allocation) { p.post(func(ctx context.Context) { p.relayUp(ctx, a) }) },
		down: func(a *allocation) { p.post(func(context.Context) { p.relayDown(a) }) },
	}
	if cfg.MapPort {
		var err error
		p.mapper, err = portmap.New(portmap.Config{Logger: cfg.Logger, Port: cfg.Bind.Port, Changed: p.mapped})
		if err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Run works until ctx ends, then waits for all it has started and returns nil.
// It may be called once.
func (p *Pathfinder) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reading, stopReading := context.WithCancel(context.WithoutCancel(ctx))
	p.tasks.Go(func() {
		defer stopReading() // the answer to the release of the allocation is read too
		p.relays.run(ctx)
	})
	p.tasks.Go(func() { p.readSTUN(reading) })
	p.tasks.Go(func() { p.readEvents(ctx) })
	if p.mapper != nil {
		p.tasks.Go(func() { _ = p.mapper.Run(ctx) }) // always nil
	}
	ticker := time.NewTicker(tickInterval)
	ticker.Stop()
	for ctx.Err() == nil {
		if awake := p.anyAwake(); awake != p.ticking {
			if p.ticking = awake; awake {
				ticker.Reset(tickInterval)
			} else {
				ticker.Stop()
			}
		}
		select {
		case <-p.mailbox.ready:
			for _, work := range p.mailbox.take() {
				work(ctx)
			}
		case <-ticker.C:
			p.tick(ctx, time.Now())
		case <-ctx.Done():
		}
	}
	p.memory.closed = true
	for _, pr := range p.pairs {
		p.sleep(pr)
	}
	cancel()
	p.tasks.Wait()
	p.mailbox.close()
	return nil
}

// SetPeers makes peers the ones that paths are kept to, by ID. A peer that stays
// is not disturbed.
func (p *Pathfinder) SetPeers(peers table.Table[string, Peer]) {
	p.post(func(ctx context.Context) { p.know(ctx, peers) })
}

// SetRelays replaces the relays and their credentials. The same relays again
// change nothing; new credentials are taken over while the allocation lives.
// It reports URLs that it cannot use and uses the others.
func (p *Pathfinder) SetRelays(list []Relay) error {
	p.mu.Lock()
	p.stunURLs = stunServers(list)
	p.mu.Unlock()
	err := p.relays.set(list)
	p.post(func(ctx context.Context) { p.askMapped(ctx) })
	return err
}

// HandleSignal takes a sealed message that the control plane has delivered
// from the peer with this ID. It never blocks and keeps no part of box.
func (p *Pathfinder) HandleSignal(from string, box []byte) {
	if len(box) > MaximumBox {
		p.log.Debug("signal refused", "peer", from, "error", errBoxSize.Error())
		return
	}
	box = slices.Clone(box)
	p.post(func(ctx context.Context) { p.handleSignal(ctx, from, box, time.Now()) })
}

// Wake finds a path to a peer before there is anything to send.
func (p *Pathfinder) Wake(peerID string) {
	p.post(func(ctx context.Context) {
		if pr := p.pairOfID(ctx, peerID); pr != nil {
			p.wake(ctx, pr)
		}
	})
}

// NetworkChanged says that addresses, routes or links have changed, or that
// the machine has slept: awake pairs are checked, those with traffic at once.
// Nothing is restarted.
func (p *Pathfinder) NetworkChanged() {
	p.cfg.Bind.NetworkChanged()
	p.relays.networkChanged()
	if p.mapper != nil {
		p.mapper.NetworkChanged()
	}
	p.post(func(ctx context.Context) {
		p.outside.forget()
		p.publishNetwork()
		p.askMapped(ctx)
		p.lookAgain(ctx)
	})
}

// RelayStatus returns what is known about this machine's allocation.
func (p *Pathfinder) RelayStatus() RelayStatus {
	p.relays.mu.Lock()
	defer p.relays.mu.Unlock()
	return p.relays.status
}

// post hands work to the loop. Work posted after Run has ended is dropped.
func (p *Pathfinder) post(work func(ctx context.Context)) { p.mailbox.put(work) }

// task runs work beside the loop; Run waits for it. Work must not read the fields
// of a pair, which are the loop's.
func (p *Pathfinder) task(work func()) { p.tasks.Go(work) }

// anyAwake reports whether there is something to look at again and again.
func (p *Pathfinder) anyAwake() bool {
	for _, pr := range p.pairs {
		if pr.awake {
			return true
		}
	}
	return len(p.held)+len(p.turns.waiting) > 0
}

// handleSignal opens a message, or holds it while its sender is not in the map.
func (p *Pathfinder) handleSignal(ctx context.Context, from string, box []byte, at time.Time) {
	pr := p.pairOfID(ctx, from)
	if pr == nil {
		if len(p.held) == heldLimit {
			p.held = slices.Delete(p.held, 0, 1)
		}
		p.held = append(p.held, heldBox{from: from, box: box, at: at})
		return
	}
	message, restarted, err := p.open(pr, box)
	if err == nil {
		var h *hello
		if h, err = decodeHello(message); err == nil {
			p.handleHello(ctx, pr, h, restarted)
			return
		}
	}
	p.log.Debug("signal refused", "peer", from, "error", err.Error())
}

func (p *Pathfinder) tryHeld(ctx context.Context, now time.Time) {
	waiting := p.held
	p.held = nil
	for _, h := range waiting {
		if now.Sub(h.at) < heldAge {
			p.handleSignal(ctx, h.from, h.box, h.at)
		}
	}
}

func (p *Pathfinder) tick(ctx context.Context, now time.Time) {
	p.held = slices.DeleteFunc(p.held, func(h heldBox) bool { return now.Sub(h.at) >= heldAge })
	for _, pr := range p.pairs {
		if pr.awake {
			p.tickPair(ctx, pr, now)
		}
	}
	p.takeTurns(ctx, now)
}

func (p *Pathfinder) relayUp(ctx context.Context, a *allocation) {
	p.allocation = a
	if !a.relay.Streaming() {
		p.outside.note(a.relay.Server(), a.mapped, p.localAddresses())
	}
	p.publishNetwork()
	for _, pr := range p.pairs {
		if !pr.awake {
			continue
		}
		p.useRelay(ctx, pr)
		p.sendHello(ctx, pr)
	}
}

func (p *Pathfinder) relayDown(a *allocation) {
	if p.allocation != a {
		return
	}
	p.allocation = nil
	for _, pr := range p.pairs {
		pr.relay, pr.bound, pr.relayError = nil, time.Time{}, ""
		p.route(pr)
	}
}

// readEvents takes what the tunnel has seen to the loop.
func (p *Pathfinder) readEvents(ctx context.Context) {
	for {
		event, err := p.cfg.Bind.Next(ctx)
		if err != nil {
			return
		}
		if event.Kind == tunnel.RelayLost {
			p.relays.lose(event.Relay, errStreamEnded)
			continue
		}
		p.post(func(ctx context.Context) {
			if pr := p.pairOfKey(ctx, event.Peer); pr != nil {
				p.handleEvent(ctx, pr, event)
			}
		})
	}
}

// readSTUN reads the STUN messages of the tunnel's sockets.
func (p *Pathfinder) readSTUN(ctx context.Context) {
	for {
		raw, err := p.cfg.Bind.ReadSTUN(ctx)
		if err != nil {
			return
		}
		p.sortSTUN(raw)
	}
}

// sortSTUN hands responses to whom waits for them, answers probes, and gives
// checks to their ICE agent. Anybody can have sent the message.
func (p *Pathfinder) sortSTUN(raw tunnel.STUNMessage) {
	m := &stun.Message{Raw: raw.Payload}
	if m.Decode() != nil {
		return
	}
	response := m.Type.Class == stun.ClassSuccessResponse || m.Type.Class == stun.ClassErrorResponse
	switch {
	case response && p.transactions.deliver(m):
	case m.Type == stun.BindingRequest && p.answerProbe(m, raw):
	case m.Type == stun.NewType(stun.MethodBinding, stun.ClassIndication) && raw.Relay != nil && !raw.Addr.IsValid():
		p.relays.question(raw.Relay) // it has something to say: look at the allocation
	case raw.Relay == nil:
		p.checks.deliver(m, raw)
	}
}

package engine

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/wattlenet/wattle/agent/internal/control"
	"github.com/wattlenet/wattle/agent/internal/identity"
	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/generated/sdk"
	"github.com/wattlenet/wattle/internal/program"
)

// Choices of ours.
const (
	defaultUpTimeout = 60 * time.Second

	// patience is how long up waits for a control plane that does not answer
	// before it says so; the daemon goes on trying.
	patience = 5 * time.Second

	// reachLimit is how long enrolment waits for a first connection to stand before
	// it asks for one itself.
	reachLimit = time.Second
)

// Up enrols the machine if it is no peer yet, connects it and waits until it is
// usable. Calling it again does no harm.
func (e *Engine) Up(ctx context.Context, request local.UpRequest) error {
	timeout := time.Duration(request.TimeoutSeconds * float64(time.Second))
	if timeout <= 0 {
		timeout = defaultUpTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := checked(request)
	if err != nil {
		return err
	}
	if err := e.bringUp(ctx, request); err != nil {
		return err
	}
	err = e.waitUsable(ctx)
	if !errors.Is(err, errUnknownHere) || request.SetupKey == "" || request.ManagementURL == "" {
		return err
	}
	// The peer was deleted while this machine was away: become another one.
	if err := e.forgetUnknown(); err != nil {
		return err
	}
	if err := e.bringUp(ctx, request); err != nil {
		return err
	}
	return e.waitUsable(ctx)
}

// errUnknownHere means that the control plane does not accept this machine's
// token.
var errUnknownHere = errors.New("the control plane does not know this machine")

func (e *Engine) forgetUnknown() error {
	e.commands.Lock()
	defer e.commands.Unlock()
	return e.forget()
}

// checked brings what the user gave into its one form, or says what is wrong
// with it before anything happens.
func checked(request local.UpRequest) (local.UpRequest, error) {
	var err error
	if request.ManagementURL != "" {
		if request.ManagementURL, err = control.ParseAddress(request.ManagementURL, request.InsecureHTTP); err != nil {
			return request, local.Errorf(program.ExitUsage, "%v", err)
		}
	}
	if request.CAPin != "" {
		if request.CAPin, err = control.ParsePin(request.CAPin); err != nil {
			return request, local.Errorf(program.ExitUsage, "%v", err)
		}
	}
	if strings.ContainsFunc(request.SetupKey, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return request, local.Errorf(program.ExitUsage, "the setup key holds spaces or characters that no setup key has; copy it again")
	}
	return request, nil
}

func (e *Engine) bringUp(ctx context.Context, request local.UpRequest) error {
	select {
	case <-e.started:
	case <-ctx.Done():
		return ctx.Err()
	}
	e.commands.Lock()
	defer e.commands.Unlock()
	mine, running, _ := e.now()
	if mine == nil || !mine.Enrolled() {
		return e.enrol(ctx, request)
	}
	next, err := merge(mine, request)
	if err != nil {
		return err
	}
	if running != nil && next == mine.CAPin && mine.Up {
		return nil
	}
	changed := *mine
	changed.CAPin, changed.Up = next, true
	if next != mine.CAPin {
		if err := e.tryPin(ctx, &changed); err != nil {
			return err
		}
	}
	if err := e.amend(func(i *identity.Identity) { i.CAPin, i.Up = next, true }); err != nil {
		return err
	}
	e.disconnect(endsToReopen)
	return openError(e.connect(nil))
}

// merge returns the pin of an enrolled machine, the one thing that up may
// change, and refuses another control plane.
func merge(mine *identity.Identity, request local.UpRequest) (pin string, err error) {
	if request.ManagementURL != "" && request.ManagementURL != mine.ManagementURL {
		return "", local.Errorf(program.ExitFailed, "this machine is enrolled at %s; run `wattle logout` before joining %s", mine.ManagementURL, request.ManagementURL)
	}
	return cmp.Or(request.CAPin, mine.CAPin), nil
}

// tryPin asks the control plane whether it has the new pin: a wrong one must
// not replace one that works.
func (e *Engine) tryPin(ctx context.Context, changed *identity.Identity) error {
	client, err := control.NewClient(e.clientConfig(changed))
	if err != nil {
		return local.Errorf(program.ExitUsage, "%v", err)
	}
	defer client.Close()
	err = client.Reach(ctx)
	var own *local.Error
	if err != nil && errors.As(explain(err, changed.ManagementURL, client.ClockOffset()), &own) {
		return local.Errorf(own.Code, "the new pin was not taken: %s", own.Message)
	}
	return err
}

// enrol makes the machine a peer. The tunnel is opened first, so that a machine
// that cannot have one uses no setup key. The caller holds commands.
func (e *Engine) enrol(ctx context.Context, request local.UpRequest) error {
	if request.ManagementURL == "" {
		return local.Errorf(program.ExitNotEnrolled, "this machine is not enrolled; name the control plane with --management-url and a setup key with --setup-key-file")
	}
	if request.SetupKey == "" {
		return local.Errorf(program.ExitNotEnrolled, "this machine is not enrolled; give a setup key with --setup-key-file")
	}
	candidate, err := e.candidate(request)
	if err != nil {
		return err
	}
	client, err := control.NewClient(e.clientConfig(candidate))
	if err != nil {
		return local.Errorf(program.ExitUsage, "%v", err)
	}
	signals := &laterSignaler{}
	memory := newPathMemory(e.log, e.config.Store, "", e.time())
	machine, network, err := e.prepare(ctx, candidate, client, signals, memory)
	if err != nil {
		client.Close()
		return err
	}
	facts, err := e.sight(machine, network).Facts(nil)
	if err != nil {
		e.log.Warn("not all facts of this machine are seen", "error", err)
	}
	result, err := client.Enroll(ctx, request.SetupKey, request.ExtraDNSLabels, facts)
	if err != nil {
		client.Close()
		return errors.Join(explain(err, candidate.ManagementURL, client.ClockOffset()), machine.close(endsForGood))
	}
	mine := *candidate
	mine.PeerID, mine.AccountID, mine.Issuer = result.PeerId, result.AccountId, result.Issuer
	mine.Epoch, mine.Name, mine.Up = result.Epoch, result.Name, true
	mine.ListenPort, mine.Interface = machine.Port(), machine.Interface
	session, err := client.As(&mine)
	if err != nil {
		return errors.Join(err, machine.close(endsForGood))
	}
	signals.client.Store(session)
	return e.begin(candidate, &mine, func() error { return e.start(&mine, session, machine, network, memory) })
}

// prepare does at one time what must be done before a setup key is used: the keys
// go to disk, the parts on this host are opened, and the control plane is asked
// for anything, so that a connection stands.
func (e *Engine) prepare(ctx context.Context, mine *identity.Identity, client *control.Client, signals signaler, memory *pathMemory) (*Machine, *overlay, error) {
	var others sync.WaitGroup
	var unsaved error
	others.Go(func() {
		if unsaved = e.config.Store.Save(mine); unsaved == nil {
			e.setIdentity(mine)
		}
	})
	others.Go(func() {
		limited, cancel := context.WithTimeout(ctx, reachLimit)
		defer cancel()
		_ = client.Reach(limited) // enrolment meets the same error, and tells it
	})
	machine, network, err := e.open(mine, signals, memory)
	others.Wait()
	if err != nil {
		return nil, nil, errors.Join(openError(err), unsaved)
	}
	if unsaved != nil {
		return nil, nil, errors.Join(unsaved, machine.close(endsForGood))
	}
	if err := e.config.Store.ForgetMap(); err != nil {
		e.log.Warn("former network map not forgotten", "error", err)
	}
	return machine, network, nil
}

// begin starts the link of a machine that has just become mine, and meanwhile
// writes down that it has. When that fails the machine is the candidate again,
// whose keys are on disk: the next up becomes the same peer.
func (e *Engine) begin(candidate, mine *identity.Identity, start func() error) error {
	e.amending.Lock() // nothing newer is overwritten
	e.setIdentity(mine)
	saved := make(chan error, 1)
	go func() {
		defer e.amending.Unlock()
		saved <- e.config.Store.Save(mine)
	}()
	err := start()
	unsaved := <-saved
	if unsaved != nil {
		e.disconnect(endsForGood)
		e.setIdentity(candidate)
	}
	return errors.Join(err, unsaved)
}

// candidate returns an identity that is not a peer yet. Its keys must be on disk
// before they are used: a machine that loses power between enrolment and its
// answer enrols as the same peer.
func (e *Engine) candidate(request local.UpRequest) (*identity.Identity, error) {
	mine, _, _ := e.now()
	if mine == nil {
		fresh, err := identity.New()
		if err != nil {
			return nil, err
		}
		mine = fresh
	}
	next := *mine
	next.ManagementURL, next.CAPin = request.ManagementURL, request.CAPin
	return &next, nil
}

func (e *Engine) setIdentity(i *identity.Identity) {
	e.mu.Lock()
	e.identity = i
	e.mu.Unlock()
	e.broadcast()
}

// waitUsable waits until the map is in force, or says why that will take time.
func (e *Engine) waitUsable(ctx context.Context) error {
	patient := time.NewTimer(patience)
	defer patient.Stop()
	for impatient := false; ; {
		change := e.Watch()
		mine, running, notice := e.now()
		if running == nil {
			return local.Errorf(program.ExitNotEnrolled, "%s", cmp.Or(notice, "the machine was disconnected meanwhile"))
		}
		if running.ready() {
			return nil
		}
		state, _, applied, faults := running.snapshot()
		if sdk.IsUnauthenticated(state.Err) {
			return errors.Join(errUnknownHere, explain(state.Err, mine.ManagementURL, state.ClockOffset))
		}
		if err := state.Err; err != nil && (impatient || hopeless(err)) {
			return upError(explain(err, mine.ManagementURL, state.ClockOffset), applied != nil)
		}
		if impatient && len(faults) > 0 {
			return local.Errorf(program.ExitFailed, "the network map was not applied: %s", faults[0])
		}
		select {
		case <-change:
		case <-patient.C:
			impatient = true
		case <-ctx.Done():
			if state.Err != nil {
				return upError(explain(state.Err, mine.ManagementURL, state.ClockOffset), applied != nil)
			}
			return local.Errorf(program.ExitTimedOut, "not usable within the time; `wattle status` tells the state, the daemon goes on trying")
		}
	}
}

// upError adds that the machine works without the control plane, if it does.
func upError(err error, working bool) error {
	var own *local.Error
	if working && errors.As(err, &own) {
		return local.Errorf(own.Code, "%s; the machine works with its last network map meanwhile", own.Message)
	}
	return err
}

// hopeless reports errors that waiting does not mend.
func hopeless(err error) bool {
	var pin *sdk.PinError
	var authority x509.UnknownAuthorityError
	return errors.As(err, &pin) || errors.As(err, &authority) || errors.Is(err, control.ErrOlder)
}

// explain turns an error of the control plane into a sentence with cause and
// next step, and an exit code.
func explain(err error, url string, offset time.Duration) error {
	var pin *sdk.PinError
	var authority x509.UnknownAuthorityError
	problem, answered := sdk.AsProblem(err)
	switch {
	case errors.As(err, &pin):
		return local.Errorf(program.ExitControlPlaneUnreachable,
			"the server at %s does not have the pin %s, but %s; check the URL and compare the pin with the server's credentials",
			url, pin.Want, cmp.Or(lastOf(pin.Got), "none"))
	case errors.As(err, &authority):
		return local.Errorf(program.ExitControlPlaneUnreachable,
			"the certificate of %s comes from an authority that this machine does not know; give its pin with --ca-pin, it stands in the server's credentials", url)
	case control.Foreign(err):
		return local.Errorf(program.ExitControlPlaneUnreachable, "something else answers in the place of the control plane %s: %v; check the URL", url, root(err))
	case sdk.IsInvalidSetupKey(err):
		return local.Errorf(program.ExitNotEnrolled, "%s", problem.Detail)
	case sdk.IsClockSkew(err):
		return local.Errorf(program.ExitFailed, "the control plane refuses the time of this machine, whose clock is off by %s; set the clock", offset.Round(time.Second))
	case sdk.IsUnauthenticated(err):
		return local.Errorf(program.ExitNotEnrolled, "the control plane does not know this machine any more (%s); `wattle up` with --management-url and a setup key enrols it again", shortened(problem.Detail))
	case sdk.IsUnreachable(err):
		return local.Errorf(program.ExitControlPlaneUnreachable, "the control plane %s cannot be reached: %v; check the URL, and whether the server runs", url, root(err))
	case answered:
		return local.Errorf(program.ExitFailed, "the control plane refused: %s", problem.Detail)
	}
	return local.Errorf(program.ExitFailed, "%v", err)
}

// lastOf returns the pin of the authority, which stands behind the leaf's.
func lastOf(pins []string) string {
	if len(pins) == 0 {
		return ""
	}
	return pins[len(pins)-1]
}

// root returns the innermost error: a refused connection needs no four layers.
func root(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// shortened leaves the advice of the control plane out of a detail.
func shortened(detail string) string {
	cause, _, _ := strings.Cut(detail, ";")
	return cause
}

// listening returns the part of an error that names the port.
func listening(err error) error {
	if operation, ok := errors.AsType[*net.OpError](err); ok {
		return operation
	}
	return err
}

// openError says what to do when the tunnel cannot be opened.
func openError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EADDRINUSE):
		return local.Errorf(program.ExitFailed, "the tunnel's UDP port is in use: %v; stop the other program or start the daemon with another --listen-port", listening(err))
	}
	return fmt.Errorf("open the tunnel: %w", err)
}

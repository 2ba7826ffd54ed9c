package engine

import (
	"context"
	"time"

	"github.com/wattlenet/wattle/agent/internal/control"
	"github.com/wattlenet/wattle/agent/internal/identity"
	"github.com/wattlenet/wattle/agent/internal/local"
)

// withdrawTimeout bounds the deletion of the peer at logout.
const withdrawTimeout = 10 * time.Second

// Down disconnects the machine and leaves the host as it was.
func (e *Engine) Down(ctx context.Context) error {
	e.commands.Lock()
	defer e.commands.Unlock()
	e.mu.Lock()
	mine := e.identity
	e.mu.Unlock()
	if mine == nil || !mine.Enrolled() {
		return nil
	}
	if err := e.amend(func(i *identity.Identity) { i.Up = false }); err != nil {
		return err
	}
	e.mu.Lock()
	e.notice = ""
	e.mu.Unlock()
	e.disconnect(endsForGood)
	// A tunnel that could not be opened has put nothing back.
	return e.config.Restore(ctx)
}

// Logout forgets the identity, and deletes the peer when asked. When the
// deletion fails nothing is forgotten.
func (e *Engine) Logout(ctx context.Context, request local.LogoutRequest) error {
	e.commands.Lock()
	defer e.commands.Unlock()
	e.mu.Lock()
	mine := e.identity
	e.mu.Unlock()
	if mine == nil {
		return nil
	}
	if request.Delete && mine.Enrolled() {
		client, err := control.NewClient(e.clientConfig(mine))
		if err != nil {
			return err
		}
		limited, cancel := context.WithTimeout(ctx, withdrawTimeout)
		defer cancel()
		defer client.Close()
		if err := client.Withdraw(limited); err != nil {
			return explain(err, mine.ManagementURL, client.ClockOffset())
		}
	}
	return e.forget()
}

// forgetRemoved forgets a peer that the control plane has deleted. The address
// of the control plane stays, for the next enrolment.
func (e *Engine) forgetRemoved(l *link) {
	e.commands.Lock()
	defer e.commands.Unlock()
	e.mu.Lock()
	mine := e.link == l
	e.mu.Unlock()
	if !mine {
		return
	}
	e.log.Warn("peer removed by the control plane")
	if err := e.forget(); err != nil {
		e.log.Error("identity not forgotten", "error", err)
	}
	e.setNotice(control.ErrRemoved.Error())
}

// forget drops link and identity. The caller holds commands.
func (e *Engine) forget() error {
	e.disconnect(endsForGood)
	if err := e.config.Restore(context.Background()); err != nil {
		e.log.Error("host not put back", "error", err)
	}
	err := e.config.Store.Forget()
	e.mu.Lock()
	if err == nil {
		former := e.identity
		e.identity = nil
		if former != nil {
			e.notice = ""
		}
	}
	e.mu.Unlock()
	e.broadcast()
	return err
}

// disconnect ends the link if there is one. The caller holds commands.
func (e *Engine) disconnect(why ending) {
	e.mu.Lock()
	stop := e.stop
	e.link, e.stop = nil, nil
	e.mu.Unlock()
	if stop != nil {
		stop(why)
		e.broadcast()
	}
}

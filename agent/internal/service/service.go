// Package service is what the service manager of the system has to do with the daemon.
//
// It is told how the daemon fares: on systemd by the messages of sd_notify(3); without one
// nothing is told to anybody.
package service

import (
	"context"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Ready says that the commands of this machine are answered from now on.
func Ready() error { return tell(daemon.SdNotifyReady) }

// Stopping says that the daemon puts the host back and ends.
func Stopping() error { return tell(daemon.SdNotifyStopping) }

func tell(state string) error {
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	return nil
}

// Watch tells the watchdog, as often as it wants to hear, that alive returned;
// the service manager restarts a daemon that hangs. It returns nil when ctx ends,
// or at once where nobody watches.
func Watch(ctx context.Context, alive func(context.Context)) error {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	if limit == 0 {
		return nil
	}
	ticker := time.NewTicker(limit / 2)
	defer ticker.Stop()
	for {
		alive(ctx)
		if err := tell(daemon.SdNotifyWatchdog); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"
)

// The service of Windows.
const (
	serviceName = "Wattle"

	// restartDelay and forgetFailures are when a daemon that has failed is started
	// again, and after how many seconds of peace its failures no longer count.
	restartDelay   = 2 * time.Second
	forgetFailures = 3600

	// stopHint is how long the end of a tunnel may take: rules, routes and names are
	// put back.
	stopHint = 30 * time.Second

	// maxLog bounds the log of the service in bytes: a longer one is laid aside when
	// the service starts.
	maxLog = 16 << 20
)

// A handler is what the service manager talks to.
type handler func(requests <-chan svc.ChangeRequest, changes chan<- svc.Status) (failed bool)

// Execute runs the service.
func (h handler) Execute(_ []string, requests <-chan svc.ChangeRequest, changes chan<- svc.Status) (specific bool, code uint32) {
	if h(requests, changes) {
		return true, 1
	}
	return false, 0
}

// Daemon runs the daemon until ctx ends or, in a process that the service manager
// has started, until that says so. There what it writes goes to a file, since
// nobody reads the standard error.
func Daemon(ctx context.Context, serve func(context.Context) error) error {
	asked, err := svc.IsWindowsService()
	if err != nil {
		return fmt.Errorf("ask whether this is a service: %w", err)
	}
	if !asked {
		return serve(ctx)
	}
	log, err := openLog()
	if err != nil {
		return err
	}
	os.Stderr = log
	var failure error
	err = svc.Run(serviceName, handler(func(requests <-chan svc.ChangeRequest, changes chan<- svc.Status) bool {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- serve(ctx) }()
		changes <- svc.Status{State: svc.Running, Accepts: svc.AcceptStop | svc.AcceptShutdown}
		for {
			select {
			case failure = <-ended:
				return failure != nil
			case request := <-requests:
				switch request.Cmd {
				case svc.Interrogate:
					changes <- request.CurrentStatus
				case svc.Stop, svc.Shutdown:
					changes <- svc.Status{State: svc.StopPending, WaitHint: uint32(stopHint / time.Millisecond)}
					cancel()
				}
			}
		}
	}))
	if failure != nil {
		_, _ = fmt.Fprintln(log, failure) // the log is all there is
	}
	return errors.Join(err, failure, log.Close())
}

// openLog opens the log of the service below %ProgramData%.
func openLog() (*os.File, error) {
	path := filepath.Join(os.Getenv("ProgramData"), "Wattle", "wattle.log")
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if info, statErr := os.Stat(path); err == nil && statErr == nil && info.Size() > maxLog {
		err = os.Rename(path, path+".old")
	}
	if err != nil {
		return nil, fmt.Errorf("open the log of the service: %w", err)
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}

// errNoRoot is for what only a running Windows can do.
var errNoRoot = errors.New("a service of Windows is no file; leave --root out, on the machine itself")

// Install makes the service, which starts with the machine and again after a
// failure, and starts it. One that is there is brought into this form.
func Install(_ context.Context, program, root string) error {
	if root != "" {
		return errNoRoot
	}
	return withManager("install the service", func(m *mgr.Mgr) (err error) {
		config := mgr.Config{DisplayName: "Wattle agent", Description: "Holds the tunnel of the Wattle network of this machine.", StartType: mgr.StartAutomatic}
		s, err := m.OpenService(serviceName)
		if errors.Is(err, windows.ERROR_SERVICE_DOES_NOT_EXIST) {
			s, err = m.CreateService(serviceName, program, config, "daemon")
		} else if err == nil {
			var former mgr.Config
			if former, err = s.Config(); err == nil {
				former.BinaryPathName = windows.ComposeCommandLine([]string{program, "daemon"})
				former.DisplayName, former.Description, former.StartType = config.DisplayName, config.Description, config.StartType
				err = s.UpdateConfig(former)
			}
		}
		if s == nil {
			return err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		if err == nil {
			err = s.SetRecoveryActions([]mgr.RecoveryAction{{Type: mgr.ServiceRestart, Delay: restartDelay}}, forgetFailures)
		}
		if err == nil {
			err = s.SetRecoveryActionsOnNonCrashFailures(true)
		}
		if err != nil {
			return err
		}
		if err := s.Start(); err != nil && !errors.Is(err, windows.ERROR_SERVICE_ALREADY_RUNNING) {
			return err
		}
		return nil
	})
}

// Remove stops the service and deletes it; it is gone when it has ended.
func Remove(_ context.Context, _, root string) error {
	if root != "" {
		return errNoRoot
	}
	return withManager("remove the service", func(m *mgr.Mgr) (err error) {
		s, err := m.OpenService(serviceName)
		if errors.Is(err, windows.ERROR_SERVICE_DOES_NOT_EXIST) {
			return nil
		}
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		if _, err := s.Control(svc.Stop); err != nil && !errors.Is(err, windows.ERROR_SERVICE_NOT_ACTIVE) {
			return err
		}
		return s.Delete()
	})
}

// Files are none: services stand in the registry.
func Files(string) ([]File, error) { return nil, nil }

func withManager(what string, do func(*mgr.Mgr) error) error {
	m, err := mgr.Connect()
	if err == nil {
		err = errors.Join(do(m), m.Disconnect())
	}
	if errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		return fmt.Errorf("%s: %w; run the command as administrator", what, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

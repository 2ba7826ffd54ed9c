package program

import (
	"context"
	"errors"
	"fmt"
)

// The exit codes of every program of Wattle. Scripts rely on them.
const (
	ExitDone                    = 0
	ExitFailed                  = 1
	ExitUsage                   = 2
	ExitDaemonUnreachable       = 3
	ExitNotEnrolled             = 4
	ExitTimedOut                = 5
	ExitDenied                  = 6
	ExitControlPlaneUnreachable = 7
	ExitDifferent               = 10
)

// An ExitError ends a program with a code of its own.
type ExitError struct {
	// Code is one of the Exit constants, not ExitDone.
	Code int

	// Err is shown to the user: one sentence, the cause, the next step.
	Err error
}

// Error returns the text of the wrapped error.
func (e *ExitError) Error() string { return e.Err.Error() }

// Unwrap returns the wrapped error.
func (e *ExitError) Unwrap() error { return e.Err }

// Exit makes an ExitError out of a format.
func Exit(code int, format string, args ...any) error {
	return &ExitError{Code: code, Err: fmt.Errorf(format, args...)}
}

// Usage makes the error of a command line that cannot be understood.
func Usage(format string, args ...any) error {
	return Exit(ExitUsage, format, args...)
}

// Code returns the exit code for the error of a command. A deadline that
// nobody gave a code counts as timed out.
func Code(err error) int {
	var exit *ExitError
	switch {
	case err == nil:
		return ExitDone
	case errors.As(err, &exit):
		return exit.Code
	case errors.Is(err, context.DeadlineExceeded):
		return ExitTimedOut
	default:
		return ExitFailed
	}
}

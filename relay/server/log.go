package server

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/pion/logging"
)

// pionLog gives pion's log lines to an slog logger. All of them become debug:
// most can be caused by strangers who send rubbish, and none of them asks the
// operator to do something. What does is logged by this package itself.
type pionLog struct{ log *slog.Logger }

func (p pionLog) NewLogger(scope string) logging.LeveledLogger {
	return pionLog{log: p.log.With("scope", scope)}
}

func (p pionLog) write(message func() string) {
	if p.log.Enabled(context.Background(), slog.LevelDebug) {
		p.log.Debug("turn", "message", message())
	}
}

func (p pionLog) text(message string) { p.write(func() string { return message }) }

func (p pionLog) format(format string, args []any) {
	p.write(func() string { return fmt.Sprintf(format, args...) })
}

func (p pionLog) Trace(string)          {}
func (p pionLog) Tracef(string, ...any) {}

func (p pionLog) Debug(message string)              { p.text(message) }
func (p pionLog) Debugf(format string, args ...any) { p.format(format, args) }
func (p pionLog) Info(message string)               { p.text(message) }
func (p pionLog) Infof(format string, args ...any)  { p.format(format, args) }
func (p pionLog) Warn(message string)               { p.text(message) }
func (p pionLog) Warnf(format string, args ...any)  { p.format(format, args) }
func (p pionLog) Error(message string)              { p.text(message) }
func (p pionLog) Errorf(format string, args ...any) { p.format(format, args) }

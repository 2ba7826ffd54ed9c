package program

import (
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/pflag"
)

// The keys under which log lines name what several programs tell of. Values are ids,
// never keys, tokens or bodies.
const (
	KeyError     = "error"
	KeyOperation = "operation"
	KeyPath      = "path"
	KeyRequest   = "request_id"
)

// Log is how a program logs. The zero value logs text at level info.
type Log struct {
	// Level is debug, info, warn or error; empty means info.
	Level string

	// Format is text or json; empty means text.
	Format string
}

// Flags adds --log-level and --log-format to a command line. With Run they can
// also be given as WATTLE_LOG_LEVEL and WATTLE_LOG_FORMAT.
func (l *Log) Flags(flags *pflag.FlagSet) {
	flags.StringVar(&l.Level, "log-level", "info", "least level that is logged: debug, info, warn or error")
	l.FormatFlag(flags)
}

// FormatFlag adds --log-format alone, for a program whose level is set in
// another way.
func (l *Log) FormatFlag(flags *pflag.FlagSet) {
	flags.StringVar(&l.Format, "log-format", "text", "form of the log lines: text or json")
}

// ParseLevel reads the name of a level; empty means info.
func ParseLevel(name string) (slog.Level, error) {
	switch strings.ToLower(name) {
	case "", "info":
		return slog.LevelInfo, nil
	case "debug":
		return slog.LevelDebug, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, Usage("log level %q is unknown; use debug, info, warn or error", name)
}

// Logger returns the logger that writes to w. An unknown level or format is a
// usage error.
func (l *Log) Logger(w io.Writer) (*slog.Logger, error) {
	level, err := ParseLevel(l.Level)
	if err != nil {
		return nil, err
	}
	return l.Leveled(w, level)
}

// Leveled returns a logger whose level is asked for with each record. An
// unknown format is a usage error.
func (l *Log) Leveled(w io.Writer, level slog.Leveler) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: withUnit}
	switch strings.ToLower(l.Format) {
	case "", "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	default:
		return nil, Usage("log format %q is unknown; use text or json", l.Format)
	}
}

// withUnit writes a duration as 1.5s in every format: the handler for JSON would
// write a number, and leave out that it counts nanoseconds.
func withUnit(_ []string, attr slog.Attr) slog.Attr {
	if attr.Value.Kind() == slog.KindDuration {
		attr.Value = slog.StringValue(attr.Value.Duration().String())
	}
	return attr
}

// Quiet logs nothing.
func Quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

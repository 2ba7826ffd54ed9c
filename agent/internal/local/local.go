// Package local is the API of the daemon on its own machine: JSON over HTTP on a Unix socket.
//
//	GET  /v1/status           anybody who may open the socket
//	GET  /v1/settings         the same
//	POST /v1/wait, /v1/ping, /v1/dns/query, /v1/whois, /v1/access, /v1/trace, /v1/netcheck   the same
//	POST /v1/up, /v1/down, /v1/logout        root, the user of the daemon, or the operator
//	POST /v1/settings, /v1/settings/reload, /v1/log-level, GET /v1/debug   the same
//	POST /v1/key/rotate   the same
//
// Linux, macOS and FreeBSD tell who calls. On Windows the folder of the socket is closed
// to everybody but administrators and the daemon's user, and every caller counts
// as one of them.
package local

import (
	"context"
	"errors"
	"fmt"

	"github.com/wattlenet/wattle/agent/internal/netcheck"
)

// A Daemon is what the API is about.
type Daemon interface {
	Connection
	Keeper
	Looker
}

// A Connection is how the machine stands, and what changes that.
type Connection interface {
	Status(ctx context.Context) Status

	// Watch returns a channel that is closed at the next change of the status.
	Watch() <-chan struct{}

	Up(ctx context.Context, request UpRequest) error
	Down(ctx context.Context) error
	Logout(ctx context.Context, request LogoutRequest) error
	Wait(ctx context.Context, request WaitRequest) error

	// RotateKey replaces the WireGuard key.
	RotateKey(ctx context.Context, request RotateKeyRequest) error
}

// A Keeper keeps settings.
type Keeper interface {
	Settings(ctx context.Context) Settings
	Set(ctx context.Context, request SetRequest) (SetAnswer, error)

	// Reload reads the settings file again.
	Reload(ctx context.Context) error

	// SetLevel changes what is logged until the daemon ends.
	SetLevel(ctx context.Context, request LevelRequest) error

	// Operator is the name of a user who may change the connection; empty for none.
	Operator() string
}

// A Looker answers questions and changes nothing.
type Looker interface {
	// Netcheck measures what the network around the machine lets through.
	Netcheck(ctx context.Context, request NetcheckRequest) (netcheck.Report, error)

	// Debug tells what only the daemon knows about itself.
	Debug(ctx context.Context) Debug

	// Whois says who has an address or a name.
	Whois(ctx context.Context, request WhoisRequest) (WhoisAnswer, error)

	// Access asks the rules in force on this machine about a flow.
	Access(ctx context.Context, request FlowRequest) (AccessAnswer, error)

	// Trace says what each local step does with one packet.
	Trace(ctx context.Context, request FlowRequest) (TraceAnswer, error)

	// Query asks the resolver of the network.
	Query(ctx context.Context, request QueryRequest) (QueryAnswer, error)

	// Ping calls reply for every request that was answered or not. An error of
	// reply ends it.
	Ping(ctx context.Context, request PingRequest, reply func(PingReply) error) error
}

// An Error is a failure that has an exit code of its own.
type Error struct {
	// Code is the exit code of the command (internal/program).
	Code int `json:"code"`

	// Message is one sentence with the cause and the next step.
	Message string `json:"message"`
}

// Error returns the sentence.
func (e *Error) Error() string { return e.Message }

// Errorf makes an Error.
func Errorf(code int, format string, args ...any) error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// asError gives every error a code; 1 is failed.
func asError(err error) *Error {
	if own, ok := errors.AsType[*Error](err); ok {
		return own
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &Error{Code: 5, Message: err.Error()}
	}
	return &Error{Code: 1, Message: err.Error()}
}

// ErrUnreachable means that no daemon listens on the socket.
var ErrUnreachable = errors.New("the wattle daemon does not answer")

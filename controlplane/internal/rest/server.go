// Package rest is the contract over HTTP: it asks state and answers.
//
// A request passes these layers; each one answers with a problem itself when
// it has to:
//
//	request id, panics ─> CORS ─> route ─> credentials ─> permission ─> rate
//	   ─> body ─> idempotency ─> generated server ─> values ─> operation ─> state
package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/state"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/program"
)

// answerDeadline is how long a caller may take to receive an answer. The stream
// sets its own for every line.
const answerDeadline = time.Minute

// readyDeadline is how long the store may take to say that it is there: less than
// what those who ask for readiness usually wait.
const readyDeadline = 900 * time.Millisecond

// setupOperation makes the first owner; a setup token may guard it.
const setupOperation = "SetupInstance"

// Config is what the REST surface needs.
type Config struct {
	// State decides everything; required.
	State *state.State

	// Streams and Signals serve the agents; required.
	Streams Streams
	Signals Signals

	// Authenticator finds out who asks; required.
	Authenticator *auth.Authenticator

	// Rate is how many requests a second one caller may make on average.
	// Zero means DefaultRate, a negative value means no limit.
	Rate float64

	// Logger is told about faults of the server; required.
	Logger *slog.Logger
}

// A Server is the HTTP handler of the control plane.
type Server struct {
	state         *state.State
	streams       Streams
	signals       Signals
	authenticator *auth.Authenticator
	logger        *slog.Logger
	router        *router
	rate          *rateLimit
	kept          *keptLists
	operations    http.Handler
}

var _ api.StrictServerInterface = (*Server)(nil)

// New checks config and returns the handler.
func New(config Config) (*Server, error) {
	switch {
	case config.State == nil:
		return nil, errors.New("rest: State is missing")
	case config.Streams == nil || config.Signals == nil:
		return nil, errors.New("rest: Streams or Signals is missing")
	case config.Authenticator == nil:
		return nil, errors.New("rest: Authenticator is missing")
	case config.Logger == nil:
		return nil, errors.New("rest: Logger is missing")
	}
	if config.Rate == 0 {
		config.Rate = DefaultRate
	}
	s := &Server{
		state:         config.State,
		streams:       config.Streams,
		signals:       config.Signals,
		authenticator: config.Authenticator,
		logger:        config.Logger,
		router:        newRouter(),
		rate:          newRateLimit(config.Rate),
		kept:          newKeptLists(),
	}
	strict := api.NewStrictHandlerWithOptions(s, []api.StrictMiddlewareFunc{s.aroundOperation}, api.StrictHTTPServerOptions{
		RequestErrorHandlerFunc:  s.refuseBinding,
		ResponseErrorHandlerFunc: s.refuse,
	})
	s.operations = api.HandlerWithOptions(strict, api.StdHTTPServerOptions{BaseRouter: new(paths), ErrorHandlerFunc: s.refuseBinding})
	return s, nil
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	lockMethods(r)
	invitePaths(r)
	x := &exchange{requestID: requestID(r), remote: remoteAddress(r), channel: channel(r)}
	r = withExchange(r, x)
	w.Header().Set("X-Request-ID", x.requestID)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerDeadline)) // a recorder in a test has none
	defer s.recoverPanic(w, r)

	switch {
	case r.URL.Path == "/livez":
		writeText(w, http.StatusOK, "alive")
	case r.URL.Path == "/readyz":
		s.ready(w, r)
	case !isContract(r.URL.Path):
		s.refuse(w, r, problem.NotFound("path"))
	default:
		s.serveContract(w, r, x)
	}
}

// serveContract takes a request through the layers up to the operation.
func (s *Server) serveContract(w http.ResponseWriter, r *http.Request, x *exchange) {
	if strings.HasPrefix(r.URL.Path, "/api") {
		allowOrigins(w.Header())
		if r.Method == http.MethodOptions {
			preflight(w)
			return
		}
	}
	if err := s.admit(r, x); err != nil {
		var p *problem.Problem
		if errors.As(err, &p) && p.Kind == problem.KindMethod {
			w.Header().Set("Allow", strings.Join(s.router.allowed(r), ", "))
		}
		s.refuse(w, r, err)
		return
	}
	raw, err := readAny(w, r, x.operation)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(raw))
	preview, err := asksPreview(r, x.operation)
	switch {
	case err != nil:
		s.refuse(w, r, err)
		return
	case preview:
		s.operations.ServeHTTP(w, r.WithContext(state.Preview(r.Context())))
		return
	}
	if repeatable(r, x) {
		s.serveOnce(w, r, raw)
		return
	}
	s.operations.ServeHTTP(w, r)
}

// admit finds the operation and who asks, and decides whether he may. Nobody
// without credentials learns which paths exist.
func (s *Server) admit(r *http.Request, x *exchange) error {
	operation, exists := s.router.find(r)
	x.operation = operation
	limited := auth.Origin(x.remote).String()
	if !exists || operation.Credential != api.NoCredential {
		principal, err := s.authenticator.Authenticate(r.Context(), authorization(r), x.remote)
		if err != nil {
			return err
		}
		x.caller = principal
		limited = principal.AccountID + " " + principal.ID + " " + principal.TokenID
	}
	x.caller.RequestID = x.requestID
	x.caller.Channel = x.channel
	if wait := s.rate.take(limited, time.Now()); wait > 0 {
		return problem.RateLimited(wait)
	}
	switch {
	case operation.ID == setupOperation:
		return s.authenticator.CheckSetup(r.Header.Get("Authorization"), x.remote)
	case exists:
		return auth.Authorize(x.caller, operation)
	case len(s.router.allowed(r)) > 0 && !isLater(r.URL.Path):
		return &problem.Problem{Kind: problem.KindMethod, Detail: fmt.Sprintf("the path has no method %s; see Allow", r.Method)}
	default:
		return problem.NotFound("path")
	}
}

// refuseBinding answers what the generated server cannot bind: a parameter of
// a wrong type. Bodies were checked before.
func (s *Server) refuseBinding(w http.ResponseWriter, r *http.Request, err error) {
	var invalid *api.InvalidParamFormatError
	var tooMany *api.TooManyValuesForParamError
	switch {
	case errors.As(err, &invalid):
		fault := problem.Field(invalid.ParamName, "has a wrong type")
		s.refuse(w, r, problem.Malformed("the parameter "+invalid.ParamName+" has a wrong type", fault))
	case errors.As(err, &tooMany):
		fault := problem.Field(tooMany.ParamName, "is given more than once")
		s.refuse(w, r, problem.Malformed("the parameter "+tooMany.ParamName+" is given more than once", fault))
	default:
		s.refuse(w, r, problem.Malformed("the request cannot be read: "+err.Error()))
	}
}

// recoverPanic answers for a handler that panicked. http.ErrAbortHandler is
// not a fault: it ends a connection on purpose.
func (s *Server) recoverPanic(w http.ResponseWriter, r *http.Request) {
	cause := recover()
	if cause == nil {
		return
	}
	if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(cause)
	}
	s.logger.Error("panic", program.KeyRequest, exchangeOf(r.Context()).requestID, program.KeyError, cause, "stack", string(debug.Stack()))
	s.refuse(w, r, problem.Internal(fmt.Errorf("panic: %v", cause)))
}

// ready answers 200 when the store answers.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyDeadline)
	defer cancel()
	if err := s.state.Ready(ctx); err != nil {
		s.refuse(w, r, problem.Unavailable(time.Second, err))
		return
	}
	writeText(w, http.StatusOK, "ready")
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n")
}

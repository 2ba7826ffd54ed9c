package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"
)

// longestPath is the longest path of a Unix socket that every system takes
// (sun_path of macOS, less its last byte).
const longestPath = 103

// Choices of ours.
const (
	socketMode  = 0o660
	maxRequest  = 64 << 10
	readTimeout = 10 * time.Second

	// stopTimeout bounds the wait for requests in progress at the end.
	stopTimeout = 2 * time.Second
)

// ServerConfig is what a Server needs; all is required.
type ServerConfig struct {
	Logger *slog.Logger
	Socket string // path
	Daemon Daemon
}

// A Server answers on the socket.
type Server struct {
	config   ServerConfig
	listener net.Listener
}

// Listen opens the socket, mode 0660. A socket that a dead daemon left is
// replaced; one that somebody answers on is an error.
func Listen(ctx context.Context, c ServerConfig) (*Server, error) {
	if c.Logger == nil || c.Socket == "" || c.Daemon == nil {
		return nil, errors.New("local: logger, socket and daemon are required")
	}
	if len(c.Socket) > longestPath {
		return nil, fmt.Errorf("the path of the socket %s is longer than %d bytes, which the system does not take; name a shorter one with --socket", c.Socket, longestPath)
	}
	if err := openFolder(filepath.Dir(c.Socket)); err != nil {
		return nil, fmt.Errorf("make the folder of the socket: %w; run as root, or name another place with --socket", err)
	}
	if err := removeStale(ctx, c.Socket); err != nil {
		return nil, err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "unix", c.Socket)
	if err != nil {
		return nil, fmt.Errorf("listen on the socket: %w; run as root, or name another place with --socket", err)
	}
	if err := os.Chmod(c.Socket, socketMode); err != nil {
		return nil, errors.Join(fmt.Errorf("restrict the socket: %w", err), listener.Close())
	}
	if err := lendTo(readers, c.Socket); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return &Server{config: c, listener: listener}, nil
}

// readers is the group that may look, where the machine has one.
const readers = "wattle"

// lendTo gives a socket to a group, if the machine has it and this user may.
func lendTo(group, path string) error {
	if os.Geteuid() != 0 {
		return nil // it belongs to the daemon's own group, which its unit sets
	}
	found, err := user.LookupGroup(group)
	if err != nil {
		return nil //nolint:nilerr // a machine without the group has nobody to let in
	}
	gid, err := strconv.Atoi(found.Gid)
	if err != nil {
		return nil //nolint:nilerr // Windows, where groups have no numbers
	}
	if err := os.Chown(path, -1, gid); err != nil {
		return fmt.Errorf("let the group %s use the socket: %w", group, err)
	}
	return nil
}

func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s exists and is no socket; remove it or name another place with --socket", path)
	}
	var dialer net.Dialer
	if c, err := dialer.DialContext(ctx, "unix", path); err == nil {
		_ = c.Close() // nothing was written
		return fmt.Errorf("another daemon answers on %s; stop it or name another place with --socket", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the socket that a former daemon left: %w", err)
	}
	return nil
}

// connKey carries the connection of a request.
type connKey struct{}

// Serve answers until ctx ends, then waits for the requests in progress.
func (s *Server) Serve(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("GET /v1/status/watch", s.watchStatus)
	mux.HandleFunc("POST /v1/up", changing(s, s.config.Daemon.Up))
	mux.HandleFunc("POST /v1/down", changing(s, func(ctx context.Context, _ struct{}) error { return s.config.Daemon.Down(ctx) }))
	mux.HandleFunc("POST /v1/logout", changing(s, s.config.Daemon.Logout))
	mux.HandleFunc("POST /v1/key/rotate", changing(s, s.config.Daemon.RotateKey))
	mux.HandleFunc("POST /v1/wait", calling(s, s.config.Daemon.Wait))
	mux.HandleFunc("POST /v1/ping", s.ping)
	mux.HandleFunc("POST /v1/dns/query", answering(s, s.config.Daemon.Query))
	mux.HandleFunc("POST /v1/netcheck", answering(s, s.config.Daemon.Netcheck))
	mux.HandleFunc("GET /v1/debug", s.restricted(func(w http.ResponseWriter, r *http.Request) {
		s.write(w, http.StatusOK, s.config.Daemon.Debug(r.Context()))
	}))
	mux.HandleFunc("POST /v1/whois", answering(s, s.config.Daemon.Whois))
	mux.HandleFunc("POST /v1/access", answering(s, s.config.Daemon.Access))
	mux.HandleFunc("POST /v1/trace", answering(s, s.config.Daemon.Trace))
	mux.HandleFunc("GET /v1/settings", func(w http.ResponseWriter, r *http.Request) {
		s.write(w, http.StatusOK, s.config.Daemon.Settings(r.Context()))
	})
	mux.HandleFunc("POST /v1/settings", s.restricted(s.set))
	mux.HandleFunc("POST /v1/settings/reload", changing(s, func(ctx context.Context, _ struct{}) error { return s.config.Daemon.Reload(ctx) }))
	mux.HandleFunc("POST /v1/log-level", changing(s, s.config.Daemon.SetLevel))
	base, cancel := context.WithCancel(ctx)
	defer cancel()
	server := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: readTimeout,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return base },
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ErrorLog:          slog.NewLogLogger(s.config.Logger.Handler(), slog.LevelDebug),
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		stopped <- server.Shutdown(limit)
	})
	defer stop()
	if err := server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the socket: %w", err)
	}
	if err := <-stopped; err != nil {
		return server.Close() // requests that do not end are cut
	}
	return nil
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	s.write(w, http.StatusOK, s.config.Daemon.Status(r.Context()))
}

func (s *Server) write(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		s.config.Logger.Debug("answer not written", "error", err)
	}
}

// fail writes an error. Every failure of a command is one status; the exit code
// tells them apart.
func (s *Server) fail(w http.ResponseWriter, status int, err error) { s.write(w, status, asError(err)) }

// changing wraps a call that needs root, the daemon's own user or the operator.
func changing[T any](s *Server, do func(context.Context, T) error) http.HandlerFunc {
	return s.restricted(calling(s, do))
}

// restricted lets only those in who may change the connection.
func (s *Server) restricted(call http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := mayChange(r.Context(), s.config.Daemon.Operator()); err != nil {
			s.fail(w, http.StatusForbidden, err)
			return
		}
		call(w, r)
	}
}

// mayChange lets root, the daemon's own user and the operator in.
func mayChange(ctx context.Context, operator string) error {
	uid, err := callerOf(ctx)
	if err != nil {
		return err
	}
	if uid == 0 || uid == os.Getuid() || isUser(operator, uid) {
		return nil
	}
	return Errorf(6, "changing the connection needs root; run the command with sudo, or let root name you with `wattle set operator=USER`")
}

// callerOf is the user who calls.
func callerOf(ctx context.Context) (int, error) {
	conn, ok := ctx.Value(connKey{}).(net.Conn)
	if !ok {
		return 0, Errorf(6, "the caller is not known")
	}
	uid, err := callerID(conn)
	if err != nil {
		return 0, Errorf(6, "the caller is not known: %v", err)
	}
	return uid, nil
}

// isUser reports whether uid belongs to the user of a name.
func isUser(name string, uid int) bool {
	if name == "" {
		return false
	}
	found, err := user.Lookup(name)
	return err == nil && found.Uid == strconv.Itoa(uid)
}

// set keeps settings. The operator does not choose the operator.
func (s *Server) set(w http.ResponseWriter, r *http.Request) {
	answering(s, func(ctx context.Context, request SetRequest) (SetAnswer, error) {
		if _, chosen := request.Settings["operator"]; chosen {
			if err := mayChange(ctx, ""); err != nil {
				return SetAnswer{}, Errorf(6, "only root may choose the operator; run the command with sudo")
			}
		}
		return s.config.Daemon.Set(ctx, request)
	})(w, r)
}

// calling wraps a call with a JSON body and no answer but success.
func calling[T any](s *Server, do func(context.Context, T) error) http.HandlerFunc {
	return answering(s, func(ctx context.Context, request T) (struct{}, error) { return struct{}{}, do(ctx, request) })
}

// answering wraps a call with a JSON body and a JSON answer.
func answering[T, A any](s *Server, do func(context.Context, T) (A, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		request, err := read[T](w, r)
		if err != nil {
			s.fail(w, http.StatusBadRequest, err)
			return
		}
		answer, err := do(r.Context(), request)
		if err != nil {
			s.fail(w, http.StatusInternalServerError, err)
			return
		}
		s.write(w, http.StatusOK, answer)
	}
}

func read[T any](w http.ResponseWriter, r *http.Request) (request T, err error) {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&request); err != nil {
		return request, Errorf(2, "the request is not understood: %v; is the daemon as old as the command?", err)
	}
	return request, nil
}

// ping answers with one line for each reply, and a last one with the error if
// there is one.
func (s *Server) ping(w http.ResponseWriter, r *http.Request) {
	request, err := read[PingRequest](w, r)
	if err != nil {
		s.fail(w, http.StatusBadRequest, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	lines, flush := json.NewEncoder(w), http.NewResponseController(w)
	err = s.config.Daemon.Ping(r.Context(), request, func(reply PingReply) error {
		if err := lines.Encode(pingLine{Reply: &reply}); err != nil {
			return err
		}
		return flush.Flush()
	})
	if err != nil {
		if err := lines.Encode(pingLine{Error: asError(err)}); err != nil {
			s.config.Logger.Debug("answer not written", "error", err)
		}
	}
}

// pingLine is one line of the answer to a ping: a reply, or the end.
type pingLine struct {
	Reply *PingReply `json:"reply,omitempty"`
	Error *Error     `json:"error,omitempty"`
}

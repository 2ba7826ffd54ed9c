package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"

	"github.com/wattlenet/wattle/agent/internal/netcheck"
)

// A Client calls the daemon.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient makes a client for the daemon behind a socket.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{DialContext: dial}}}
}

// Status asks how the agent stands.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var status Status
	return status, c.call(ctx, http.MethodGet, "/v1/status", nil, &status)
}

// WatchStatus calls each with the status of now and of every change, until ctx
// ends or each fails.
func (c *Client) WatchStatus(ctx context.Context, each func(Status) error) error {
	return lines(ctx, c, http.MethodGet, "/v1/status/watch", nil, each)
}

// Settings asks for every setting and where its value comes from.
func (c *Client) Settings(ctx context.Context) (Settings, error) {
	var settings Settings
	return settings, c.call(ctx, http.MethodGet, "/v1/settings", nil, &settings)
}

// Set keeps settings.
func (c *Client) Set(ctx context.Context, request SetRequest) (SetAnswer, error) {
	var answer SetAnswer
	return answer, c.call(ctx, http.MethodPost, "/v1/settings", request, &answer)
}

// Reload makes the daemon read its settings file again.
func (c *Client) Reload(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/v1/settings/reload", struct{}{}, nil)
}

// SetLevel changes what the daemon logs.
func (c *Client) SetLevel(ctx context.Context, request LevelRequest) error {
	return c.call(ctx, http.MethodPost, "/v1/log-level", request, nil)
}

// Up connects the machine and waits until it is usable.
func (c *Client) Up(ctx context.Context, request UpRequest) error {
	return c.call(ctx, http.MethodPost, "/v1/up", request, nil)
}

// Down disconnects the machine.
func (c *Client) Down(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/v1/down", struct{}{}, nil)
}

// Logout forgets the machine's identity.
func (c *Client) Logout(ctx context.Context, request LogoutRequest) error {
	return c.call(ctx, http.MethodPost, "/v1/logout", request, nil)
}

// Wait blocks until a condition holds.
func (c *Client) Wait(ctx context.Context, request WaitRequest) error {
	return c.call(ctx, http.MethodPost, "/v1/wait", request, nil)
}

// RotateKey replaces the WireGuard key.
func (c *Client) RotateKey(ctx context.Context, request RotateKeyRequest) error {
	return c.call(ctx, http.MethodPost, "/v1/key/rotate", request, nil)
}

// Query asks the resolver of the network.
func (c *Client) Query(ctx context.Context, request QueryRequest) (QueryAnswer, error) {
	var answer QueryAnswer
	return answer, c.call(ctx, http.MethodPost, "/v1/dns/query", request, &answer)
}

// Netcheck has the daemon measure the network around the machine.
func (c *Client) Netcheck(ctx context.Context, request NetcheckRequest) (netcheck.Report, error) {
	var report netcheck.Report
	return report, c.call(ctx, http.MethodPost, "/v1/netcheck", request, &report)
}

// Debug asks for what only the daemon knows about itself.
func (c *Client) Debug(ctx context.Context) (Debug, error) {
	var debug Debug
	return debug, c.call(ctx, http.MethodGet, "/v1/debug", nil, &debug)
}

// Whois asks who has an address or a name.
func (c *Client) Whois(ctx context.Context, request WhoisRequest) (WhoisAnswer, error) {
	var answer WhoisAnswer
	return answer, c.call(ctx, http.MethodPost, "/v1/whois", request, &answer)
}

// Access asks the rules in force on this machine.
func (c *Client) Access(ctx context.Context, request FlowRequest) (AccessAnswer, error) {
	var answer AccessAnswer
	return answer, c.call(ctx, http.MethodPost, "/v1/access", request, &answer)
}

// Trace asks what each local step does with one packet.
func (c *Client) Trace(ctx context.Context, request FlowRequest) (TraceAnswer, error) {
	var answer TraceAnswer
	return answer, c.call(ctx, http.MethodPost, "/v1/trace", request, &answer)
}

// Ping calls reply for each echo request.
func (c *Client) Ping(ctx context.Context, request PingRequest, reply func(PingReply) error) error {
	return lines(ctx, c, http.MethodPost, "/v1/ping", request, func(line pingLine) error {
		switch {
		case line.Error != nil:
			return line.Error
		case line.Reply != nil:
			return reply(*line.Reply)
		}
		return nil
	})
}

// lines calls each for every line of an answer.
func lines[T any](ctx context.Context, c *Client, method, path string, body any, each func(T) error) error {
	answer, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }() // only read
	decoder := json.NewDecoder(answer.Body)
	for {
		var line T
		err := decoder.Decode(&line)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("%w any more: %w", ErrUnreachable, err)
		}
		if err := each(line); err != nil {
			return err
		}
	}
}

func (c *Client) call(ctx context.Context, method, path string, body, into any) error {
	answer, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }() // only read
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(answer.Body).Decode(into); err != nil {
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	return nil
}

// send returns a successful answer; the error of the daemon is an *Error.
func (c *Client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var content io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		content = bytes.NewReader(raw)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://wattle"+path, content)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	answer, err := c.http.Do(request)
	if err != nil {
		return nil, c.dialError(ctx, err)
	}
	if answer.StatusCode == http.StatusOK {
		return answer, nil
	}
	defer func() { _ = answer.Body.Close() }() // only read
	failure := &Error{Code: 1}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxRequest)).Decode(failure); err != nil || failure.Message == "" {
		return nil, fmt.Errorf("the daemon answered %s to %s", answer.Status, path)
	}
	return nil, failure
}

func (c *Client) dialError(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, fs.ErrPermission):
		return &Error{Code: 6, Message: fmt.Sprintf("the socket %s may not be opened by this user; run the command with sudo", c.socket)}
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: there is no socket %s; start it with `wattle service install` (by hand: `wattle daemon`), or name its socket with --socket", ErrUnreachable, c.socket)
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%w: nobody listens on %s; start it with `wattle service install` (by hand: `wattle daemon`), or name its socket with --socket", ErrUnreachable, c.socket)
	}
	if operation, ok := errors.AsType[*net.OpError](err); ok {
		err = operation.Err
	}
	return fmt.Errorf("%w on %s: %w; start it with `wattle daemon`", ErrUnreachable, c.socket, err)
}

package forward

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// connections are what is open at one moment, so that it can be closed.
type connections struct {
	mu     sync.Mutex // guards the rest
	open   map[net.Conn]bool
	closed bool
}

// add keeps a connection, or closes it and returns false when there are too
// many or all is over.
func (c *connections) add(connection net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.open) >= 2*maxConnections { // both ends are counted
		_ = connection.Close() // nobody has written to it
		return false
	}
	if c.open == nil {
		c.open = map[net.Conn]bool{}
	}
	c.open[connection] = true
	return true
}

// drop closes a connection.
func (c *connections) drop(connection net.Conn) {
	c.mu.Lock()
	delete(c.open, connection)
	c.mu.Unlock()
	_ = connection.Close() // both directions have ended, or the other end is gone
}

func (c *connections) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for connection := range c.open {
		_ = connection.Close() // cut on purpose
	}
}

// accept hands each connection of a listener to serve, in a goroutine of its own.
func (s *service) accept(ctx context.Context, listener net.Listener, serve func(context.Context, net.Conn)) {
	for {
		connection, err := listener.Accept()
		switch {
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			if err == nil {
				_ = connection.Close() // came too late
			}
			return
		case err != nil:
			s.log.Warn("connection not accepted", "address", s.plan.listen.String(), "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		}
		if !s.open.add(connection) {
			continue
		}
		s.served.Add(1)
		s.running.Go(func() {
			defer s.open.drop(connection)
			serve(ctx, connection)
		})
	}
}

// pass joins a connection with a new one to where the listener leads.
func (s *service) pass(ctx context.Context, connection net.Conn) {
	other, err := s.dial(ctx)
	if err != nil {
		s.log.Debug("connection not forwarded", "address", s.plan.listen.String(), "target", s.plan.target, "error", err)
		return
	}
	s.join(connection, connection, other)
}

// join carries both directions until both have ended. What was read from a
// before stands in from.
func (s *service) join(a net.Conn, from io.Reader, b net.Conn) {
	if !s.open.add(b) {
		return
	}
	defer s.open.drop(b)
	var both sync.WaitGroup
	both.Go(func() { pump(b, from, a) })
	both.Go(func() { pump(a, b, b) })
	both.Wait()
}

// pump copies one direction and passes its end on. A direction that fails takes
// the other along.
func pump(to net.Conn, from io.Reader, source net.Conn) {
	_, err := io.Copy(to, from)
	half, ok := to.(interface{ CloseWrite() error })
	if err == nil && ok && half.CloseWrite() == nil {
		return
	}
	_, _ = to.Close(), source.Close() // nothing more can be told to either
}

package forward

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/things-go/go-socks5"
	"github.com/things-go/go-socks5/statute"
)

// greetingTimeout bounds the wait for what a client of the proxy wants.
const greetingTimeout = 30 * time.Second

// proxy answers SOCKS5 (RFC 1928) and HTTP (RFC 9110, section 9.3.6) on one
// port: the first byte tells them apart.
func (s *service) proxy(ctx context.Context, listener net.Listener) {
	socks := s.socks(ctx)
	web := newWeb(s)
	defer web.close()
	s.accept(ctx, listener, func(ctx context.Context, connection net.Conn) {
		if connection.SetReadDeadline(time.Now().Add(greetingTimeout)) != nil {
			return
		}
		reader := bufio.NewReader(connection)
		first, err := reader.Peek(1)
		if err != nil {
			return
		}
		opened := &begun{Conn: connection, reader: reader}
		if first[0] != statute.VersionSocks5 {
			web.serve(opened)
			return
		}
		if err := socks.ServeConn(opened); err != nil {
			s.log.Debug("connection of the proxy ended", "error", err)
		}
	})
}

// begun is a connection of which something was read already.
type begun struct {
	net.Conn
	reader *bufio.Reader
}

func (b *begun) Read(p []byte) (int, error) { return b.reader.Read(p) }

// CloseWrite ends the one direction (RFC 9293, section 3.6).
func (b *begun) CloseWrite() error {
	half, ok := b.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}

// socks makes the server that reads the protocol; connecting is ours, so that
// its answers say why. BIND is refused by the library.
func (s *service) socks(ctx context.Context) *socks5.Server {
	return socks5.NewServer(
		socks5.WithResolver(names{}),
		socks5.WithGPool(pool{s}),
		socks5.WithLogger(silent{}),
		socks5.WithConnectHandle(func(_ context.Context, writer io.Writer, request *socks5.Request) error {
			return s.connect(ctx, writer, request)
		}),
		socks5.WithAssociateMiddleware(func(_ context.Context, writer io.Writer, _ *socks5.Request) error {
			client, ok := writer.(*begun)
			if !ok {
				return fmt.Errorf("answer on a %T", writer)
			}
			return client.SetReadDeadline(time.Time{}) // it lives as long as its datagrams
		}),
		// Of UDP ASSOCIATE, where the library keeps the addresses apart.
		socks5.WithDial(func(_ context.Context, network, address string) (net.Conn, error) {
			connection, err := s.reach(ctx, network, address)
			if err != nil {
				return nil, err
			}
			if !s.open.add(connection) {
				return nil, net.ErrClosed
			}
			return &counted{Conn: connection, of: &s.open}, nil
		}),
	)
}

// counted leaves the connections that are open when it is closed.
type counted struct {
	net.Conn
	of *connections
}

func (c *counted) Close() error {
	c.of.drop(c.Conn)
	return nil
}

// names leaves names as they are: the overlay resolves them.
type names struct{}

func (names) Resolve(ctx context.Context, _ string) (context.Context, net.IP, error) {
	return ctx, nil, nil
}

// pool starts the library's goroutines, so that they are waited for.
type pool struct{ s *service }

func (p pool) Submit(f func()) error {
	p.s.running.Go(f)
	return nil
}

// silent takes the library's reports, which come back as errors as well.
type silent struct{}

func (silent) Errorf(string, ...any) {}

// reach connects to what a client of the proxy named.
func (s *service) reach(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return s.overlay.Dial(ctx, network, address)
}

// connect answers CONNECT (RFC 1928, section 6).
func (s *service) connect(ctx context.Context, writer io.Writer, request *socks5.Request) error {
	client, ok := writer.(*begun)
	if !ok {
		return fmt.Errorf("answer on a %T", writer)
	}
	target, err := s.reach(ctx, "tcp", request.DestAddr.String())
	if err != nil {
		return errors.Join(err, socks5.SendReply(client, replyCode(err), nil))
	}
	if err := errors.Join(client.SetReadDeadline(time.Time{}), socks5.SendReply(client, statute.RepSuccess, target.LocalAddr())); err != nil {
		return errors.Join(err, target.Close())
	}
	s.join(client, request.Reader, target)
	return nil
}

// replyCode says why in the words of RFC 1928, section 6.
func replyCode(err error) uint8 {
	switch {
	case errors.Is(err, ErrDenied) || errors.Is(err, ErrElsewhere):
		return statute.RepRuleFailure
	case refused(err):
		return statute.RepConnectionRefused
	case errors.Is(err, context.DeadlineExceeded):
		return statute.RepTTLExpired
	}
	return statute.RepHostUnreachable
}

// refused reports whether the other machine said no. The network stack of the
// process says so in text alone.
func refused(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || strings.Contains(err.Error(), "connection was refused")
}

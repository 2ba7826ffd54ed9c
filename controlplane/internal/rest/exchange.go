package rest

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/netip"
	"regexp"
	"strings"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/generated/api"
)

// An exchange is what the layers of one request tell each other.
type exchange struct {
	requestID string
	remote    netip.Addr
	channel   auth.Channel
	operation api.Operation
	caller    auth.Principal

	// next is the cursor of the page after this one; empty on the last page.
	next string
}

type exchangeKey struct{}

func withExchange(r *http.Request, x *exchange) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x))
}

// exchangeOf returns the exchange of a request; every request has one.
func exchangeOf(ctx context.Context) *exchange {
	x, ok := ctx.Value(exchangeKey{}).(*exchange)
	if !ok {
		return &exchange{}
	}
	return x
}

// caller returns who asks.
func caller(ctx context.Context) auth.Principal { return exchangeOf(ctx).caller }

// nextPage makes the answer carry a Link to the page that begins at cursor.
func nextPage(ctx context.Context, cursor string) { exchangeOf(ctx).next = cursor }

// acceptableRequestID is what a caller may choose: enough for the ids that
// proxies and tracers make, and nothing that could forge a log line.
var acceptableRequestID = regexp.MustCompile(`^[A-Za-z0-9._:/+=-]{1,64}$`)

// requestID returns the caller's request id, or makes one.
func requestID(r *http.Request) string {
	if given := r.Header.Get("X-Request-ID"); acceptableRequestID.MatchString(given) {
		return given
	}
	return rand.Text()
}

// remoteAddress returns the address of the caller, zero when it is unknown.
func remoteAddress(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap()
}

// channel tells by which way a request comes.
func channel(r *http.Request) auth.Channel {
	if strings.HasPrefix(r.URL.Path, "/agent/") {
		return auth.ChannelAgent
	}
	switch r.Header.Get("X-Managed-By") {
	case "terraform":
		return auth.ChannelTerraform
	case "command":
		return auth.ChannelCommand
	default:
		return auth.ChannelAPI
	}
}

package netcheck

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// Choices of ours.
const (
	webLimit = 4 * time.Second

	// clockTolerance is how far a clock may be off before it matters, in seconds:
	// the Date of an answer is whole and an answer takes a moment.
	clockTolerance = 5
)

// management asks the control plane for anything, and whether something else
// answers in its place.
func (c Config) management(ctx context.Context) (Management, string) {
	m := Management{URL: c.ManagementURL}
	if c.ManagementURL == "" {
		return m, Unknown
	}
	address, err := url.Parse(c.ManagementURL)
	if err != nil {
		m.Error = err.Error()
		return m, Unknown
	}
	carrier := c.carrier()
	defer carrier.CloseIdleConnections()
	began := time.Now()
	head, err := get(ctx, carrier, address.JoinPath("/api/instance").String())
	if err != nil {
		m.Error = err.Error()
	} else {
		m.Reached, m.RTTMillis = true, millis(time.Since(began))
		if date, err := http.ParseTime(head.fields.Get("Date")); err == nil {
			m.ClockKnown = true
			// The second in which the answer was made has half passed on average.
			m.ClockOffsetSeconds = date.Add(time.Second / 2).Sub(began.Add(time.Since(began) / 2)).Round(time.Second).Seconds()
		}
	}
	return m, portal(ctx, carrier, address, m.Reached)
}

// carrier makes connections that bear the agent's mark and no proxy's answer is
// taken for the server's.
func (c Config) carrier() *http.Transport {
	return &http.Transport{
		Proxy:           http.ProxyFromEnvironment,
		DialContext:     (&net.Dialer{Timeout: webLimit, Control: c.Control}).DialContext,
		TLSClientConfig: c.TLS,
	}
}

// head is what an answer begins with.
type head struct {
	status int
	fields http.Header
}

func get(ctx context.Context, carrier http.RoundTripper, address string) (head, error) {
	ctx, cancel := context.WithTimeout(ctx, webLimit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return head{}, err
	}
	answer, err := carrier.RoundTrip(request) // redirections are an answer
	if err != nil {
		if operation, ok := errors.AsType[*net.OpError](err); ok {
			err = operation
		}
		return head{}, err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10)) // only its head is of interest
	return head{answer.StatusCode, answer.Header}, answer.Body.Close()
}

// portal looks at the control plane's host over plain HTTP: a portal redirects
// there to another host, or says so (RFC 6585, section 6).
func portal(ctx context.Context, carrier http.RoundTripper, address *url.URL, reached bool) string {
	if reached {
		return PortalNo
	}
	if address.Scheme != "https" {
		return Unknown
	}
	head, err := get(ctx, carrier, "http://"+address.Hostname()+"/")
	if err != nil {
		return Unknown // nobody answers at all: another fault
	}
	if head.status == http.StatusNetworkAuthenticationRequired {
		return PortalYes
	}
	if to, err := url.Parse(head.fields.Get("Location")); err == nil && to.Hostname() != "" && to.Hostname() != address.Hostname() {
		return PortalYes
	}
	return Unknown
}

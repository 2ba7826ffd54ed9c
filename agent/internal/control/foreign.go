package control

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"time"

	"github.com/wattlenet/wattle/generated/sdk"
)

// foreignWait bounds the span of waits while something else answers in the place
// of the control plane: a person who logs in to a network is back in seconds.
const foreignWait = 15 * time.Second

// A ForeignError is an answer that no control plane gives: a page, or the way to
// one. A network that wants a login first sends it.
type ForeignError struct {
	Status int    // of HTTP
	To     string // where it leads; empty: nowhere
}

func (e *ForeignError) Error() string {
	if e.To != "" {
		return fmt.Sprintf("the answer leads to %s", e.To)
	}
	return fmt.Sprintf("the answer is a web page (status %d)", e.Status)
}

// Foreign reports whether something else than the control plane has answered.
func Foreign(err error) bool {
	var page *ForeignError
	var pin *sdk.PinError
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var plain tls.RecordHeaderError
	return errors.As(err, &page) || errors.As(err, &pin) || errors.As(err, &authority) || errors.As(err, &name) ||
		errors.As(err, &plain) || errors.Is(err, http.ErrSchemeMismatch)
}

// foreign returns the error for an answer that no control plane gives.
func foreign(answer *http.Response) error {
	kind, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type")) // none is no page
	location := answer.Header.Get("Location")
	redirect := location != "" && answer.StatusCode >= 300 && answer.StatusCode < 400
	if !redirect && kind != "text/html" && answer.StatusCode != http.StatusNetworkAuthenticationRequired {
		return nil
	}
	if !redirect {
		location = ""
	}
	return &ForeignError{Status: answer.StatusCode, To: location}
}

package rest

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/state"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/program"
)

// refuse answers with the problem that err is. What is no problem is a fault
// of the server: it is logged, and the caller sees the request id only. A write
// that was only tried is answered with what it would have meant.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if tried, ok := errors.AsType[*state.Previewed](err); ok {
		s.answerPreview(w, r, tried)
		return
	}
	x := exchangeOf(r.Context())
	p := s.classify(r, err)
	body := renderProblem(p, r.URL.Path, x.requestID)
	header := w.Header()
	header.Set("Content-Type", "application/problem+json")
	header.Set("Cache-Control", "no-store")
	header.Del("ETag")
	switch body.Status {
	case http.StatusUnauthorized:
		header.Set("WWW-Authenticate", `Bearer realm="wattle"`)
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		header.Set("Retry-After", strconv.Itoa(wholeSeconds(p.RetryAfter)))
	}
	w.WriteHeader(body.Status)
	if err := json.NewEncoder(w).Encode(withMembers(body, p.Members)); err != nil {
		s.logger.Debug("problem not delivered", program.KeyRequest, x.requestID, program.KeyError, err)
	}
}

// withMembers is a problem with more members than all have.
func withMembers(body api.Problem, members any) any {
	if members == nil {
		return body
	}
	all := map[string]json.RawMessage{}
	for _, part := range []any{members, body} { // what all problems have comes last and wins
		text, err := json.Marshal(part)
		if err != nil || json.Unmarshal(text, &all) != nil {
			return body
		}
	}
	return all
}

func (s *Server) classify(r *http.Request, err error) *problem.Problem {
	x := exchangeOf(r.Context())
	var p *problem.Problem
	switch {
	case errors.As(err, &p):
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		p = problem.Unavailable(time.Second, err)
	default:
		p = problem.Internal(err)
	}
	switch p.Kind {
	case problem.KindInternal:
		s.logger.Error("internal error", program.KeyRequest, x.requestID, program.KeyOperation, x.operation.ID, program.KeyError, err)
		hidden := *p
		hidden.Detail = "internal error; the log of the server tells more under the request id " + x.requestID
		hidden.Errors, hidden.Referrers = nil, nil
		p = &hidden
	case problem.KindUnavailable:
		s.logger.Warn("request not answered", program.KeyRequest, x.requestID, program.KeyOperation, x.operation.ID, program.KeyError, err)
	}
	return p
}

// renderProblem makes the body of an error (RFC 9457) and upholds the rule by
// which existing clients know a vanished object: the text "not found" stands in
// every 404 and in nothing else.
func renderProblem(p *problem.Problem, path, requestID string) api.Problem {
	body := api.NewProblem("/problems/" + string(p.Kind))
	plain := func(text string) string { return text }
	if body.Status != http.StatusNotFound {
		plain = withoutNotFound
	}
	body.Detail = plain(p.Detail)
	if body.Status == http.StatusNotFound && !strings.Contains(body.Detail, notFound) {
		body.Detail = "not found: " + body.Detail
	}
	body.Message = strings.ToLower(body.Detail)
	body.Instance = &path
	body.RequestId = requestID
	if p.Permission != "" {
		body.Permission = &p.Permission
	}
	if len(p.Errors) > 0 {
		faults := make([]api.FieldError, len(p.Errors))
		for i, fault := range p.Errors {
			faults[i] = api.FieldError{Field: fault.Field, Detail: plain(fault.Detail)}
		}
		body.Errors = &faults
	}
	if len(p.Referrers) > 0 {
		referrers := make([]api.Referrer, len(p.Referrers))
		for i, r := range p.Referrers {
			referrers[i] = api.Referrer{Type: r.Type, Id: r.ID, Name: r.Name, Field: r.Field}
		}
		body.Referrers = &referrers
	}
	return body
}

const notFound = "not found"

// anyNotFound matches the text as existing clients do, in any case.
var anyNotFound = regexp.MustCompile(`(?i)not found`)

// withoutNotFound breaks up the text, which may come from a name that a user
// chose.
func withoutNotFound(text string) string {
	return anyNotFound.ReplaceAllLiteralString(text, "not-found")
}

// wholeSeconds rounds up to at least one second, the unit of Retry-After
// (RFC 9110, section 10.2.3).
func wholeSeconds(d time.Duration) int {
	return max(1, int(math.Ceil(d.Seconds())))
}

// fieldErrors translates the faults that generated validation finds.
func fieldErrors(faults []api.FieldError) []problem.FieldError {
	translated := make([]problem.FieldError, len(faults))
	for i, fault := range faults {
		translated[i] = problem.FieldError{Field: fault.Field, Detail: fault.Detail}
	}
	return translated
}

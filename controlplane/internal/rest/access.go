package rest

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/state"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/program"
)

// previewType is the type of an AccessPreview, told apart from what the
// operation answers otherwise.
const previewType = "application/vnd.wattle.access-preview+json"

// ExplainAccess answers POST /api/access/explain.
func (s *Server) ExplainAccess(ctx context.Context, r api.ExplainAccessRequestObject) (api.ExplainAccessResponseObject, error) {
	explanation, err := s.state.ExplainAccess(ctx, caller(ctx), *r.Body)
	return api.ExplainAccess200JSONResponse(explanation), err
}

// asksPreview reports whether a request is a dry run. An operation that cannot
// be tried refuses, since the caller expects that nothing is stored.
func asksPreview(r *http.Request, operation api.Operation) (bool, error) {
	given := r.URL.Query()["dry_run"]
	switch {
	case len(given) == 0:
		return false, nil
	case len(given) > 1:
		return false, problem.Malformed("the parameter dry_run is given more than once", problem.Field("dry_run", "is given more than once"))
	case given[0] == "false":
		return false, nil
	case given[0] != "true":
		return false, problem.Invalid(problem.Field("dry_run", "must be true or false, not %q", given[0]))
	case operation.Writes && !operation.Previews:
		return false, problem.Invalid(problem.Field("dry_run", "this operation cannot be tried; leave the parameter out to carry it out"))
	}
	return operation.Previews, nil
}

func (s *Server) answerPreview(w http.ResponseWriter, r *http.Request, tried *state.Previewed) {
	w.Header().Set("Content-Type", previewType)
	w.Header().Set("Cache-Control", "no-store")
	if err := json.NewEncoder(w).Encode(tried.Preview); err != nil {
		s.logger.Debug("preview not delivered", program.KeyRequest, exchangeOf(r.Context()).requestID, program.KeyError, err)
	}
}

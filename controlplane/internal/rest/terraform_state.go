package rest

import (
	"bytes"
	"context"
	"net/http"
	"strings"

	"github.com/wattlenet/wattle/generated/api"
)

// terraformStates is where Terraform's http backend keeps its states.
const terraformStates = "/api/terraform/states/"

// lockMethods translates the methods by which Terraform's http backend locks
// unless it is told others: LOCK and UNLOCK, on the state or on its lock.
func lockMethods(r *http.Request) {
	method := map[string]string{"LOCK": http.MethodPost, "UNLOCK": http.MethodDelete}[r.Method]
	if method == "" || !strings.HasPrefix(r.URL.Path, terraformStates) {
		return
	}
	r.Method = method
	if !strings.HasSuffix(r.URL.Path, "/lock") {
		r.URL.Path, r.URL.RawPath = r.URL.Path+"/lock", ""
	}
}

// authorization returns the credentials of a request. Terraform's http backend
// knows basic authentication only: the password is the token, the user name is
// not looked at. Nothing else takes it, since browsers send it by themselves.
func authorization(r *http.Request) string {
	if _, password, ok := r.BasicAuth(); ok && strings.HasPrefix(r.URL.Path, terraformStates) {
		return "Token " + password
	}
	return r.Header.Get("Authorization")
}

// ListTerraformStates answers GET /api/terraform/states.
func (s *Server) ListTerraformStates(ctx context.Context, _ api.ListTerraformStatesRequestObject) (api.ListTerraformStatesResponseObject, error) {
	states, err := s.state.ListTerraformStates(ctx, caller(ctx))
	return api.ListTerraformStates200JSONResponse(states), err
}

// GetTerraformState answers GET /api/terraform/states/{state_name}.
func (s *Server) GetTerraformState(ctx context.Context, r api.GetTerraformStateRequestObject) (api.GetTerraformStateResponseObject, error) {
	raw, err := s.state.GetTerraformState(ctx, caller(ctx), r.StateName)
	return stateAnswer(raw), err
}

// PutTerraformState answers POST /api/terraform/states/{state_name}.
func (s *Server) PutTerraformState(ctx context.Context, r api.PutTerraformStateRequestObject) (api.PutTerraformStateResponseObject, error) {
	version, err := s.state.PutTerraformState(ctx, caller(ctx), r.StateName, r.Body, text(r.Params.ID))
	return api.PutTerraformState200JSONResponse(version), err
}

// DeleteTerraformState answers DELETE /api/terraform/states/{state_name}.
func (s *Server) DeleteTerraformState(ctx context.Context, r api.DeleteTerraformStateRequestObject) (api.DeleteTerraformStateResponseObject, error) {
	err := s.state.DeleteTerraformState(ctx, caller(ctx), r.StateName, text(r.Params.ID))
	return api.DeleteTerraformState200JSONResponse{}, err
}

// LockTerraformState answers POST /api/terraform/states/{state_name}/lock.
func (s *Server) LockTerraformState(ctx context.Context, r api.LockTerraformStateRequestObject) (api.LockTerraformStateResponseObject, error) {
	lock, err := s.state.LockTerraformState(ctx, caller(ctx), r.StateName, *r.Body)
	return api.LockTerraformState200JSONResponse(lock), err
}

// UnlockTerraformState answers DELETE /api/terraform/states/{state_name}/lock.
func (s *Server) UnlockTerraformState(ctx context.Context, r api.UnlockTerraformStateRequestObject) (api.UnlockTerraformStateResponseObject, error) {
	id := text(r.Params.ID)
	if r.Body != nil && text(r.Body.ID) != "" {
		id = text(r.Body.ID)
	}
	return api.UnlockTerraformState200JSONResponse{}, s.state.UnlockTerraformState(ctx, caller(ctx), r.StateName, id)
}

// ListTerraformStateVersions answers GET /api/terraform/states/{state_name}/versions.
func (s *Server) ListTerraformStateVersions(ctx context.Context, r api.ListTerraformStateVersionsRequestObject) (api.ListTerraformStateVersionsResponseObject, error) {
	versions, err := s.state.ListTerraformStateVersions(ctx, caller(ctx), r.StateName)
	return api.ListTerraformStateVersions200JSONResponse(versions), err
}

// GetTerraformStateVersion answers GET /api/terraform/states/{state_name}/versions/{state_version}.
func (s *Server) GetTerraformStateVersion(ctx context.Context, r api.GetTerraformStateVersionRequestObject) (api.GetTerraformStateVersionResponseObject, error) {
	raw, err := s.state.GetTerraformStateVersion(ctx, caller(ctx), r.StateName, r.StateVersion)
	return stateAnswer(raw), err
}

// RestoreTerraformStateVersion answers POST /api/terraform/states/{state_name}/versions/{state_version}/restore.
func (s *Server) RestoreTerraformStateVersion(ctx context.Context, r api.RestoreTerraformStateVersionRequestObject) (api.RestoreTerraformStateVersionResponseObject, error) {
	version, err := s.state.RestoreTerraformState(ctx, caller(ctx), r.StateName, r.StateVersion, text(r.Params.ID))
	return api.RestoreTerraformStateVersion200JSONResponse(version), err
}

// A stateAnswer is a Terraform state, byte for byte as it was written.
type stateAnswer []byte

func (stateAnswer) unencoded() {}

// VisitGetTerraformStateResponse writes the state.
func (a stateAnswer) VisitGetTerraformStateResponse(w http.ResponseWriter) error {
	w.Header().Set("Cache-Control", "no-store")
	return api.GetTerraformState200ApplicationoctetStreamResponse{Body: bytes.NewReader(a), ContentLength: int64(len(a))}.VisitGetTerraformStateResponse(w)
}

// VisitGetTerraformStateVersionResponse writes the state.
func (a stateAnswer) VisitGetTerraformStateVersionResponse(w http.ResponseWriter) error {
	return a.VisitGetTerraformStateResponse(w)
}

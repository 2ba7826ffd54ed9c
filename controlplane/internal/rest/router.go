package rest

import (
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/wattlenet/wattle/generated/api"
)

// invitesPath stands where the id of a user stands in other paths.
const invitesPath = "/api/users/invites"

// paths are two ServeMux, since one takes no two patterns that cross: GET
// /api/users/{user_id}/tokens and GET /api/users/invites/{invite_id} both fit
// /api/users/invites/tokens. No user has the id "invites", so that the second wins.
type paths struct{ invites, others http.ServeMux }

func (p *paths) at(urlPath string) *http.ServeMux {
	if strings.HasPrefix(urlPath, invitesPath+"/") {
		return &p.invites
	}
	return &p.others
}

// HandleFunc adds a pattern: a method and a path.
func (p *paths) HandleFunc(pattern string, handler func(http.ResponseWriter, *http.Request)) {
	_, urlPath, _ := strings.Cut(pattern, " ")
	p.at(urlPath).HandleFunc(pattern, handler)
}

// Handler returns what serves a request, and its pattern.
func (p *paths) Handler(r *http.Request) (http.Handler, string) { return p.at(r.URL.Path).Handler(r) }

func (p *paths) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.at(r.URL.Path).ServeHTTP(w, r) }

// A router finds the operation that a request addresses.
type router struct {
	paths      paths
	operations map[string]api.Operation // by pattern
}

func newRouter() *router {
	r := &router{operations: map[string]api.Operation{}}
	for _, operation := range api.Operations {
		pattern := operation.Method + " " + operation.Path
		r.operations[pattern] = operation
		r.paths.HandleFunc(pattern, http.NotFound)
	}
	return r
}

// find returns the operation of a request. It takes a path as it is written:
// a path that would have to be cleaned first addresses nothing.
func (r *router) find(request *http.Request) (api.Operation, bool) {
	if path.Clean(request.URL.Path) != request.URL.Path {
		return api.Operation{}, false
	}
	_, pattern := r.paths.Handler(request)
	operation, ok := r.operations[pattern]
	return operation, ok
}

// allowed returns the methods that the path of a request has, none for a path
// that does not exist.
func (r *router) allowed(request *http.Request) []string {
	var methods []string
	for _, method := range []string{http.MethodDelete, http.MethodGet, http.MethodPatch, http.MethodPost, http.MethodPut} {
		probe := request.Clone(request.Context())
		probe.Method = method
		if _, ok := r.find(probe); ok {
			methods = append(methods, method)
		}
	}
	if slices.Contains(methods, http.MethodGet) {
		methods = append(methods, http.MethodHead)
	}
	return methods
}

// isLater reports whether a path belongs to published services, of which there
// are only the lists: everything else there is as if it did not exist.
func isLater(urlPath string) bool { return strings.HasPrefix(urlPath, "/api/reverse-proxies/") }

// isContract reports whether a path belongs to the contract, where anonymous
// callers learn nothing about what exists.
func isContract(urlPath string) bool {
	return urlPath == "/api" || strings.HasPrefix(urlPath, "/api/") || urlPath == "/agent" || strings.HasPrefix(urlPath, "/agent/")
}

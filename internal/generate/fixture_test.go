package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
)

// fixture is a REST server that serves the nouns of any contract from memory:
// it knows no noun, only what the contract says about its fields.
type fixture struct {
	model *model

	mu      sync.Mutex // guards all below
	counter int
	objects []*record
	keys    map[string]*record
}

// record is one object at its path.
type record struct {
	noun    *noun
	path    string // of the collection
	id      string
	version int64
	fields  map[string]any
}

// add puts an object of an adopted noun there, as if it had come by itself.
func (f *fixture) add(name string, fields map[string]any) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.model.Nouns {
		if n.Name == name {
			return f.insert(n, n.Path, fields).id
		}
	}
	panic("no noun " + name)
}

func (f *fixture) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Header.Get("Authorization") != "Token secret" {
		problem(w, 401, "unauthenticated", "token refused", nil)
		return
	}
	for _, n := range f.model.Nouns {
		if rest, ok := match(n.Path, r.URL.Path); ok && rest == "" {
			f.collection(w, r, n)
			return
		} else if ok && n.ItemPath != "" && strings.Count(rest, "/") == 1 {
			f.item(w, r, n, strings.TrimSuffix(r.URL.Path, rest), rest[1:])
			return
		}
	}
	problem(w, 404, "not-found", "path not found", nil)
}

// match compares a path with a pattern and returns what follows it.
func match(pattern, path string) (rest string, ok bool) {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(got) < len(want) {
		return "", false
	}
	for i, part := range want {
		if !strings.HasPrefix(part, "{") && part != got[i] {
			return "", false
		}
	}
	rest = strings.Join(got[len(want):], "/")
	if rest != "" {
		rest = "/" + rest
	}
	return rest, true
}

func (f *fixture) collection(w http.ResponseWriter, r *http.Request, n *noun) {
	if !f.parentExists(n, r.URL.Path) {
		problem(w, 404, "not-found", "parent not found", nil)
		return
	}
	switch {
	case n.Kind == kindSingleton:
		f.singleton(w, r, n)
	case r.Method == http.MethodGet:
		f.list(w, r, n)
	case r.Method == http.MethodPost && n.Create != nil:
		body, faults := f.accept(r, n.CreateBody, nil)
		if len(faults) > 0 {
			problem(w, 422, "invalid", "values refused", faults)
			return
		}
		if known := f.keys[r.Header.Get("Idempotency-Key")]; known != nil {
			f.answer(w, known, true)
			return
		}
		for _, o := range f.objects {
			if o.noun == n && o.path == r.URL.Path && n.schema.Properties["name"] != nil && o.fields["name"] == body["name"] {
				problem(w, 409, "conflict", "name exists", nil)
				return
			}
		}
		o := f.insert(n, r.URL.Path, body)
		if key := r.Header.Get("Idempotency-Key"); key != "" {
			f.keys[key] = o
		}
		f.answer(w, o, true)
	default:
		problem(w, 405, "method-not-allowed", "wrong method", nil)
	}
}

func (f *fixture) singleton(w http.ResponseWriter, r *http.Request, n *noun) {
	o := f.find(n, n.Path, "")
	if o == nil {
		o = &record{noun: n, path: n.Path, fields: map[string]any{}}
		for wire, p := range n.schema.Properties {
			o.fields[wire] = zeroOf(p.Value)
		}
		f.objects = append(f.objects, o)
	}
	if r.Method == http.MethodPatch {
		body, faults := f.accept(r, n.UpdateBody, o)
		if len(faults) > 0 {
			problem(w, 422, "invalid", "values refused", faults)
			return
		}
		maps.Copy(o.fields, body)
		o.version++
	}
	f.answer(w, o, false)
}

func (f *fixture) insert(n *noun, path string, fields map[string]any) *record {
	f.counter++
	id := fmt.Sprintf("%s%d", n.Name, f.counter)
	if n.Key != "id" {
		id = fmt.Sprint(fields[n.Key])
	}
	o := &record{noun: n, path: path, id: id, version: 1, fields: maps.Clone(fields)}
	for i, p := range pathParams(n.Path) {
		o.fields[p] = strings.Split(path, "/")[2+2*i+1]
	}
	for wire, p := range n.schema.Properties {
		h := hints(p.Value)
		if _, given := o.fields[wire]; given {
			continue
		}
		switch {
		case h["secret"] == "create":
			o.fields[wire] = "opensesame" + id
		case h["computed"] == true, p.Value.ReadOnly, slices.Contains(n.schema.Required, wire):
			o.fields[wire] = zeroOf(p.Value)
		}
	}
	f.objects = append(f.objects, o)
	return o
}

func zeroOf(s *openapi3.Schema) any {
	switch {
	case isNullable(s):
		return nil
	case len(s.Enum) > 0:
		return s.Enum[0]
	case s.Format == "date-time", s.Format == "instant":
		return "2030-01-31T12:00:00Z"
	case schemaIs(s, "string"):
		return ""
	case schemaIs(s, "boolean"):
		return false
	case schemaIs(s, "array"):
		return []any{}
	}
	if s.Min != nil {
		return *s.Min
	}
	return 0
}

func (f *fixture) find(n *noun, path, id string) *record {
	for _, o := range f.objects {
		if o.noun == n && o.path == path && o.id == id {
			return o
		}
	}
	return nil
}

func (f *fixture) parentExists(n *noun, path string) bool {
	if len(n.Parents) == 0 {
		return true
	}
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for _, o := range f.objects {
		if o.path == "/"+parts[0]+"/"+parts[1] && o.id == parts[2] {
			return true
		}
	}
	return false
}

func (f *fixture) list(w http.ResponseWriter, r *http.Request, n *noun) {
	q := r.URL.Query()
	var found []*record
	for _, o := range f.objects {
		if o.noun != n || o.path != r.URL.Path || q.Get("name") != "" && o.fields["name"] != q.Get("name") ||
			q.Get("ids") != "" && !slices.Contains(strings.Split(q.Get("ids"), ","), o.id) {
			continue
		}
		found = append(found, o)
	}
	from, _ := strconv.Atoi(q.Get("cursor"))
	found = found[min(from, len(found)):]
	if limit, _ := strconv.Atoi(q.Get("limit")); limit > 0 && len(found) > limit {
		q.Set("cursor", strconv.Itoa(from+limit))
		w.Header().Set("Link", fmt.Sprintf("<%s?%s>; rel=\"next\"", r.URL.Path, q.Encode()))
		found = found[:limit]
	}
	out := []any{}
	for _, o := range found {
		out = append(out, f.show(o, false))
	}
	write(w, 200, out)
}

func (f *fixture) item(w http.ResponseWriter, r *http.Request, n *noun, path, id string) {
	o := f.find(n, path, id)
	if o == nil {
		problem(w, 404, "not-found", n.Name+" not found", nil)
		return
	}
	if match := r.Header.Get("If-Match"); match != "" && match != strconv.Quote(strconv.FormatInt(o.version, 10)) {
		problem(w, 412, "precondition-failed", "changed meanwhile", nil)
		return
	}
	switch r.Method {
	case http.MethodGet:
		f.answer(w, o, false)
	case http.MethodDelete:
		if refs := f.referrers(o); len(refs) > 0 {
			problemWith(w, 400, "in-use", "is linked", nil, refs)
			return
		}
		f.objects = slices.DeleteFunc(f.objects, func(x *record) bool { return x == o })
		write(w, 200, map[string]any{})
	case http.MethodPut:
		body, faults := f.accept(r, n.UpdateBody, o)
		if len(faults) > 0 {
			problem(w, 422, "invalid", "values refused", faults)
			return
		}
		maps.Copy(o.fields, body)
		o.version++
		f.answer(w, o, false)
	default:
		problem(w, 405, "method-not-allowed", "wrong method", nil)
	}
}

func (f *fixture) referrers(o *record) []any {
	var out []any
	for _, x := range f.objects {
		for _, wire := range slices.Sorted(maps.Keys(x.fields)) {
			if x != o && strings.Contains(fmt.Sprint(x.fields[wire])+" ", o.id+" ") && wire != "id" && !slices.Contains(pathParams(x.noun.Path), wire) ||
				x != o && strings.Contains(fmt.Sprint(x.fields[wire]), o.id+"]") {
				out = append(out, map[string]any{"type": x.noun.Name, "id": x.id, "name": x.id, "field": wire})
			}
		}
	}
	return out
}

// accept reads a body as the contract says: defaults for what is absent or
// null, unchanged for optIn, and every fault with its field.
func (f *fixture) accept(r *http.Request, typ string, old *record) (map[string]any, []any) {
	var body map[string]any
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return nil, []any{map[string]any{"field": "", "detail": err.Error()}}
	}
	s := f.model.doc.spec.Components.Schemas[typ].Value
	var faults []any
	out := f.object("", s, body, &faults)
	if old == nil {
		return out, faults
	}
	for wire, p := range s.Properties {
		h := hints(p.Value)
		if h["immutable"] == true && out[wire] != nil && !reflect.DeepEqual(out[wire], old.fields[wire]) {
			faults = append(faults, map[string]any{"field": wire, "detail": "cannot be changed"})
		}
	}
	return out, faults
}

func (f *fixture) object(at string, s *openapi3.Schema, body map[string]any, faults *[]any) map[string]any {
	out := map[string]any{}
	for wire, v := range body {
		if s.Properties[wire] == nil {
			*faults = append(*faults, map[string]any{"field": at + wire, "detail": "is not known"})
		} else if v != nil {
			out[wire] = v
		}
	}
	for _, wire := range slices.Sorted(maps.Keys(s.Properties)) {
		p := notNull(s.Properties[wire])
		h := hints(s.Properties[wire].Value)
		v, given := out[wire]
		switch {
		case given:
			out[wire] = f.value(at+wire, p, v, faults)
		case slices.Contains(s.Required, wire):
			*faults = append(*faults, map[string]any{"field": at + wire, "detail": "must be given"})
		case p.Value.Default != nil:
			out[wire] = p.Value.Default
		case isNullable(s.Properties[wire].Value) && h["optIn"] != true && h["secret"] == nil:
			out[wire] = nil
		}
	}
	for _, set := range leastSets(s) {
		if !slices.ContainsFunc(set, func(wire string) bool { return out[wire] != nil }) {
			*faults = append(*faults, map[string]any{"field": strings.TrimSuffix(at, "."), "detail": "at least one of " + strings.Join(set, ", ")})
		}
	}
	for _, set := range stringLists(hints(s)["oneOf"]) {
		n := 0
		for _, wire := range set {
			if out[wire] != nil {
				n++
			}
		}
		if n != 1 {
			*faults = append(*faults, map[string]any{"field": at + set[0], "detail": "exactly one of " + strings.Join(set, ", ")})
		}
	}
	return out
}

func (f *fixture) value(at string, p *openapi3.SchemaRef, v any, faults *[]any) any {
	if list, ok := v.([]any); ok {
		out := []any{}
		for i, x := range list {
			out = append(out, f.value(fmt.Sprintf("%s[%d]", at, i), p.Value.Items, x, faults))
		}
		return out
	}
	if m, ok := v.(map[string]any); ok && len(p.Value.Properties) > 0 {
		return f.object(at+".", p.Value, m, faults)
	}
	if err := p.Value.VisitJSON(v); err != nil {
		*faults = append(*faults, map[string]any{"field": at, "detail": err.Error()})
	}
	return v
}

func (f *fixture) answer(w http.ResponseWriter, o *record, created bool) {
	w.Header().Set("ETag", strconv.Quote(strconv.FormatInt(o.version, 10)))
	write(w, 200, f.show(o, created))
}

// show is a record as its noun's answer.
func (f *fixture) show(o *record, created bool) map[string]any {
	out := map[string]any{}
	for wire, p := range o.noun.schema.Properties {
		v, given := o.fields[wire]
		switch {
		case wire == "id":
			v, given = o.id, true
		case (wire == "version" || wire == "object_version") && schemaIs(p.Value, "integer"):
			v, given = o.version, true
		case hints(p.Value)["secret"] == "create" && !created:
			v = "open*****"
		}
		if given && (v != nil || isNullable(p.Value)) {
			out[wire] = f.present(notNull(p), v)
		}
	}
	return out
}

// present turns ids into references and gives members their ids.
func (f *fixture) present(p *openapi3.SchemaRef, v any) any {
	switch x := v.(type) {
	case []any:
		out := []any{}
		for _, e := range x {
			out = append(out, f.present(notNull(p.Value.Items), e))
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for wire, q := range p.Value.Properties {
			if x[wire] != nil {
				out[wire] = f.present(notNull(q), x[wire])
			} else if slices.Contains(p.Value.Required, wire) {
				out[wire] = zeroOf(q.Value)
			}
		}
		return out
	case string:
		if p.Value.Properties["id"] != nil {
			return map[string]any{"id": x, "name": "name of " + x}
		}
	}
	return v
}

func write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client sees the break
}

func problem(w http.ResponseWriter, status int, kind, detail string, faults []any) {
	problemWith(w, status, kind, detail, faults, nil)
}

func problemWith(w http.ResponseWriter, status int, kind, detail string, faults, referrers []any) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	body := map[string]any{"type": "/problems/" + kind, "title": kind, "status": status, "code": status, "detail": detail, "message": detail, "request_id": "r1"}
	if faults != nil {
		body["errors"] = faults
	}
	if referrers != nil {
		body["referrers"] = referrers
	}
	_ = json.NewEncoder(w).Encode(body) // the client sees the break
}

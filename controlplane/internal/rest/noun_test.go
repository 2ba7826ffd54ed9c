package rest_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/generated/api"
)

// Every noun of the contract, also one that was added a moment ago, is tried
// with what all nouns have in common.
func TestEveryNounKeepsTheContract(t *testing.T) {
	w := newWorld(t)
	if len(w.specimens) < 5 {
		t.Fatalf("the contract has %d nouns: the walk does not find them", len(w.specimens))
	}
	for _, s := range w.specimens {
		t.Run(strings.TrimPrefix(s.collection, "/api/"), func(t *testing.T) {
			t.Run("life", func(t *testing.T) { w.life(t, s) })
			t.Run("lists", func(t *testing.T) { w.lists(t, s) })
			t.Run("versions", func(t *testing.T) { w.versions(t, s) })
			t.Run("bodies", func(t *testing.T) { w.bodies(t, s) })
			t.Run("groups", func(t *testing.T) { w.groups(t, s) })
			t.Run("immutable", func(t *testing.T) { w.immutable(t, s) })
			t.Run("sent back", func(t *testing.T) { w.sentBack(t, s) })
			t.Run("taken", func(t *testing.T) { w.taken(t, s) })
			t.Run("parents", func(t *testing.T) { w.parents(t, s) })
			t.Run("provenance", func(t *testing.T) { w.provenance(t, s) })
			t.Run("repeated", func(t *testing.T) { w.repeated(t, s) })
		})
	}
}

// life follows an object from its creation until nobody finds it.
func (w *world) life(t *testing.T, s specimen) {
	collection := w.path(t, s.collection)
	body := w.body(t, s.request())
	made := ask(t, w.plane, "POST", collection, body)
	if made.status != http.StatusOK {
		t.Fatalf("POST %s: %d %s", body, made.status, made.body)
	}
	path := collection + "/" + s.idIn(t, made.body)
	conforms(t, answerOf(s.create), made.body)
	answers := map[string][]byte{}
	if s.at.Get != nil {
		got := ask(t, w.plane, "GET", path, "")
		if got.status != http.StatusOK {
			t.Fatalf("GET: %d %s", got.status, got.body)
		}
		conforms(t, s.answer(), got.body)
		answers["GET"] = got.body
	}
	if s.on.Get != nil && isList(answerOf(s.on.Get)) {
		got := ask(t, w.plane, "GET", collection, "")
		conforms(t, answerOf(s.on.Get), got.body)
		answers["LIST"] = itemOf(t, s, got.body, made.body)
	}
	if s.at.Put != nil {
		got := ask(t, w.plane, "PUT", path, w.replacement(t, s, body))
		if got.status != http.StatusOK {
			t.Fatalf("PUT what was made: %d %s", got.status, got.body)
		}
		conforms(t, s.answer(), got.body)
		answers["PUT"] = got.body
	}
	secrets := secretsOf(answerOf(s.create))
	for name, answer := range answers {
		if diff := cmp.Diff(without(t, made.body, secrets), without(t, answer, secrets)); diff != "" {
			t.Errorf("POST and %s answer differently (-POST +%s):\n%s", name, name, diff)
		}
	}
	if s.at.Delete == nil {
		return
	}
	if got := ask(t, w.plane, "DELETE", path, ""); got.status != http.StatusOK || string(bytes.TrimSpace(got.body)) != "{}" {
		t.Fatalf("DELETE: %d %s", got.status, got.body)
	}
	w.gone(t, s, path, body)
	if s.on.Get != nil && isList(answerOf(s.on.Get)) {
		if got := ask(t, w.plane, "GET", collection, ""); itemOf(t, s, got.body, made.body) != nil {
			t.Errorf("deleted and still in the list: %s", got.body)
		}
	}
}

// gone checks that an object is found by no method.
func (w *world) gone(t *testing.T, s specimen, path, body string) {
	t.Helper()
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		operation := s.at.GetOperation(method)
		if operation == nil || method == "DELETE" && s.at.Get == nil || s.isEdge() && method == "DELETE" {
			continue // to delete an edge twice is no fault
		}
		text := ""
		if method == "PUT" {
			text = w.replacement(t, s, body)
		}
		got := ask(t, w.plane, method, path, text)
		if p := got.problem(t); got.status != http.StatusNotFound || !strings.HasSuffix(p.Message, " not found") {
			t.Errorf("%s of what is gone: %d %s", method, got.status, got.body)
		}
	}
}

// isEdge reports whether the noun has no id of its own.
func (s specimen) isEdge() bool { return s.answer().Properties["id"] == nil }

// replacement is the body of a PUT that changes nothing of what body made.
func (w *world) replacement(t testing.TB, s specimen, body string) string {
	t.Helper()
	var had map[string]any
	if err := json.Unmarshal([]byte(body), &had); err != nil {
		t.Fatal(err)
	}
	schema := bodyOf(s.at.Put)
	for name := range had {
		if schema.Properties[name] == nil {
			delete(had, name)
		}
	}
	for _, name := range schema.Required { // what has a default in POST may have to be given in PUT
		if _, given := had[name]; given {
			continue
		}
		if property := s.request().Properties[name]; property != nil && property.Value.Default != nil {
			had[name] = property.Value.Default
		} else {
			had[name] = w.value(t, name, schema.Properties[name].Value, "")
		}
	}
	return encoded(t, had)
}

func conforms(t *testing.T, schema *openapi3.Schema, body []byte) {
	t.Helper()
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	if err := schema.VisitJSON(value, openapi3.MultiErrors()); err != nil {
		t.Errorf("an answer that the contract does not promise: %v\n%s", err, body)
	}
}

func isList(schema *openapi3.Schema) bool { return schema != nil && schema.Type.Is("array") }

// itemOf finds an object in a list; nil when it is not there.
func itemOf(t *testing.T, s specimen, list, made []byte) []byte {
	t.Helper()
	var items []json.RawMessage
	if err := json.Unmarshal(list, &items); err != nil {
		t.Fatalf("%s: %v", list, err)
	}
	for _, item := range items {
		if s.idIn(t, item) == s.idIn(t, made) {
			return item
		}
	}
	return nil
}

// secretsOf names what only the answer of a create holds.
func secretsOf(schema *openapi3.Schema) (names []string) {
	for name, property := range schema.Properties {
		if hint(property.Value, "secret") != nil || name == "personal_access_token" {
			names = append(names, name)
		}
	}
	return names
}

func without(t *testing.T, body []byte, names []string) map[string]any {
	t.Helper()
	var members map[string]any
	if err := json.Unmarshal(body, &members); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	for _, name := range names {
		delete(members, name)
	}
	return members
}

// lists tries what every list can be asked.
func (w *world) lists(t *testing.T, s specimen) {
	if s.on.Get == nil || !isList(answerOf(s.on.Get)) {
		t.Skip("is not listed")
	}
	collection := w.path(t, s.collection)
	var made [][]byte
	for range 3 {
		_, id := w.make(t, s)
		got := ask(t, w.plane, "GET", collection, "")
		item := itemOf(t, s, got.body, []byte(encoded(t, map[string]string{"id": id})))
		if item == nil {
			t.Fatalf("%s is not in %s", id, got.body)
		}
		made = append(made, item)
	}
	whole := ids(t, s, ask(t, w.plane, "GET", collection, "").body)
	w.pages(t, s, collection, whole)
	w.sparse(t, s, collection)
	first := ask(t, w.plane, "GET", collection, "")
	if got := ask(t, w.plane, "GET", collection, "", "If-None-Match", first.header.Get("ETag")); got.status != http.StatusNotModified {
		t.Errorf("an unchanged list: %d, ETag %q and then %q", got.status, first.header.Get("ETag"), got.header.Get("ETag"))
	}
	if s.isEdge() {
		return
	}
	for _, wanted := range [][]string{{s.idIn(t, made[1])}, {s.idIn(t, made[2]), s.idIn(t, made[0]), "none"}} {
		got := ids(t, s, ask(t, w.plane, "GET", collection+"?ids="+strings.Join(wanted, ","), "").body)
		want := slices.DeleteFunc(slices.Clone(whole), func(id string) bool { return !slices.Contains(wanted, id) })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("ids %v (-want +got):\n%s", wanted, diff)
		}
	}
	var named struct{ Name string }
	if err := json.Unmarshal(made[1], &named); err != nil || named.Name == "" {
		return
	}
	got := ids(t, s, ask(t, w.plane, "GET", collection+"?name="+named.Name, "").body)
	if diff := cmp.Diff([]string{s.idIn(t, made[1])}, got); diff != "" {
		t.Errorf("name %s (-want +got):\n%s", named.Name, diff)
	}
	nobody := ask(t, w.plane, "GET", collection+"?name=nobody", "")
	if s.collection == "/api/groups" { // as existing clients expect
		_ = nobody.problem(t)
	} else if string(bytes.TrimSpace(nobody.body)) != "[]" {
		t.Errorf("a name that nobody has: %d %s", nobody.status, nobody.body)
	}
}

func ids(t *testing.T, s specimen, list []byte) (ids []string) {
	t.Helper()
	var items []json.RawMessage
	if err := json.Unmarshal(list, &items); err != nil {
		t.Fatalf("%s: %v", list, err)
	}
	for _, item := range items {
		ids = append(ids, s.idIn(t, item))
	}
	return ids
}

// pages reads a list one object at a time; an object that comes meanwhile is
// seen, one that goes leaves no gap.
func (w *world) pages(t *testing.T, s specimen, collection string, whole []string) {
	t.Helper()
	var seen []string
	path := collection + "?limit=1"
	for range len(whole) + 3 {
		got := ask(t, w.plane, "GET", path, "")
		if got.status != http.StatusOK {
			t.Fatalf("%s: %d %s", path, got.status, got.body)
		}
		page := ids(t, s, got.body)
		if len(page) > 1 {
			t.Fatalf("%s: %d objects", path, len(page))
		}
		seen = append(seen, page...)
		if len(seen) == 1 && !s.isEdge() && s.at.Delete != nil { // between two pages one object comes and goes, one comes and stays
			gone, _ := w.make(t, s)
			_, stays := w.make(t, s)
			if got := ask(t, w.plane, "DELETE", gone, ""); got.status != http.StatusOK {
				t.Fatalf("DELETE: %d %s", got.status, got.body)
			}
			whole = append(whole, stays)
		}
		link := got.header.Get("Link")
		if link == "" {
			break
		}
		if !strings.HasPrefix(link, "<"+collection+"?") || !strings.HasSuffix(link, `; rel="next"`) {
			t.Fatalf("Link %q", link)
		}
		path, _, _ = strings.Cut(strings.TrimPrefix(link, "<"), ">")
	}
	if diff := cmp.Diff(whole, seen); diff != "" {
		t.Errorf("pages differ from the whole list (-want +got):\n%s", diff)
	}
}

// sparse asks for single members.
func (w *world) sparse(t *testing.T, s specimen, collection string) {
	t.Helper()
	schema := answerOf(s.on.Get).Items.Value
	wanted := slices.Sorted(slices.Values(schema.Required))[:1]
	if !s.isEdge() && !slices.Contains(wanted, "id") {
		wanted = append(wanted, "id")
	}
	got := ask(t, w.plane, "GET", collection+"?fields="+strings.Join(wanted, ","), "")
	var items []map[string]any
	if err := json.Unmarshal(got.body, &items); err != nil || got.status != http.StatusOK || len(items) == 0 {
		t.Fatalf("fields: %d %s", got.status, got.body)
	}
	for _, item := range items {
		for _, name := range wanted {
			if _, there := item[name]; !there || len(item) != len(wanted) {
				t.Errorf("asked for %v and got %v", wanted, item)
			}
		}
	}
	refused := ask(t, w.plane, "GET", collection+"?fields=id,nonsense", "")
	if p := refused.problem(t); refused.status != http.StatusUnprocessableEntity || p.Errors == nil || (*p.Errors)[0].Field != "fields" {
		t.Errorf("a field that is none: %d %s", refused.status, refused.body)
	}
}

// versions tries ETag and If-Match.
func (w *world) versions(t *testing.T, s specimen) {
	collection := w.path(t, s.collection)
	body := w.body(t, s.request())
	made := ask(t, w.plane, "POST", collection, body)
	if made.status != http.StatusOK {
		t.Fatalf("POST %s: %d %s", body, made.status, made.body)
	}
	path, tag := collection+"/"+s.idIn(t, made.body), made.header.Get("ETag")
	if tag == "" {
		t.Errorf("POST answers without an ETag: %s", made.body)
	}
	if s.at.Get != nil {
		if got := ask(t, w.plane, "GET", path, ""); got.header.Get("ETag") != tag {
			t.Errorf("POST answers with ETag %s, GET with %s", tag, got.header.Get("ETag"))
		}
	}
	if s.at.Put != nil {
		same := w.replacement(t, s, body)
		got := ask(t, w.plane, "PUT", path, same, "If-Match", `"999999"`)
		if p := got.problem(t); got.status != http.StatusPreconditionFailed || strings.Contains(p.Message, "not found") {
			t.Errorf("stale PUT: %d %s", got.status, got.body)
		}
		for _, right := range []string{tag, "*", `"0", ` + tag} {
			if got := ask(t, w.plane, "PUT", path, same, "If-Match", right); got.status != http.StatusOK || got.header.Get("ETag") != tag {
				t.Errorf("If-Match: %s of a change that changes nothing: %d, ETag %s after %s", right, got.status, got.header.Get("ETag"), tag)
			}
		}
	}
	if s.at.Delete == nil {
		return
	}
	got := ask(t, w.plane, "DELETE", path, "", "If-Match", `"999999"`)
	if got.status != http.StatusPreconditionFailed {
		t.Fatalf("stale DELETE: %d %s", got.status, got.body)
	}
	_ = got.problem(t)
	if got := ask(t, w.plane, "DELETE", path, "", "If-Match", tag); got.status != http.StatusOK {
		t.Errorf("DELETE of the present version: %d %s", got.status, got.body)
	}
}

// bodies leaves out and empties what must be given, and adds what is not known.
func (w *world) bodies(t *testing.T, s specimen) {
	for method, operation := range map[string]*openapi3.Operation{"POST": s.create, "PUT": s.at.Put} {
		if operation == nil {
			continue
		}
		schema, path := bodyOf(operation), w.path(t, s.collection)
		text := w.body(t, s.request())
		if method == "PUT" {
			path, _ = w.make(t, s)
			text = w.replacement(t, s, text)
		}
		var body map[string]any
		if err := json.Unmarshal([]byte(text), &body); err != nil {
			t.Fatal(err)
		}
		refused := func(what, field string, changed map[string]any, query string) {
			t.Helper()
			got := ask(t, w.plane, method, path+query, encoded(t, changed))
			p := got.problem(t)
			if got.status != http.StatusBadRequest && got.status != http.StatusUnprocessableEntity {
				t.Errorf("%s %s: %d %s", method, what, got.status, got.body)
			} else if p.Errors == nil || !strings.HasPrefix((*p.Errors)[0].Field, field) {
				t.Errorf("%s %s does not name %s: %s", method, what, field, got.body)
			}
		}
		for _, name := range schema.Required {
			less := map[string]any{}
			for other, value := range body {
				if other != name {
					less[other] = value
				}
			}
			refused(name+" absent", name, less, "")
			less[name] = nil
			if !nullable(schema.Properties[name].Value) {
				refused(name+" null", name, less, "")
			}
		}
		body["no_such_member"] = true
		refused("with an unknown member, strict", "no_such_member", body, "?strict=true")
	}
}

func nullable(schema *openapi3.Schema) bool {
	if schema.Type.Includes("null") {
		return true
	}
	return slices.ContainsFunc(slices.Concat(schema.AnyOf, schema.OneOf), func(one *openapi3.SchemaRef) bool { return one.Value.Type.Is("null") })
}

// groups writes a group's name, and something that is none, where an id is
// taken.
func (w *world) groups(t *testing.T, s specimen) {
	group := w.id(t, "group", 0)
	var read struct{ Name string }
	if err := json.Unmarshal(ask(t, w.plane, "GET", "/api/groups/"+group, "").body, &read); err != nil {
		t.Fatal(err)
	}
	collection := w.path(t, s.collection)
	for _, place := range groupPlaces(s.request(), nil) {
		field := place[len(place)-1]
		var body map[string]any
		if err := json.Unmarshal([]byte(w.body(t, s.request())), &body); err != nil {
			t.Fatal(err)
		}
		at, name := w.reach(t, s.request(), body, place)
		w.instead(at.schema, at.object, field)
		at.object[field] = []string{read.Name}
		got := ask(t, w.plane, "POST", collection, encoded(t, body))
		if got.status != http.StatusOK || !bytes.Contains(got.body, []byte(`"`+group+`"`)) {
			t.Errorf("%s by name: %d %s", name, got.status, got.body)
		}
		at.object[field] = []string{"no such group"}
		w.renamed(t, s, body)
		got = ask(t, w.plane, "POST", collection, encoded(t, body))
		// Existing clients expect 404 from setup keys alone.
		if s.collection == "/api/setup-keys" && got.status == http.StatusNotFound {
			continue
		}
		p := got.problem(t)
		if got.status != http.StatusUnprocessableEntity || p.Errors == nil || (*p.Errors)[0].Field != name+"[0]" {
			t.Errorf("%s that is no group: %d %s", name, got.status, got.body)
		}
	}
}

// groupPlaces finds the lists of groups in a schema, also inside the objects of a
// list, as the members that lead there.
func groupPlaces(schema *openapi3.Schema, before []string) (places [][]string) {
	for _, field := range slices.Sorted(maps.Keys(schema.Properties)) {
		property, here := schema.Properties[field].Value, append(slices.Clone(before), field)
		inner := plain(property)
		switch {
		case !inner.Type.Includes("array"):
		case hint(property, "references") == "group":
			places = append(places, here)
		case inner.Items.Value.Type.Includes("object"):
			places = append(places, groupPlaces(inner.Items.Value, here)...)
		}
	}
	return places
}

// A spot is an object inside a body.
type spot struct {
	schema *openapi3.Schema
	object map[string]any
}

// reach returns the object that holds the last member of a place, in the first
// element of each list on the way, and the place as a problem writes it.
func (w *world) reach(t *testing.T, schema *openapi3.Schema, body map[string]any, place []string) (spot, string) {
	t.Helper()
	at, name := spot{schema, body}, ""
	for _, field := range place[:len(place)-1] {
		list, _ := at.object[field].([]any)
		if len(list) == 0 {
			t.Fatalf("no %s in %v", field, at.object)
		}
		at = spot{plain(at.schema.Properties[field].Value).Items.Value, list[0].(map[string]any)}
		name += field + "[0]."
	}
	return at, name + place[len(place)-1]
}

// person gives the smallest body an e-mail address where one may be given: it is
// what must be unique of a user.
func (w *world) person(t *testing.T, s specimen, body string) string {
	t.Helper()
	property := s.request().Properties["email"]
	if property == nil {
		return body
	}
	members := without(t, []byte(body), nil)
	w.instead(s.request(), members, "email")
	members["email"] = w.value(t, "email", property.Value, "")
	return encoded(t, members)
}

// immutable sends another value for each field that stays as it was made, which is
// refused, and the value that it has, which is not.
func (w *world) immutable(t *testing.T, s specimen) {
	if s.at.Put == nil {
		t.Skip("has no PUT")
	}
	known := bodyOf(s.at.Put).Properties
	for field, property := range s.request().Properties {
		if hint(property.Value, "immutable") != true {
			continue
		}
		body := w.body(t, s.request())
		made := ask(t, w.plane, "POST", w.path(t, s.collection), body)
		path := w.path(t, s.collection) + "/" + s.idIn(t, made.body)
		had, _ := without(t, made.body, nil)[field]
		changed := without(t, []byte(w.replacement(t, s, body)), nil)
		changed[field] = w.other(t, field, property.Value, had)
		if known[field] == nil {
			t.Errorf("PUT does not know %s, so that another value would be dropped: add it to its schema", field)
			continue
		}
		got := ask(t, w.plane, "PUT", path, encoded(t, changed))
		if p := got.problem(t); got.status != http.StatusUnprocessableEntity || p.Errors == nil || (*p.Errors)[0].Field != field {
			t.Errorf("%s changed from %v to %v: %d %s", field, had, changed[field], got.status, got.body)
		}
		changed[field] = had
		if got := ask(t, w.plane, "PUT", path, encoded(t, changed)); got.status != http.StatusOK {
			t.Errorf("%s as it is: %d %s", field, got.status, got.body)
		}
	}
}

// other is a right value of a schema that differs from had.
func (w *world) other(t *testing.T, field string, schema *openapi3.Schema, had any) any {
	t.Helper()
	switch value := had.(type) {
	case bool:
		return !value
	case float64:
		return value + 1
	}
	for _, one := range schema.Enum {
		if one != had {
			return one
		}
	}
	schema = plain(schema)
	fresh := *schema
	fresh.Example = nil
	if value := w.value(t, field, &fresh, ""); value != had {
		return value
	}
	t.Fatalf("no second value of %s beside %v", field, had)
	return nil
}

// sentBack replaces an object with all that it showed, as clients do that change
// one member of what they read: what only the server writes is ignored, unless it
// says that this is another object, or part of another one.
func (w *world) sentBack(t *testing.T, s specimen) {
	if s.at.Put == nil {
		t.Skip("has no PUT")
	}
	body := w.body(t, s.request())
	collection := w.path(t, s.collection)
	made := ask(t, w.plane, "POST", collection, body)
	path := collection + "/" + s.idIn(t, made.body)
	shown := without(t, ask(t, w.plane, "GET", path, "").body, nil)
	known := bodyOf(s.at.Put).Properties
	sent := without(t, []byte(w.replacement(t, s, body)), nil)
	for name, value := range shown {
		if known[name] == nil {
			sent[name] = value
		}
	}
	sent["no_such_member"] = "of a newer client"
	got := ask(t, w.plane, "PUT", path, encoded(t, sent))
	if got.status != http.StatusOK {
		t.Fatalf("PUT %s: %d %s", encoded(t, sent), got.status, got.body)
	}
	if diff := cmp.Diff(shown, without(t, got.body, nil)); diff != "" {
		t.Errorf("what was sent back changes the object (-had +has):\n%s", diff)
	}
	places := []string{"id"}
	for _, name := range parameter.FindAllString(s.collection, -1) {
		places = append(places, strings.Trim(name, "{}"))
	}
	for _, name := range places {
		moved := maps.Clone(sent)
		moved[name] = "another"
		got := ask(t, w.plane, "PUT", path, encoded(t, moved))
		if p := got.problem(t); got.status != http.StatusUnprocessableEntity || p.Errors == nil || (*p.Errors)[0].Field != name {
			t.Errorf("%s of another object: %d %s", name, got.status, got.body)
		}
	}
}

// taken makes the same object twice: a conflict where the contract has one for
// it, and two objects elsewhere.
func (w *world) taken(t *testing.T, s specimen) {
	if s.collection == "/api/users/invites" {
		t.Skip("a later invite takes the place of the earlier one")
	}
	collection := w.path(t, s.collection)
	body := w.person(t, s, w.body(t, s.request()))
	first := ask(t, w.plane, "POST", collection, body)
	if first.status != http.StatusOK {
		t.Fatalf("POST %s: %d %s", body, first.status, first.body)
	}
	again := ask(t, w.plane, "POST", collection, body)
	if s.create.Responses.Value("409") == nil {
		if again.status != http.StatusOK || !s.isEdge() && s.idIn(t, again.body) == s.idIn(t, first.body) {
			t.Errorf("a second one like it: %d %s", again.status, again.body)
		}
		return
	}
	if p := again.problem(t); again.status != http.StatusConflict || p.Type != api.ProblemConflict {
		t.Fatalf("a second one like it: %d %s", again.status, again.body)
	}
	if s.at.Put == nil {
		return
	}
	// And a change must not bring another object there.
	second := w.person(t, s, w.body(t, s.request()))
	made := ask(t, w.plane, "POST", collection, second)
	if made.status != http.StatusOK {
		t.Fatalf("POST %s: %d %s", second, made.status, made.body)
	}
	path := collection + "/" + s.idIn(t, made.body)
	got := ask(t, w.plane, "PUT", path, w.replacement(t, s, body))
	// What would be taken may be a field that cannot be changed at all.
	fixed := slices.ContainsFunc(slices.Collect(maps.Values(s.request().Properties)), func(p *openapi3.SchemaRef) bool { return hint(p.Value, "immutable") == true })
	switch {
	case fixed && (got.status == http.StatusUnprocessableEntity || got.status == http.StatusOK):
	case got.status != http.StatusConflict || got.problem(t).Type != api.ProblemConflict:
		t.Errorf("PUT into the place of another one: %d %s", got.status, got.body)
	}
	if now := ask(t, w.plane, "GET", path, ""); s.at.Get != nil && !bytes.Equal(now.body, made.body) {
		t.Errorf("a refused change left %s of %s", now.body, made.body)
	}
}

// instead makes room for a field that does not go together with others.
func (w *world) instead(schema *openapi3.Schema, body map[string]any, field string) {
	for _, rule := range []string{"oneOf", "atMostOneOf"} {
		sets, _ := hint(schema, rule).([]any)
		for _, set := range sets {
			if slices.Contains(set.([]any), any(field)) {
				for _, other := range set.([]any) {
					delete(body, other.(string))
				}
			}
		}
	}
}

// renamed gives a body a new name, so that nothing but its fault is refused.
func (w *world) renamed(t *testing.T, s specimen, body map[string]any) {
	t.Helper()
	if property := s.request().Properties["name"]; property != nil && body["name"] != nil {
		body["name"] = w.value(t, "name", property.Value, "")
	}
}

// parents addresses a part through another whole.
func (w *world) parents(t *testing.T, s specimen) {
	names := parameter.FindAllString(s.collection, -1)
	if len(names) == 0 {
		t.Skip("is part of nothing")
	}
	noun := strings.TrimSuffix(strings.Trim(names[len(names)-1], "{}"), "_id")
	path, id := w.make(t, s)
	other := strings.Replace(path, w.id(t, noun, 0), w.id(t, noun, 1), 1)
	if other == path {
		t.Fatalf("no second %s", noun)
	}
	w.gone(t, s, other, w.body(t, s.request()))
	nowhere := strings.Replace(strings.TrimSuffix(path, "/"+id), w.id(t, noun, 0), "none", 1)
	for _, method := range []string{"GET", "POST"} {
		body := ""
		if method == "POST" {
			body = w.body(t, s.request())
		}
		if s.on.GetOperation(method) == nil {
			continue
		}
		if got := ask(t, w.plane, method, nowhere, body); got.problem(t).Status != http.StatusNotFound {
			t.Errorf("%s below a %s that does not exist: %d %s", method, noun, got.status, got.body)
		}
	}
	if s.at.Get != nil {
		if got := ask(t, w.plane, "GET", path, ""); got.status != http.StatusOK {
			t.Errorf("the part is gone: %d %s", got.status, got.body)
		}
	}
}

// repeated sends a create again under its Idempotency-Key.
func (w *world) repeated(t *testing.T, s specimen) {
	collection, key := w.path(t, s.collection), "repeated "+s.collection
	body := w.body(t, s.request())
	first := ask(t, w.plane, "POST", collection, body, "Idempotency-Key", key)
	again := ask(t, w.plane, "POST", collection, body, "Idempotency-Key", key)
	if first.status != http.StatusOK || string(first.body) != string(again.body) || again.status != first.status {
		t.Errorf("%d %s\nand again %d %s", first.status, first.body, again.status, again.body)
	}
	if again.header.Get("Idempotent-Replayed") != "true" || again.header.Get("ETag") != first.header.Get("ETag") {
		t.Errorf("carried out twice, or with ETag %s after %s", again.header.Get("ETag"), first.header.Get("ETag"))
	}
	other := ask(t, w.plane, "POST", collection, w.body(t, s.request())+" ", "Idempotency-Key", key)
	if p := other.problem(t); other.status != http.StatusConflict || !strings.Contains(p.Message, "another request") {
		t.Errorf("another body under the same key: %d %s", other.status, other.body)
	}
}

// provenance creates an object as Terraform does: it tells so from then on.
func (w *world) provenance(t *testing.T, s specimen) {
	if s.isEdge() {
		t.Skip("has no id of its own")
	}
	if s.answer().Properties["managed_by"] == nil {
		t.Fatal("does not tell who manages it: add managed_by to its schema, as the others have it")
	}
	collection := w.path(t, s.collection)
	body := w.body(t, s.request())
	made := ask(t, w.plane, "POST", collection, body, "X-Managed-By", "terraform")
	expect(t, "POST", made.body, "managed_by", "terraform")
	path := collection + "/" + s.idIn(t, made.body)
	if s.at.Put != nil { // somebody else changes it
		got := ask(t, w.plane, "PUT", path, w.replacement(t, s, body))
		expect(t, "PUT", got.body, "managed_by", "terraform")
	}
	if s.at.Get != nil {
		expect(t, "GET", ask(t, w.plane, "GET", path, "").body, "managed_by", "terraform")
	}
	if s.on.Get != nil && isList(answerOf(s.on.Get)) {
		expect(t, "LIST", itemOf(t, s, ask(t, w.plane, "GET", collection, "").body, made.body), "managed_by", "terraform")
	}
	byHand := ask(t, w.plane, "POST", collection, w.body(t, s.request()), "X-Managed-By", "nonsense")
	expect(t, "by hand", byHand.body, "managed_by", absent{})
}

// Every list can be asked for single members and for changes.
func TestListsDeclareWhatTheyAnswer(t *testing.T) {
	w := newWorld(t)
	declares := func(operation *openapi3.Operation, name string) bool {
		return slices.ContainsFunc(operation.Parameters, func(p *openapi3.ParameterRef) bool { return p.Value.Name == name })
	}
	for path, item := range w.spec.Paths.Map() {
		if isList(answerOf(item.Get)) && strings.HasPrefix(path, "/api/") {
			for _, name := range []string{"fields", "If-None-Match"} {
				if !declares(item.Get, name) {
					t.Errorf("%s: add the parameter %s to %s", path, name, item.Get.OperationID)
				}
			}
		}
	}
	for _, s := range w.specimens {
		if s.on.Get == nil || !isList(answerOf(s.on.Get)) {
			continue
		}
		wanted := []string{"limit", "cursor"}
		if !s.isEdge() {
			wanted = append(wanted, "ids")
		}
		if s.answer().Properties["name"] != nil {
			wanted = append(wanted, "name")
		}
		for _, name := range wanted {
			if !declares(s.on.Get, name) {
				t.Errorf("%s: add the parameter %s to %s", s.collection, name, s.on.Get.OperationID)
			}
		}
	}
}

// What exists by itself, once in the account or since a machine enrolled, keeps
// the same promises.
func TestAdoptedNounsAndSingletonsKeepTheContract(t *testing.T) {
	w := newWorld(t)
	found := 0
	for _, name := range slices.Sorted(maps.Keys(w.spec.Components.Schemas)) {
		resource, _ := w.spec.Components.Schemas[name].Value.Extensions["x-terraform-resource"].(map[string]any)
		path, _ := resource["path"].(string)
		switch resource["kind"] {
		case "adopted":
			found++
			noun, _ := resource["name"].(string)
			t.Run(noun, func(t *testing.T) {
				item := path + "/{" + noun + "_id}"
				w.adopted(t, specimen{collection: path, noun: noun, item: item, on: w.spec.Paths.Value(path), at: w.spec.Paths.Value(item)})
			})
		case "singleton":
			found++
			t.Run(path, func(t *testing.T) { w.singleton(t, path) })
		}
	}
	if found < 3 {
		t.Errorf("%d of them in the contract: the walk does not find them", found)
	}
}

func (w *world) adopted(t *testing.T, s specimen) {
	id := w.id(t, s.noun, 0)
	path := s.collection + "/" + id
	got := ask(t, w.plane, "GET", path, "")
	conforms(t, answerOf(s.at.Get), got.body)
	list := ask(t, w.plane, "GET", s.collection, "")
	conforms(t, answerOf(s.on.Get), list.body)
	if itemOf(t, s, list.body, got.body) == nil {
		t.Errorf("%s is not in the list: %s", id, list.body)
	}
	schema := bodyOf(s.at.Put)
	w.keepsWhatIsAbsent(t, "PUT", path, schema, without(t, got.body, nil))
	w.refusesStale(t, "PUT", path, encoded(t, pick(without(t, got.body, nil), schema.Required)))
	w.refusesStale(t, "DELETE", path, "")
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		body := ""
		if method == "PUT" {
			body = encoded(t, pick(without(t, got.body, nil), schema.Required))
		}
		if gone := ask(t, w.plane, method, s.collection+"/none", body); gone.problem(t).Status != http.StatusNotFound {
			t.Errorf("%s of none: %d %s", method, gone.status, gone.body)
		}
	}
}

func (w *world) singleton(t *testing.T, path string) {
	at := w.spec.Paths.Value(path)
	got := ask(t, w.plane, "GET", path, "")
	conforms(t, answerOf(at.Get), got.body)
	if got.header.Get("ETag") == "" {
		t.Error("no ETag")
	}
	w.keepsWhatIsAbsent(t, "PATCH", path, bodyOf(at.Patch), without(t, got.body, nil))
	w.refusesStale(t, "PATCH", path, "{}")
	if at.Delete == nil {
		return
	}
	if got := ask(t, w.plane, "DELETE", path, ""); got.status != http.StatusOK {
		t.Errorf("DELETE: %d %s", got.status, got.body)
	}
	if got := ask(t, w.plane, "GET", path, ""); got.status != http.StatusOK {
		t.Errorf("a singleton is gone: %d %s", got.status, got.body)
	}
}

// keepsWhatIsAbsent sends back each member alone, with what must be given: nothing
// may change, and the answer is the one of GET.
func (w *world) keepsWhatIsAbsent(t *testing.T, method, path string, schema *openapi3.Schema, had map[string]any) {
	t.Helper()
	for _, field := range slices.Sorted(maps.Keys(schema.Properties)) {
		value, shown := had[field]
		if !shown {
			continue
		}
		body := pick(had, schema.Required)
		body[field] = value
		got := ask(t, w.plane, method, path, encoded(t, body))
		if got.status != http.StatusOK {
			t.Errorf("%s %s: %d %s", method, encoded(t, body), got.status, got.body)
			continue
		}
		if diff := cmp.Diff(had, without(t, got.body, nil)); diff != "" {
			t.Errorf("%s %s changes (-had +has):\n%s", method, encoded(t, body), diff)
		}
	}
}

func (w *world) refusesStale(t *testing.T, method, path, body string) {
	t.Helper()
	if got := ask(t, w.plane, method, path, body, "If-Match", `"999999"`); got.problem(t).Status != http.StatusPreconditionFailed {
		t.Errorf("stale %s: %d %s", method, got.status, got.body)
	}
}

// pick is a copy of some members.
func pick(members map[string]any, names []string) map[string]any {
	some := map[string]any{}
	for _, name := range names {
		some[name] = members[name]
	}
	return some
}

// An answer that shows the name of another object changes with it, and 304 does
// not hide that. As If-Match the ETag is still the version of the object.
func TestAnswersFollowTheNamesThatTheyShow(t *testing.T) {
	plane := controlplanetest.New(t)
	machine := controlplanetest.NewMachine(t, plane).PeerID
	group := created(t, plane, "/api/groups", `{"name":"web","peers":["`+machine+`"]}`)
	policyBody := `{"name":"p","rules":[{"name":"r","sources":["` + group + `"],"destinations":["All"]}]}`
	policy := created(t, plane, "/api/policies", policyBody)
	paths := []string{"/api/policies/" + policy, "/api/groups/" + group}
	tags := map[string]string{}
	for _, path := range paths {
		first := ask(t, plane, "GET", path, "")
		tags[path] = first.header.Get("ETag")
		if got := ask(t, plane, "GET", path, "", "If-None-Match", tags[path]); got.status != http.StatusNotModified {
			t.Errorf("%s unchanged: %d", path, got.status)
		}
	}
	for _, rename := range []struct{ path, body string }{
		{"/api/groups/" + group, `{"name":"www"}`}, {"/api/peers/" + machine, `{"name":"other"}`},
	} {
		if got := ask(t, plane, "PUT", rename.path, rename.body); got.status != http.StatusOK {
			t.Fatalf("rename: %d %s", got.status, got.body)
		}
	}
	for path, want := range map[string]string{paths[0]: `"www"`, paths[1]: `"other"`} {
		got := ask(t, plane, "GET", path, "", "If-None-Match", tags[path])
		if got.status != http.StatusOK || got.header.Get("ETag") == tags[path] || !bytes.Contains(got.body, []byte(want)) {
			t.Errorf("%s after the rename: %d, ETag %s, %s", path, got.status, got.header.Get("ETag"), got.body)
		}
	}
	if got := ask(t, plane, "PUT", paths[0], strings.Replace(policyBody, `"p"`, `"q"`, 1), "If-Match", tags[paths[0]]); got.status != http.StatusOK {
		t.Errorf("a change of the version that was read: %d %s", got.status, got.body)
	}
}

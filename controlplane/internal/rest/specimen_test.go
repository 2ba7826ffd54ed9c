package rest_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp/syntax"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
)

// A specimen is a noun as the contract tells it: what is made by POST to a
// collection and addressed below it.
type specimen struct {
	collection, item string // paths; item is empty when single objects are not addressed
	noun             string // as references name it; empty for one that Terraform does not know
	create           *openapi3.Operation
	on               *openapi3.PathItem // the collection
	at               *openapi3.PathItem // the item; nil when there is none
}

// request is the schema of what creates it.
func (s specimen) request() *openapi3.Schema { return bodyOf(s.create) }

// answer is the schema of what reads it.
func (s specimen) answer() *openapi3.Schema {
	if s.at != nil && s.at.Get != nil {
		return answerOf(s.at.Get)
	}
	return answerOf(s.create)
}

func bodyOf(operation *openapi3.Operation) *openapi3.Schema {
	if operation == nil || operation.RequestBody == nil {
		return nil
	}
	media := operation.RequestBody.Value.Content.Get("application/json")
	if media == nil || media.Schema == nil {
		return nil
	}
	return media.Schema.Value
}

func answerOf(operation *openapi3.Operation) *openapi3.Schema {
	if operation == nil || operation.Responses.Value("200") == nil {
		return nil
	}
	media := operation.Responses.Value("200").Value.Content.Get("application/json")
	if media == nil || media.Schema == nil {
		return nil
	}
	return media.Schema.Value
}

// A world is a control plane with an object of each kind that others refer to.
type world struct {
	plane     *controlplanetest.Server
	spec      *openapi3.T
	specimens []specimen
	ids       map[string][]string // by noun, in the order in which they were made
	counts    map[string]int      // how many values each property was given
}

func newWorld(t testing.TB) *world {
	t.Helper()
	spec, err := openapi3.NewLoader().LoadFromFile("../../../openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{plane: controlplanetest.New(t), spec: spec, ids: map[string][]string{}, counts: map[string]int{}}
	names := map[string]string{}
	for _, schema := range spec.Components.Schemas {
		if resource, ok := schema.Value.Extensions["x-terraform-resource"].(map[string]any); ok {
			path, _ := resource["path"].(string)
			names[path], _ = resource["name"].(string)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(spec.Paths.Map())) {
		on := spec.Paths.Value(path)
		if on.Post == nil || bodyOf(on.Post) == nil || !strings.HasPrefix(path, "/api/") {
			continue
		}
		s := specimen{collection: path, noun: names[path], create: on.Post, on: on}
		for _, below := range slices.Sorted(maps.Keys(spec.Paths.Map())) {
			rest, found := strings.CutPrefix(below, path+"/{")
			if found && strings.HasSuffix(rest, "}") && !strings.Contains(rest, "/") {
				s.item, s.at = below, spec.Paths.Value(below)
			}
		}
		if s.at != nil {
			w.specimens = append(w.specimens, s)
		}
	}
	return w
}

// path fills the parameters of a path but the last, when it is that of an item.
func (w *world) path(t testing.TB, path string) string {
	t.Helper()
	return parameter.ReplaceAllStringFunc(path, func(name string) string {
		return w.id(t, strings.TrimSuffix(strings.Trim(name, "{}"), "_id"), 0)
	})
}

// id is the id of the i-th object of a noun; it is made when it does not exist.
func (w *world) id(t testing.TB, noun string, i int) string {
	t.Helper()
	if noun == "account" {
		return w.plane.AccountID
	}
	for len(w.ids[noun]) <= i {
		made := ""
		if noun == "peer" {
			made = controlplanetest.NewMachine(t, w.plane).PeerID
		} else {
			for _, s := range w.specimens {
				if s.noun == noun || strings.HasSuffix(s.item, "/{"+noun+"_id}") {
					_, made = w.make(t, s)
					break
				}
			}
		}
		if made == "" {
			return "none"
		}
		w.ids[noun] = append(w.ids[noun], made)
	}
	return w.ids[noun][i]
}

// make creates an object and returns its path and id.
func (w *world) make(t testing.TB, s specimen) (path, id string) {
	t.Helper()
	collection := w.path(t, s.collection)
	body := w.body(t, s.request())
	got := ask(t, w.plane, "POST", collection, body)
	if got.status != http.StatusOK {
		t.Fatalf("POST %s %s: %d %s", collection, body, got.status, got.body)
	}
	id = s.idIn(t, got.body)
	return collection + "/" + id, id
}

// idIn is the id of an object in an answer: of an edge, that of its other end.
func (s specimen) idIn(t testing.TB, body []byte) string {
	t.Helper()
	var members map[string]any
	if err := json.Unmarshal(body, &members); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	id, ok := members["id"].(string)
	if last := s.item[strings.LastIndex(s.item, "{"):]; !ok {
		id, ok = members[strings.Trim(last, "{}")].(string)
	}
	if !ok {
		t.Fatalf("no id in %s", body)
	}
	return id
}

// body is the smallest request that a schema allows, as text.
func (w *world) body(t testing.TB, schema *openapi3.Schema) string {
	t.Helper()
	return encoded(t, w.value(t, "", schema, ""))
}

func encoded(t testing.TB, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func hint(schema *openapi3.Schema, name string) any {
	hints, _ := schema.Extensions["x-terraform"].(map[string]any)
	return hints[name]
}

// plain is a schema without the null that it may allow.
func plain(schema *openapi3.Schema) *openapi3.Schema {
	for _, one := range slices.Concat(schema.AnyOf, schema.OneOf) {
		if !one.Value.Type.Is("null") {
			return one.Value
		}
	}
	return schema
}

// value is a right value of a schema. field names it among its siblings, noun
// is what it refers to, "" for nothing.
func (w *world) value(t testing.TB, field string, schema *openapi3.Schema, noun string) any {
	t.Helper()
	if named, ok := hint(schema, "references").(string); ok {
		noun = named
	}
	schema = plain(schema)
	if named, ok := hint(schema, "references").(string); ok {
		noun = named
	}
	switch {
	case schema.Type.Includes("object") || len(schema.Properties) > 0:
		return w.object(t, schema)
	case schema.Type.Includes("array"):
		items := make([]any, max(1, schema.MinItems))
		for i := range items {
			items[i] = w.value(t, field, schema.Items.Value, noun)
		}
		return items
	case noun != "":
		return w.id(t, noun, 0)
	case len(schema.Enum) > 0:
		return schema.Enum[0]
	case schema.Type.Includes("boolean"):
		return true
	case schema.Type.Includes("integer"), schema.Type.Includes("number"):
		if schema.Min != nil {
			return *schema.Min + 1
		}
		return 1
	}
	return w.text(field, schema)
}

// object has what it must have, the first of what excludes each other, and what
// its example adds; what is null in the example does not go together with it.
func (w *world) object(t testing.TB, schema *openapi3.Schema) map[string]any {
	t.Helper()
	wanted := slices.Clone(schema.Required)
	sets, _ := hint(schema, "oneOf").([]any)
	for _, set := range sets {
		wanted = append(wanted, set.([]any)[0].(string))
	}
	if schema.MinProps > 0 && len(wanted) == 0 {
		wanted = slices.Sorted(maps.Keys(schema.Properties))[:schema.MinProps]
	}
	example, _ := schema.Example.(map[string]any)
	object := map[string]any{}
	for _, name := range wanted {
		property := schema.Properties[name]
		if given, ok := example[name]; !ok && property != nil {
			object[name] = w.value(t, name, property.Value, "")
		} else if given != nil {
			object[name] = w.given(t, name, given)
		}
	}
	for name, given := range example {
		if given != nil && object[name] == nil {
			object[name] = w.given(t, name, given)
		}
	}
	return object
}

// firstDomain is the domain of which the examples of the contract speak.
const firstDomain = "one.example.org"

// given is a value of an example: a name is another one each time, and lies in
// the zone that there is.
func (w *world) given(t testing.TB, field string, value any) any {
	t.Helper()
	text, ok := value.(string)
	if !ok || field != "name" {
		return value
	}
	w.counts[field]++
	if strings.HasSuffix(text, firstDomain) {
		var zone struct{ Domain string }
		got := ask(t, w.plane, "GET", "/api/dns/zones/"+w.id(t, "zone", 0), "")
		if err := json.Unmarshal(got.body, &zone); err != nil {
			t.Fatalf("%s: %v", got.body, err)
		}
		text = strings.TrimSuffix(text, firstDomain) + zone.Domain
	}
	return fmt.Sprintf("n%d-%s", w.counts[field], text)
}

// text is a text of the right spelling, another one each time.
func (w *world) text(field string, schema *openapi3.Schema) string {
	if text, ok := schema.Example.(string); ok && field != "email" {
		return text
	}
	w.counts[field]++
	n := w.counts[field]
	switch schema.Format {
	case "ipv4", "ip":
		return fmt.Sprintf("100.64.%d.%d", 1+n/250, 1+n%250)
	case "ipv6":
		return fmt.Sprintf("fd00::%x", n)
	case "cidr":
		return fmt.Sprintf("10.%d.%d.0/24", 9+n/250, n%250)
	case "hostname", "dns-name", "wildcard-dns-name":
		if n == 1 {
			return firstDomain
		}
		return fmt.Sprintf("host-%d.example.org", n)
	case "uri":
		return fmt.Sprintf("https://host-%d.example.org", n)
	case "date-time":
		return "2031-01-02T03:04:05Z"
	}
	if field == "email" { // unique in an account
		return fmt.Sprintf("person-%d@example.org", n)
	}
	if schema.Pattern != "" {
		return matching(schema.Pattern)
	}
	text := fmt.Sprintf("%s-%d", field, n)
	return text + strings.Repeat("x", max(0, int(schema.MinLength)-len(text)))
}

// matching is a text that a pattern matches.
func matching(pattern string) string {
	expression, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return ""
	}
	var walk func(*syntax.Regexp) string
	walk = func(e *syntax.Regexp) string {
		switch e.Op {
		case syntax.OpLiteral:
			return string(e.Rune)
		case syntax.OpCharClass:
			for i := 0; i < len(e.Rune); i += 2 { // a letter, if it may be one
				if from := max(e.Rune[i], 'a'); from <= min(e.Rune[i+1], 'z') {
					return string(from)
				}
			}
			return string(e.Rune[0])
		case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
			return "a"
		case syntax.OpPlus, syntax.OpCapture, syntax.OpAlternate:
			return walk(e.Sub[0])
		case syntax.OpRepeat:
			return strings.Repeat(walk(e.Sub[0]), e.Min)
		case syntax.OpConcat:
			var text strings.Builder
			for _, sub := range e.Sub {
				text.WriteString(walk(sub))
			}
			return text.String()
		}
		return ""
	}
	return walk(expression.Simplify())
}

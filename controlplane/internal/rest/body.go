package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/state"
	"github.com/wattlenet/wattle/generated/api"
)

// Constants we chose.
const (
	// maxBody is the limit that the contract names.
	maxBody = 1 << 20

	// bodyDeadline is how long a caller may take to send a body.
	bodyDeadline = 30 * time.Second
)

// readAny reads the body that an operation takes, to its end; nil for one that
// takes none.
func readAny(w http.ResponseWriter, r *http.Request, operation api.Operation) ([]byte, error) {
	switch {
	case operation.PlainBody:
		return readAll(w, r, state.MaxTerraformState, "a Terraform state")
	case operation.NewBody == nil:
		return nil, nil
	}
	raw, err := readBody(w, r, operation.NewBody(), operation.BodyOptional)
	if err != nil {
		return nil, err
	}
	return raw, checkPlace(raw, r.URL.Path, operation.Path)
}

// checkPlace refuses a body that tells another id than its path: of the object
// itself as "id", of what the object is part of by the name of the parameter.
func checkPlace(raw []byte, urlPath, pattern string) error {
	var members map[string]json.RawMessage
	_ = json.Unmarshal(raw, &members) // readBody decoded it before; of a Terraform state or nothing there is nothing to say
	var wrong []problem.FieldError
	parts := strings.Split(urlPath, "/")
	for i, part := range strings.Split(pattern, "/") {
		name, found := strings.CutPrefix(part, "{")
		if !found || i >= len(parts) {
			continue
		}
		if name = strings.TrimSuffix(name, "}"); strings.HasSuffix(pattern, part) {
			name = "id"
		}
		var told string
		if json.Unmarshal(members[name], &told) == nil && told != "" && told != parts[i] {
			wrong = append(wrong, problem.Field(name, "is %q here and %q in the path; objects do not move", told, parts[i]))
		}
	}
	if len(wrong) > 0 {
		return problem.Invalid(wrong...)
	}
	return nil
}

// readBody reads the JSON body of a request and checks all that can be said of
// it before its values are looked at: media type, size, syntax, types, and
// which members are there. An optional body may be empty. It returns a problem that names every fault.
func readBody(w http.ResponseWriter, r *http.Request, target any, optional bool) ([]byte, error) {
	form, err := checkMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return nil, err
	}
	raw, err := readAll(w, r, maxBody, "the body")
	if err != nil {
		return nil, err
	}
	if form && !bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) {
		return nil, errMediaType
	}
	if optional && len(bytes.TrimSpace(raw)) == 0 {
		return nil, nil
	}
	return raw, checkBody(raw, target, r.URL.Query().Get("strict") == "true")
}

// readAll reads a body of at most limit bytes within the deadline; subject is
// what a body that is too large is called.
func readAll(w http.ResponseWriter, r *http.Request, limit int64, subject string) ([]byte, error) {
	errTooLarge := problem.TooLarge(subject, int(limit>>20))
	if r.ContentLength > limit {
		return nil, errTooLarge
	}
	controller := http.NewResponseController(w)
	_ = controller.SetReadDeadline(time.Now().Add(bodyDeadline)) // a recorder in a test has none
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	_ = controller.SetReadDeadline(time.Time{})
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, errTooLarge
	case err != nil:
		return nil, problem.Malformed("the body could not be read to its end")
	}
	return raw, nil
}

var errMediaType = &problem.Problem{Kind: problem.KindMediaType, Detail: "the body must be JSON; send it with Content-Type: application/json"}

// checkMediaType accepts JSON, and a body that does not say what it is. What calls
// itself a form may be JSON all the same: curl says so of everything that it is
// not told about, and existing servers of this API family do not ask.
func checkMediaType(contentType string) (form bool, err error) {
	if contentType == "" {
		return false, nil
	}
	mediaType, _, err := mime.ParseMediaType(contentType)
	switch {
	case err != nil:
		return false, errMediaType
	case mediaType == "application/x-www-form-urlencoded":
		return true, nil
	case mediaType == "application/json", mediaType == "application/merge-patch+json":
		return false, nil
	}
	return false, errMediaType
}

func checkBody(raw []byte, target any, strict bool) error {
	if len(bytes.TrimSpace(raw)) == 0 {
		return problem.Malformed("the body is empty; send a JSON object")
	}
	undecodable := json.Unmarshal(raw, target)
	if syntax, ok := errors.AsType[*json.SyntaxError](undecodable); ok {
		line, column := position(raw, syntax.Offset)
		return problem.Malformed(fmt.Sprintf("the body is not JSON: %s at line %d, column %d", syntax.Error(), line, column))
	}
	if at := unreadable(raw); at >= 0 {
		line, column := position(raw, int64(at)+1)
		return problem.Malformed(fmt.Sprintf("the body has a character that is not Unicode at line %d, column %d", line, column))
	}
	if field := givenTwice(raw); field != "" {
		return problem.Malformed("the body gives "+field+" twice", problem.Field(field, "is given twice"))
	}
	if undecodable != nil || bytes.TrimSpace(raw)[0] != '{' { // null decodes into everything
		if faults := wrongTypes(raw, reflect.TypeOf(target)); len(faults) > 0 {
			return problem.Malformed("the body has a value of a wrong type: "+listFaults(faults), faults...)
		}
	}
	faults := api.CheckBody(raw, target, strict)
	if len(faults) == 0 {
		return nil
	}
	translated := fieldErrors(faults)
	if lacksList(raw, target, faults) {
		return problem.Malformed("the body lacks a list that must be there: "+listFaults(translated), translated...)
	}
	return problem.Invalid(translated...)
}

// position translates an offset of encoding/json, which counts the bytes read
// up to the fault, into the line and column of the faulty byte.
func position(raw []byte, offset int64) (line, column int) {
	before := raw[:max(0, min(int(offset)-1, len(raw)))]
	return 1 + bytes.Count(before, []byte("\n")), len(before) - bytes.LastIndexByte(before, '\n')
}

// lacksList reports whether one of the faults is a required list at the top
// that is absent. Existing clients expect 400 for it and 422 for all else.
func lacksList(raw []byte, target any, faults []api.FieldError) bool {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return false
	}
	for field := range reflect.TypeOf(target).Elem().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if _, given := members[name]; given || field.Type.Kind() != reflect.Slice {
			continue
		}
		for _, fault := range faults {
			if fault.Field == name {
				return true
			}
		}
	}
	return false
}

func listFaults(faults []problem.FieldError) string {
	texts := make([]string, len(faults))
	for i, fault := range faults {
		texts[i] = strings.TrimSpace(fault.Field + " " + fault.Detail)
	}
	return strings.Join(texts, "; ")
}

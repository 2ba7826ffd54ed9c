package main

import (
	"fmt"
	"slices"
	"strings"
)

// emitSDK writes the client: one method per operation over a transport that is
// the same for every contract.
func emitSDK(files tree, m *model) error {
	if err := files.template("sdk/operations.go", "sdk.go.tmpl", m); err != nil {
		return err
	}
	names := map[string]string{"{{API}}": m.Import + "/api"}
	for _, name := range []string{"doc", "client", "retry", "errors", "pin", "profile", "pages", "preview"} {
		if err := files.static("sdk/"+name+".go", "sdk_"+name+".go.txt", names); err != nil {
			return err
		}
	}
	return nil
}

// HasOptions reports whether the method takes its query parameters as a
// struct; writing operations take call options only.
func (o *operation) HasOptions() bool { return !o.Writes && len(o.Filters()) > 0 }

// TakesIdempotencyKey reports whether a repeated request makes no second object.
func (o *operation) TakesIdempotencyKey() bool {
	return slices.ContainsFunc(o.Headers, func(p param) bool { return p.Wire == "Idempotency-Key" })
}

// Signature is the parameter list of the operation's method.
func (o *operation) Signature() string {
	parts := []string{"ctx context.Context"}
	for _, p := range o.PathParams {
		parts = append(parts, p.Var+" string")
	}
	if o.HasOptions() {
		parts = append(parts, "o "+o.ID+"Options")
	}
	switch {
	case o.BodyPlain:
		parts = append(parts, "body []byte")
	case o.Body != "":
		parts = append(parts, "body api."+o.Body)
	}
	return strings.Join(append(parts, "opts ...CallOption"), ", ")
}

// Returns is the result list of the operation's method.
func (o *operation) Returns() string {
	switch o.Result.Kind {
	case "object":
		return "(*api." + o.Result.Type + ", error)"
	case "list":
		return "([]api." + o.Result.Type + ", error)"
	case "stream":
		return "iter.Seq2[api." + o.Result.Type + ", error]"
	case "bytes":
		return "(io.ReadCloser, error)"
	}
	return "error"
}

// OptionType is the type of a query parameter in an options struct: a pointer
// where the zero value means something of its own.
func (p param) OptionType() string {
	if p.Zeroable {
		return "*" + p.Type
	}
	return p.Type
}

// Given is the Go expression that tells whether the option is set.
func (p param) Given() string {
	switch {
	case p.List:
		return "len(o." + p.Go + ") > 0"
	case p.Zeroable:
		return "o." + p.Go + " != nil"
	case p.Type == "string":
		return "o." + p.Go + ` != ""`
	case p.Type == "bool":
		return "o." + p.Go
	}
	return "o." + p.Go + " != 0"
}

// Text is the Go expression of the option as it stands in the query.
func (p param) Text() string {
	switch {
	case p.List:
		return "strings.Join(o." + p.Go + `, ",")`
	case p.Zeroable:
		return fmt.Sprintf("fmt.Sprint(*o.%s)", p.Go)
	case p.Type == "string":
		return "o." + p.Go
	}
	return fmt.Sprintf("fmt.Sprint(o.%s)", p.Go)
}

// GoDoc is the operation's description as a Go doc comment: it begins with the
// name, and goes on with the verb of the description.
func (o *operation) GoDoc() string {
	verb, rest, ok := strings.Cut(oneline(o.Doc), " ")
	if !ok || !strings.HasSuffix(verb, "s") && !strings.HasSuffix(verb, "es") || strings.ToLower(verb[1:]) != verb[1:] {
		return o.ID + " does this: " + oneline(o.Doc)
	}
	return o.ID + " " + strings.ToLower(verb[:1]) + verb[1:] + " " + rest
}

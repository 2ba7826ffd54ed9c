package main

// emitAPI writes what the type generator does not: the table of operations,
// the kinds of problem, roles, validation and defaults.
func emitAPI(files tree, m *model) error {
	for _, x := range []struct{ path, name string }{
		{"api/operations.go", "operations.go.tmpl"},
		{"api/problems.go", "problems.go.tmpl"},
		{"api/requests.go", "requests.go.tmpl"},
	} {
		if err := files.template(x.path, x.name, m); err != nil {
			return err
		}
	}
	for _, x := range []struct{ path, name string }{
		{"api/body.go", "body.go.txt"},
		{"api/validate.go", "validate.go.txt"},
	} {
		if err := files.static(x.path, x.name, nil); err != nil {
			return err
		}
	}
	return nil
}

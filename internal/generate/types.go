package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"reflect"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/oapi-codegen/oapi-codegen/v2/pkg/codegen"
)

// goField is one field of a generated struct, as the compiler will see it.
type goField struct {
	Name string // Go name
	Type string // Go type as written: string, *bool, nullable.Nullable[[]string]
}

// goTypes is what the type generator made: for each struct its fields by JSON
// name, and for each other named type what it stands for.
type goTypes struct {
	fields map[string]map[string]goField
	named  map[string]string
	consts map[string]map[string]string // enum type -> value -> constant
}

const apiDoc = `// Package api is the vocabulary of the contract: the types of every request
// and answer, their validation, the table of operations, and the interface of
// a server that answers them.
`

// emitTypes writes the types and the strict server and reads back what they
// are called, so that no naming rule of the type generator is repeated here.
func emitTypes(files tree, doc *document) (*goTypes, error) {
	spec, err := slimSpec(doc)
	if err != nil {
		return nil, err
	}
	src, err := codegen.Generate(spec, codegen.Configuration{
		PackageName: "api",
		Generate:    codegen.GenerateOptions{StdHTTPServer: true, Strict: true, Models: true},
		Compatibility: codegen.CompatibilityOptions{
			AlwaysPrefixEnumValues:           true,
			DisableRequiredReadOnlyAsPointer: true,
		},
		OutputOptions: codegen.OutputOptions{
			NullableType:                     true,
			SkipPrune:                        true,
			GenerateTypesForAnonymousSchemas: true,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("%s: types: %w", doc.file, err)
	}
	_, src, ok := strings.Cut(src, "\npackage api\n")
	if !ok {
		return nil, fmt.Errorf("%s: types: the generated file has no package clause", doc.file)
	}
	src = header + apiDoc + "package api\n" + src
	files["api/api.go"] = []byte(src)
	return parseGoTypes([]byte(src))
}

// slimSpec is a second copy of the document for the type generator: errors
// travel as one Go error type, ETag is set from the body's version by a
// middleware, and a parameter marked x-handled-by is answered before the
// handler, so none of them belongs into the signatures of the server.
func slimSpec(doc *document) (*openapi3.T, error) {
	spec, err := openapi3.NewLoader().LoadFromData(doc.raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doc.file, err)
	}
	if spec.Components == nil {
		spec.Components = &openapi3.Components{}
	}
	spec.Components.Responses = nil
	spec.Components.Headers = nil
	for _, item := range spec.Paths.Map() {
		for _, op := range item.Operations() {
			kept := openapi3.NewResponsesWithCapacity(1)
			for status, response := range op.Responses.Map() {
				if strings.HasPrefix(status, "2") {
					response.Ref = ""
					response.Value.Headers = nil
					kept.Set(status, response)
				}
			}
			op.Responses = kept
			op.Security = nil
			op.Parameters = slices.DeleteFunc(op.Parameters, func(p *openapi3.ParameterRef) bool {
				return p.Value.Extensions["x-handled-by"] != nil
			})
		}
	}
	spec.Security = nil
	return spec, nil
}

func parseGoTypes(src []byte) (*goTypes, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "api.go", src, parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("read back the generated types: %w", err)
	}
	out := &goTypes{fields: map[string]map[string]goField{}, named: map[string]string{}, consts: map[string]map[string]string{}}
	for _, decl := range file.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range gen.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if st, ok := spec.Type.(*ast.StructType); ok {
					out.fields[spec.Name.Name] = structFields(fset, st)
				} else {
					out.named[spec.Name.Name] = printed(fset, spec.Type)
				}
			case *ast.ValueSpec:
				if typ, ok := spec.Type.(*ast.Ident); ok && len(spec.Values) == 1 {
					if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
						if out.consts[typ.Name] == nil {
							out.consts[typ.Name] = map[string]string{}
						}
						out.consts[typ.Name][strings.Trim(lit.Value, `"`)] = spec.Names[0].Name
					}
				}
			}
		}
	}
	return out, nil
}

func structFields(fset *token.FileSet, st *ast.StructType) map[string]goField {
	out := map[string]goField{}
	for _, f := range st.Fields.List {
		if f.Tag == nil || len(f.Names) == 0 {
			continue
		}
		tag := reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json")
		name, _, _ := strings.Cut(tag, ",")
		if name == "" || name == "-" {
			continue
		}
		out[name] = goField{Name: f.Names[0].Name, Type: printed(fset, f.Type)}
	}
	return out
}

func printed(fset *token.FileSet, e ast.Expr) string {
	var b bytes.Buffer
	if err := printer.Fprint(&b, fset, e); err != nil {
		return ""
	}
	return b.String()
}

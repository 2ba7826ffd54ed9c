// Command generate writes the server interface, the SDK, the Terraform
// provider's descriptions and its documentation from the contract.
//
//	openapi.yaml -- one parse -- lint -- model -- templates -- generated/*
//
// A contract that breaks a rule is refused: each fault is printed as
// "openapi.yaml:LINE:COLUMN: RULE: sentence", all of them at once, and nothing
// is written.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
)

func main() {
	c := config{}
	flag.StringVar(&c.Input, "in", "openapi.yaml", "the contract")
	flag.StringVar(&c.Output, "out", "generated", "the folder to write")
	flag.StringVar(&c.Import, "import", "github.com/wattlenet/wattle/generated", "import path of the output folder")
	flag.StringVar(&c.Examples, "examples", "examples/resources", "the folder for one example per resource; empty for none")
	flag.StringVar(&c.Provider, "provider", "wattle", "name of the Terraform provider, prefix of its resources")
	flag.StringVar(&c.Released, "released", "", "the contract of the last release, to compare with; empty for no comparison")
	flag.Parse()
	changed, err := run(c)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		if refused, ok := errors.AsType[*findings](err); ok {
			fmt.Fprintf(os.Stderr, "generate: %d faults in the contract, nothing written\n", len(refused.list))
		}
		os.Exit(1)
	}
	fmt.Printf("generate: %d files changed\n", changed)
}

// config says what to read and where to write.
type config struct {
	Input    string // path of the contract
	Output   string // folder that will hold api, sdk, terraform and docs, and nothing else
	Import   string // import path of Output
	Examples string // folder that will hold the examples, and nothing else; empty for none
	Provider string // Terraform provider name
	Released string // path of the contract of the last release; empty for none
}

// run is the whole generator: read, refuse or build, write.
func run(c config) (changed int, err error) {
	m, files, err := build(c)
	if err != nil {
		return 0, err
	}
	if changed, err = files.write(c.Output); err != nil || c.Examples == "" {
		return changed, err
	}
	examples := tree{}
	emitExamples(examples, m)
	more, err := examples.write(c.Examples)
	return changed + more, err
}

// build does everything but writing.
func build(c config) (*model, tree, error) {
	doc, err := readDocument(c.Input)
	if err != nil {
		return nil, nil, err
	}
	if err := lint(doc); err != nil {
		return nil, nil, err
	}
	files := tree{}
	types, err := emitTypes(files, doc)
	if err != nil {
		return nil, nil, err
	}
	m, err := newModel(c, doc, types)
	if err != nil {
		return nil, nil, err
	}
	if c.Released != "" {
		released, err := readReleased(c)
		if err != nil {
			return nil, nil, err
		}
		if err := compareReleased(m, released); err != nil {
			return nil, nil, err
		}
	}
	for _, emit := range []func(tree, *model) error{emitAPI, emitSDK, emitTerraform, emitDocs} {
		if err := emit(files, m); err != nil {
			return nil, nil, err
		}
	}
	return m, files, nil
}

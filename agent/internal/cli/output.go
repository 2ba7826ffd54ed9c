package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/wattlenet/wattle/internal/program"
	"github.com/wattlenet/wattle/internal/template"
)

// output is the form in which a command prints its answer: for people, as a
// JSON document that names its schema, or through a template over that document.
type output struct {
	json   bool
	format *template.Template // nil: none is given
}

// outputFlags adds --json and --format to a command.
func outputFlags(command *cobra.Command) *output {
	o := &output{}
	command.Flags().BoolVar(&o.json, "json", false, "print JSON")
	command.Flags().Var(templateFlag{o}, "format", "print by a Go template over the JSON document, such as '{{.schema}}'")
	program.Exclusive(command, "json", "format")
	return o
}

// templateFlag is the value of --format.
type templateFlag struct{ o *output }

func (f templateFlag) String() string { return "" }

func (f templateFlag) Type() string { return "string" }

func (f templateFlag) Set(text string) (err error) {
	if f.o.format, err = template.Parse(text, nil); err != nil {
		return fmt.Errorf("the template does not parse: %w", err)
	}
	return nil
}

// forPeople reports whether neither JSON nor a template is wanted.
func (o *output) forPeople() bool { return !o.json && o.format == nil }

// print writes a document in the form that was asked for.
func (o *output) print(w io.Writer, document any, people func(io.Writer) error) error {
	switch {
	case o.json:
		return printJSON(w, document)
	case o.format != nil:
		return o.template(w, document)
	}
	return people(w)
}

// line writes a document on one line: NDJSON, or the template and a line break.
func (o *output) line(w io.Writer, document any) error {
	if o.json {
		return json.NewEncoder(w).Encode(document)
	}
	return o.template(w, document)
}

// template applies the format to what --json would print: one set of names.
func (o *output) template(w io.Writer, document any) error {
	raw, err := json.Marshal(document)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	var text bytes.Buffer
	if err := o.format.Print(&text, raw); err != nil {
		return program.Usage("the template does not fit: %v; --json shows what there is", err)
	}
	_, err = fmt.Fprintln(w, text.String())
	return err
}

func printJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// onTerminal reports whether people look at w.
func onTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	about, err := file.Stat()
	return err == nil && about.Mode()&os.ModeCharDevice != 0
}

// A palette colours words on a terminal whose user wants that
// (https://no-color.org).
type palette bool

func colours(w io.Writer) palette {
	return palette(onTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}

// Select Graphic Rendition (ECMA-48, section 8.3.117).
const (
	red    = "31"
	green  = "32"
	yellow = "33"
)

func (p palette) paint(code, text string) string {
	if !p || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

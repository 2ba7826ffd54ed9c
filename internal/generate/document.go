package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"gopkg.in/yaml.v3"
)

// document is the contract as it was read: the parsed OpenAPI document and,
// for each JSON pointer into it, where it stands in the file.
type document struct {
	file string
	raw  []byte
	spec *openapi3.T
	at   map[string]*yaml.Node // JSON pointer -> value node
	key  map[string]*yaml.Node // JSON pointer -> key node, where there is one
}

// A finding is one fault of the contract. Its text is
// "file:line:column: rule: what is wrong and what would be right".
type finding struct {
	line, column int
	rule         string
	text         string
}

// findings is every fault of a contract at once, in file order.
type findings struct {
	file string
	list []finding
}

func (f *findings) Error() string {
	var b strings.Builder
	for i, x := range f.list {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s:%d:%d: %s: %s", f.file, x.line, x.column, x.rule, x.text)
	}
	return b.String()
}

// readDocument parses the contract once. A document that is not YAML or not
// OpenAPI is an error; whether it obeys the rules is lint's question.
func readDocument(path string) (*document, error) {
	raw, err := os.ReadFile(path) //nolint:gosec // the path is the developer's argument
	if err != nil {
		return nil, fmt.Errorf("read the contract: %w", err)
	}
	return parseDocument(path, raw)
}

func parseDocument(path string, raw []byte) (*document, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(raw, &root); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(root.Content) == 0 {
		return nil, fmt.Errorf("%s: the file is empty", path)
	}
	loader := openapi3.NewLoader()
	spec, err := loader.LoadFromData(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if spec.Paths == nil {
		return nil, errors.New(path + ": the document has no paths")
	}
	if spec.Components == nil {
		spec.Components = &openapi3.Components{}
	}
	d := &document{file: path, raw: raw, spec: spec, at: map[string]*yaml.Node{}, key: map[string]*yaml.Node{}}
	d.index("", root.Content[0])
	return d, nil
}

func (d *document) index(pointer string, n *yaml.Node) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	d.at[pointer] = n
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			child := pointer + "/" + escapePointer(n.Content[i].Value)
			d.key[child] = n.Content[i]
			d.index(child, n.Content[i+1])
		}
	case yaml.SequenceNode:
		for i, c := range n.Content {
			d.index(pointer+"/"+strconv.Itoa(i), c)
		}
	}
}

func escapePointer(s string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(s)
}

// has reports whether the file writes something at pointer.
func (d *document) has(pointer string) bool { return d.at[pointer] != nil }

// position is where pointer stands; a pointer that is not in the file takes
// the place of its nearest ancestor.
func (d *document) position(pointer string) (line, column int) {
	for {
		if n := d.key[pointer]; n != nil {
			return n.Line, n.Column
		}
		if n := d.at[pointer]; n != nil {
			return n.Line, n.Column
		}
		cut := strings.LastIndexByte(pointer, '/')
		if cut < 0 {
			return 1, 1
		}
		pointer = pointer[:cut]
	}
}

// keys lists the keys of the mapping at pointer in file order.
func (d *document) keys(pointer string) []string {
	n := d.at[pointer]
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	var out []string
	for i := 0; i < len(n.Content); i += 2 {
		out = append(out, n.Content[i].Value)
	}
	return out
}

// reporter collects findings at pointers of one document.
type reporter struct {
	doc  *document
	list []finding
}

func (r *reporter) add(pointer, rule, format string, args ...any) {
	line, column := r.doc.position(pointer)
	f := finding{line: line, column: column, rule: rule, text: fmt.Sprintf(format, args...)}
	if !slices.Contains(r.list, f) {
		r.list = append(r.list, f)
	}
}

func (r *reporter) err() error {
	if len(r.list) == 0 {
		return nil
	}
	slices.SortStableFunc(r.list, func(a, b finding) int {
		if a.line != b.line {
			return a.line - b.line
		}
		if a.column != b.column {
			return a.column - b.column
		}
		return strings.Compare(a.rule+a.text, b.rule+b.text)
	})
	return &findings{file: r.doc.file, list: r.list}
}

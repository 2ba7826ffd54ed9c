// Package template prints a document of JSON through a template in the language of text/template.
//
// The standard library parses; only the evaluation is here, since the one of text/template calls methods by names that
// it learns at run time. A linker that sees such a call keeps every exported method of every type: 5.5 MiB of the agent
// and 2.6 MiB of the server, most of it resident in memory. A document of JSON has no methods to call.
//
// What a document cannot have (methods, functions, channels) and what one line does not need (define, block, template)
// is refused. Unlike in text/template, a key that is absent is an error, and a number compares as one.
package template

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/template/parse"
)

// A Template is parsed text that prints documents.
type Template struct {
	root      *parse.ListNode
	functions map[string]Function
}

// A Function is what a template calls by a name. It gets values as a document has them (nil, bool, string, json.Number,
// []any, map[string]any), besides the int and float64 that the template itself wrote or a function counted.
type Function func(args []any) (any, error)

// Parse reads a template that may call the given functions besides those of the language. It returns an error that names
// the place when the text is not a template.
func Parse(text string, more map[string]Function) (*Template, error) {
	functions := maps.Clone(language)
	maps.Copy(functions, more)
	names := map[string]any{"and": true, "or": true} // these stop at the first answer, so they are no functions
	for name := range functions {
		names[name] = true // the parser wants a value
	}
	trees, err := parse.Parse("format", text, "", "", names)
	if err != nil {
		return nil, err
	}
	if len(trees) > 1 {
		return nil, errors.New("a format is one template: define and block are not known")
	}
	t := &Template{root: &parse.ListNode{}, functions: functions}
	if tree := trees["format"]; tree != nil { // there is none when the text is empty
		t.root = tree.Root
	}
	return t, nil
}

// Print writes to w what the template makes of a document of JSON. It writes nothing when the template does not fit,
// and the error names the place in the template.
func (t *Template) Print(w io.Writer, document []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.UseNumber() // 7 shall not become 7e+00
	var dot any
	if err := decoder.Decode(&dot); err != nil {
		return fmt.Errorf("read the document: %w", err)
	}
	e := &evaluation{functions: t.functions, variables: []variable{{"$", dot}}}
	if err := e.list(dot, t.root); err != nil {
		return err
	}
	_, err := w.Write(e.out.Bytes())
	return err
}

// An evaluation is one printing of one document.
type evaluation struct {
	out       bytes.Buffer
	functions map[string]Function
	variables []variable // the innermost last
}

type variable struct {
	name  string
	value any
}

// How a loop is left early.
var (
	errBreak    = errors.New("break outside of range")
	errContinue = errors.New("continue outside of range")
)

// list evaluates nodes in turn; variables that they declare end with it.
func (e *evaluation) list(dot any, list *parse.ListNode) error {
	if list == nil {
		return nil
	}
	declared := len(e.variables)
	defer func() { e.variables = e.variables[:declared] }()
	for _, node := range list.Nodes {
		if err := e.node(dot, node); err != nil {
			return err
		}
	}
	return nil
}

func (e *evaluation) node(dot any, node parse.Node) error {
	switch node := node.(type) {
	case *parse.TextNode:
		e.out.Write(node.Text)
		return nil
	case *parse.CommentNode:
		return nil
	case *parse.ActionNode:
		value, err := e.pipe(dot, node.Pipe)
		if err == nil && len(node.Pipe.Decl) == 0 {
			if value == nil {
				value = "<no value>" // the word of text/template for null
			}
			_, err = fmt.Fprint(&e.out, value)
		}
		return err
	case *parse.IfNode:
		return e.branch(dot, &node.BranchNode, false)
	case *parse.WithNode:
		return e.branch(dot, &node.BranchNode, true)
	case *parse.RangeNode:
		return e.loop(dot, &node.BranchNode)
	case *parse.BreakNode:
		return errBreak
	case *parse.ContinueNode:
		return errContinue
	}
	return misfit(node, errors.New("a format is one template: it cannot call another"))
}

// branch evaluates if, and with, which also moves the dot.
func (e *evaluation) branch(dot any, node *parse.BranchNode, with bool) error {
	declared := len(e.variables)
	defer func() { e.variables = e.variables[:declared] }()
	value, err := e.pipe(dot, node.Pipe)
	switch {
	case err != nil:
		return err
	case !holds(value):
		return e.list(dot, node.ElseList)
	case with:
		return e.list(value, node.List)
	}
	return e.list(dot, node.List)
}

// loop evaluates range over a list, or over an object in the order of its keys.
func (e *evaluation) loop(dot any, node *parse.BranchNode) error {
	declared := len(e.variables)
	defer func() { e.variables = e.variables[:declared] }()
	value, err := e.pipe(dot, node.Pipe)
	if err != nil {
		return err
	}
	var keys, items []any
	switch value := value.(type) {
	case nil:
	case []any:
		items = value
		for i := range value {
			keys = append(keys, i)
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(value)) {
			keys, items = append(keys, key), append(items, value[key])
		}
	default:
		return misfit(node.Pipe, fmt.Errorf("range over %v, which is neither a list nor an object", value))
	}
	if len(items) == 0 {
		return e.list(dot, node.ElseList)
	}
	for i, item := range items {
		switch variables := node.Pipe.Decl; len(variables) {
		case 1:
			e.variable(variables[0]).value = item
		case 2:
			e.variable(variables[0]).value = keys[i]
			e.variable(variables[1]).value = item
		}
		if err := e.list(item, node.List); errors.Is(err, errBreak) {
			return nil
		} else if err != nil && !errors.Is(err, errContinue) {
			return err
		}
	}
	return nil
}

// variable finds the innermost variable of a name. The parser refuses those that are not declared.
func (e *evaluation) variable(name *parse.VariableNode) *variable {
	for i := range slices.Backward(e.variables) {
		if e.variables[i].name == name.Ident[0] {
			return &e.variables[i]
		}
	}
	return &variable{}
}

// pipe evaluates commands, of which each gets the result of the one before as its last argument.
func (e *evaluation) pipe(dot any, pipe *parse.PipeNode) (value any, err error) {
	for i, command := range pipe.Cmds {
		var before []any
		if i > 0 {
			before = []any{value}
		}
		if value, err = e.command(dot, command, before); err != nil {
			return nil, err
		}
	}
	for _, name := range pipe.Decl {
		if pipe.IsAssign {
			e.variable(name).value = value
		} else {
			e.variables = append(e.variables, variable{name.Ident[0], value})
		}
	}
	return value, nil
}

// command evaluates a function with its arguments, or a value, which takes none.
func (e *evaluation) command(dot any, command *parse.CommandNode, before []any) (any, error) {
	name, ok := command.Args[0].(*parse.IdentifierNode)
	if !ok {
		if len(command.Args) > 1 || before != nil {
			return nil, misfit(command, errors.New("a value takes no arguments"))
		}
		if command.Args[0].Type() == parse.NodeNil {
			return nil, misfit(command, errors.New("nil stands only beside what it is compared with"))
		}
		return e.value(dot, command.Args[0])
	}
	if name.Ident == "and" || name.Ident == "or" {
		return e.choice(dot, command, before, name.Ident == "or")
	}
	args := make([]any, 0, len(command.Args))
	for _, node := range command.Args[1:] {
		arg, err := e.value(dot, node)
		if err != nil {
			return nil, err
		}
		args = append(args, arg)
	}
	value, err := e.functions[name.Ident](append(args, before...))
	if err != nil {
		return nil, misfit(command, err)
	}
	return value, nil
}

// choice returns the first argument whose truth is wanted, else the last; what follows it is not evaluated.
func (e *evaluation) choice(dot any, command *parse.CommandNode, before []any, wanted bool) (value any, err error) {
	if len(command.Args)+len(before) < 2 {
		return nil, misfit(command, errors.New("it needs an argument"))
	}
	for _, node := range command.Args[1:] {
		if value, err = e.value(dot, node); err != nil || holds(value) == wanted {
			return value, err
		}
	}
	if before != nil {
		return before[0], nil
	}
	return value, nil
}

// value evaluates what can be an argument.
func (e *evaluation) value(dot any, node parse.Node) (any, error) {
	switch node := node.(type) {
	case *parse.DotNode:
		return dot, nil
	case *parse.NilNode:
		return nil, nil
	case *parse.BoolNode:
		return node.True, nil
	case *parse.StringNode:
		return node.Text, nil
	case *parse.NumberNode:
		switch {
		case node.IsInt:
			return int(node.Int64), nil
		case node.IsFloat:
			return node.Float64, nil
		}
	case *parse.FieldNode:
		return member(dot, node.Ident, node)
	case *parse.VariableNode:
		return member(e.variable(node).value, node.Ident[1:], node)
	case *parse.ChainNode:
		value, err := e.value(dot, node.Node)
		if err != nil {
			return nil, err
		}
		return member(value, node.Field, node)
	case *parse.PipeNode:
		return e.pipe(dot, node)
	case *parse.IdentifierNode: // a function without arguments
		return e.command(dot, &parse.CommandNode{NodeType: parse.NodeCommand, Args: []parse.Node{node}}, nil)
	}
	return nil, misfit(node, errors.New("it is no value"))
}

// member follows names into objects.
func member(value any, names []string, at parse.Node) (any, error) {
	for _, name := range names {
		object, ok := value.(map[string]any)
		if !ok {
			return nil, misfit(at, fmt.Errorf("there is no object to have %q", name))
		}
		if value, ok = object[name]; !ok {
			return nil, misfit(at, fmt.Errorf("the object has no %q", name))
		}
	}
	return value, nil
}

// misfit names the place in the template that an error is about.
func misfit(at fmt.Stringer, err error) error { return fmt.Errorf("at <%s>: %w", at, err) }

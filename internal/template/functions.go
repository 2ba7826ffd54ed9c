package template

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
)

// language lists what every template may call, with the meaning that text/template gives to the name; json is ours.
var language = map[string]Function{
	"not":      one(func(arg any) (any, error) { return !holds(arg), nil }),
	"len":      one(length),
	"json":     one(inJSON),
	"index":    index,
	"slice":    slice,
	"eq":       equal,
	"ne":       two(func(a, b any) (bool, error) { is, err := same(a, b); return !is, err }),
	"lt":       two(func(a, b any) (bool, error) { sign, err := compare(a, b); return sign < 0, err }),
	"le":       two(func(a, b any) (bool, error) { sign, err := compare(a, b); return sign <= 0, err }),
	"gt":       two(func(a, b any) (bool, error) { sign, err := compare(a, b); return sign > 0, err }),
	"ge":       two(func(a, b any) (bool, error) { sign, err := compare(a, b); return sign >= 0, err }),
	"print":    func(args []any) (any, error) { return fmt.Sprint(args...), nil },
	"println":  func(args []any) (any, error) { return fmt.Sprintln(args...), nil },
	"printf":   printf,
	"urlquery": func(args []any) (any, error) { return url.QueryEscape(fmt.Sprint(args...)), nil },
}

// one makes a function of one argument.
func one(f func(any) (any, error)) Function {
	return func(args []any) (any, error) {
		if len(args) != 1 {
			return nil, fmt.Errorf("it takes one argument, not %d", len(args))
		}
		return f(args[0])
	}
}

// two makes a function that compares two arguments.
func two(f func(a, b any) (bool, error)) Function {
	return func(args []any) (any, error) {
		if len(args) != 2 {
			return nil, fmt.Errorf("it takes two arguments, not %d", len(args))
		}
		return f(args[0], args[1])
	}
}

// holds tells what counts as true: all but null, false, zero and what is empty.
func holds(value any) bool {
	switch value := value.(type) {
	case bool:
		return value
	case string:
		return value != ""
	case []any:
		return len(value) > 0
	case map[string]any:
		return len(value) > 0
	}
	if number, ok := numeric(value); ok {
		return number != 0
	}
	return false
}

// numeric returns a number as one that can be compared.
func numeric(value any) (float64, bool) {
	switch value := value.(type) {
	case int:
		return float64(value), true
	case float64:
		return value, true
	case json.Number:
		number, err := value.Float64()
		return number, err == nil
	}
	return 0, false
}

// whole returns a number without a fraction exactly.
func whole(value any) (int, bool) {
	switch value := value.(type) {
	case int:
		return value, true
	case json.Number:
		number, err := strconv.Atoi(value.String())
		return number, err == nil
	}
	return 0, false
}

// compare returns the sign of a minus b. It fails unless both are numbers or both are strings.
func compare(a, b any) (int, error) {
	if a, ok := whole(a); ok {
		if b, ok := whole(b); ok {
			return cmp.Compare(a, b), nil
		}
	}
	if a, ok := numeric(a); ok {
		if b, ok := numeric(b); ok {
			return cmp.Compare(a, b), nil
		}
	}
	if a, ok := a.(string); ok {
		if b, ok := b.(string); ok {
			return cmp.Compare(a, b), nil
		}
	}
	return 0, fmt.Errorf("%v and %v cannot be compared", a, b)
}

// same reports whether two values are equal. Null equals null only.
func same(a, b any) (bool, error) {
	if a == nil || b == nil {
		return a == nil && b == nil, nil
	}
	if a, ok := a.(bool); ok {
		if b, ok := b.(bool); ok {
			return a == b, nil
		}
	}
	sign, err := compare(a, b)
	return sign == 0, err
}

// equal reports whether the first argument equals one of the others.
func equal(args []any) (any, error) {
	if len(args) < 2 {
		return nil, errors.New("it needs two arguments")
	}
	for _, arg := range args[1:] {
		if is, err := same(args[0], arg); err != nil || is {
			return is, err
		}
	}
	return false, nil
}

// length counts the bytes of a string, the values of a list or the members of an object.
func length(value any) (any, error) {
	switch value := value.(type) {
	case string:
		return len(value), nil
	case []any:
		return len(value), nil
	case map[string]any:
		return len(value), nil
	}
	return nil, fmt.Errorf("%v has no length", value)
}

// index follows positions in lists and keys of objects. A key that is absent gives null.
func index(args []any) (any, error) {
	if len(args) == 0 {
		return nil, errors.New("it needs an argument")
	}
	value := args[0]
	for _, arg := range args[1:] {
		switch container := value.(type) {
		case []any:
			at, err := position(arg, len(container)-1)
			if err != nil {
				return nil, err
			}
			value = container[at]
		case map[string]any:
			key, ok := arg.(string)
			if !ok {
				return nil, fmt.Errorf("the key %v is no string", arg)
			}
			value = container[key]
		default:
			return nil, fmt.Errorf("%v is neither a list nor an object", value)
		}
	}
	return value, nil
}

// slice cuts a string or a list from one position up to another.
func slice(args []any) (any, error) {
	if len(args) == 0 || len(args) > 3 {
		return nil, fmt.Errorf("it takes one to three arguments, not %d", len(args))
	}
	size, err := length(args[0])
	if err != nil {
		return nil, err
	}
	from, to := 0, size.(int)
	if len(args) == 3 {
		if to, err = position(args[2], to); err != nil {
			return nil, err
		}
	}
	if len(args) > 1 {
		if from, err = position(args[1], to); err != nil {
			return nil, err
		}
	}
	switch value := args[0].(type) {
	case string:
		return value[from:to], nil
	case []any:
		return value[from:to], nil
	}
	return nil, errors.New("an object has no order")
}

// position reads a number from 0 to last.
func position(arg any, last int) (int, error) {
	at, ok := whole(arg)
	if !ok || at < 0 || at > last {
		return 0, fmt.Errorf("%v is no position from 0 to %d", arg, last)
	}
	return at, nil
}

// printf formats as fmt.Sprintf does.
func printf(args []any) (any, error) {
	if len(args) == 0 {
		return nil, errors.New("it needs a format")
	}
	format, ok := args[0].(string)
	if !ok {
		return nil, fmt.Errorf("the format %v is no string", args[0])
	}
	values := make([]any, 0, len(args))
	for _, arg := range args[1:] {
		if n, ok := arg.(json.Number); ok {
			arg = number(n)
		}
		values = append(values, arg)
	}
	return fmt.Sprintf(format, values...), nil
}

// A number of a document is formatted as text where text is asked for, as it was sent, and else as the number it is.
type number json.Number

// Format implements fmt.Formatter.
func (n number) Format(state fmt.State, verb rune) {
	var value any = string(n)
	if verb != 's' && verb != 'q' && verb != 'v' {
		if at, ok := whole(json.Number(n)); ok {
			value = at
		}
		switch verb {
		case 'e', 'E', 'f', 'F', 'g', 'G':
			value, _ = numeric(json.Number(n))
		}
	}
	_, _ = fmt.Fprintf(state, fmt.FormatString(state, verb), value) // a fmt.State does not fail
}

func inJSON(value any) (any, error) {
	raw, err := json.Marshal(value)
	return string(raw), err
}

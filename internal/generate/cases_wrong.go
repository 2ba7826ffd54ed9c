package main

import (
	"slices"
	"strconv"
	"strings"
)

// flaw is a wrong value deep inside an attribute: the whole attribute, right
// but for one place, as HCL; and that place in the body of a write with the
// wrong value there, as JSON. The literal is empty where only a plan refuses it.
type flaw struct {
	Value, Path, Literal string
	Says                 string // the attribute that a plan must name
}

// invalid are wrong values that a plan must refuse.
func (a *attribute) invalid() []string {
	if a.schema == nil || a.Synthetic {
		return nil
	}
	s := withoutNull(a.schema)
	var out []string
	switch a.Kind {
	case "int64", "float64":
		if s.Min != nil {
			out = append(out, number(*s.Min-1))
		}
		if s.Max != nil {
			out = append(out, number(*s.Max+1))
		}
	case "string":
		switch {
		case len(s.Enum) > 0 || s.Pattern != "":
			out = append(out, `"no such value!"`)
		case s.MinLength > 0:
			out = append(out, `""`)
		}
		if s.MaxLength != nil && *s.MaxLength < 2000 {
			out = append(out, strconv.Quote(strings.Repeat("x", int(*s.MaxLength)+1)))
		}
		out = append(out, map[string][]string{
			"ipv4": {`"100.64.0.01"`, `"fd00::1"`}, "cidr": {`"10.0.0.1/8"`}, "instant": {`"2031-01-02T03:04:05+01:00"`, `"tomorrow"`}, "hostname": {`"Example.Org."`}, "domain": {`"*.Example.Org"`},
			"destination": {`"10.0.0.1/8"`, `"FD00::1"`, `"Example.Org."`, `"10.0.0.300"`}, "ipv6": {`"FD00::1"`}, "ip": {`"FD00::1"`},
			"dns-name": {`"Example.Org."`, `"*.example.org"`}, "wildcard-dns-name": {`"a.*.example.org"`},
		}[s.Format]...)
	case "set", "list":
		if s.MinItems > 0 {
			out = append(out, "[]")
		}
	case "map":
		if s.MinItems > 0 {
			out = append(out, "{}")
		}
	}
	return out
}

// flawed are the flaws of an attribute with the whole path of each.
func (a *attribute) flawed(r *references) []flaw {
	if a.schema == nil || a.Synthetic {
		return nil
	}
	wire := a.Wire
	if a.Within != "" {
		wire = a.Within + "." + wire
	}
	list := a.flaws(r)
	for i := range list {
		list[i].Path = wire + list[i].Path
		if list[i].Says == "" {
			list[i].Says = a.Name
		}
	}
	return list
}

// flaws are the wrong values of the members of an object, and of the elements
// of a set, a list or a map.
func (a *attribute) flaws(r *references) []flaw {
	var out []flaw
	switch a.Kind {
	case "set", "list":
		for _, f := range a.Elem.faults(r) {
			f.Value, f.Path = "["+f.Value+"]", "[0]"+f.Path
			out = append(out, f)
		}
	case "map":
		for _, f := range a.Elem.faults(r) {
			f.Value, f.Path = `{ "one" = `+f.Value+` }`, "[0]"+f.Path
			if a.Key != "" { // any other map is one on the wire, too
				out = append(out, f)
			}
		}
	case "object":
		for _, member := range a.Fields {
			if member.Mode == computed || member.Within != "" {
				continue
			}
			for _, f := range member.faults(r) {
				f.Value, f.Path = a.objectWith(r, member, f.Value), "."+member.Wire+f.Path
				if f.Says == "" {
					f.Says = member.Name
				}
				out = append(out, f)
			}
		}
	}
	return out
}

// faults are the wrong values of an attribute itself and inside it.
func (a *attribute) faults(r *references) []flaw {
	var out []flaw
	for _, wrong := range a.invalid() {
		f := flaw{Value: wrong, Literal: wrong}
		switch {
		case a.lenient() && wrong == "[]", wrong == `""` && isNullable(a.schema):
			f.Literal = "" // the API takes what is empty for what is unset
		case wrong == "{}" && a.Key != "": // a map by a key is a list on the wire
			f.Literal = "[]"
		}
		out = append(out, f)
	}
	return append(out, a.flaws(r)...)
}

// lenient reports a list that the API takes empty for an unset one.
func (a *attribute) lenient() bool {
	return a.Elem != nil && a.schema != nil && isNullable(a.schema) && !a.OptIn
}

// objectWith is a smallest object in which one member has this value; what
// cannot stand beside it is left out.
func (a *attribute) objectWith(r *references, member *attribute, value string) string {
	apart := func(other string) bool {
		return slices.ContainsFunc(append(slices.Clone(a.OneOf), a.AtMostOneOf...), func(set []string) bool {
			return slices.Contains(set, member.Name) && slices.Contains(set, other)
		})
	}
	parts := []string{member.Name + " = " + value}
	for _, f := range a.chosenMembers(false) {
		if f != member && !apart(f.Name) {
			parts = append(parts, f.member(r)...)
		}
	}
	return "{ " + strings.Join(parts, ", ") + " }"
}

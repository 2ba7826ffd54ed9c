package main

import (
	"maps"
	"slices"
)

// others are further right objects of a noun, none of which differs from a
// smallest one in a single attribute: each of either-or fields, each of those of
// which one is enough, and the further examples of the request, below the
// second parent.
func (n *noun) others(r *references, list []trial) []map[string]string {
	smallest := map[string]string{}
	for _, t := range list {
		if t.Required {
			smallest[t.Name] = t.Values[0]
		}
	}
	var out []map[string]string
	for _, t := range list {
		if len(t.Excludes) == 0 || t.Required || len(t.Values) == 0 {
			continue
		}
		other := maps.Clone(smallest)
		for _, name := range t.Excludes {
			delete(other, name)
		}
		other[t.Name] = t.Values[0]
		out = append(out, other)
	}
	for _, set := range n.AtLeastOneOf {
		for _, name := range set[1:] {
			i := slices.IndexFunc(list, func(t trial) bool { return t.Name == name })
			if i < 0 || len(list[i].Values) == 0 {
				continue
			}
			other := maps.Clone(smallest)
			delete(other, set[0])
			other[name] = list[i].Values[len(list[i].Values)-1]
			out = append(out, other)
		}
	}
	for _, example := range n.Examples {
		other := maps.Clone(smallest)
		for _, a := range n.Resource {
			value, given := valueIn(example, a)
			switch {
			case a.Parent:
				other[a.Name] = pick(a.values(r, ""), 1)
			case given && value == "":
				delete(other, a.Name)
			case given:
				other[a.Name] = value
			}
		}
		out = append(out, other)
	}
	return out
}

// empty is the value that says "none" and differs from an unset attribute; the
// empty text where there is no such value.
func (a *attribute) empty(t trial) string {
	if a.schema == nil || t.Default != "" || t.Immutable {
		return ""
	}
	switch s := withoutNull(a.schema); {
	case (a.Kind == "set" || a.Kind == "list") && s.MinItems == 0 && (a.OptIn || !isNullable(a.schema)):
		return "[]"
	case a.Kind == "string" && a.OptIn && s.MinLength == 0 && s.Pattern == "" && s.Format == "" && len(s.Enum) == 0 && a.References == "":
		return `""`
	}
	return ""
}

package main

import (
	"fmt"
	"slices"
	"strings"
)

// A rename leads from the name that an attribute had to the one it has. Steps
// lead to the object that holds it, "*" to every member of a collection.
type rename struct {
	Steps     []string
	From, Now string
}

// renames are the names that attributes of the noun had, outer ones first, so
// that the steps of inner ones are names of today.
func (n *noun) renames() []rename {
	var out []rename
	var walk func(steps []string, list []*attribute)
	walk = func(steps []string, list []*attribute) {
		for _, a := range list {
			for _, was := range a.Was {
				if was != a.Name {
					out = append(out, rename{Steps: steps, From: was, Now: a.Name})
				}
			}
		}
		for _, a := range list {
			inner := append(slices.Clone(steps), a.Name)
			if a.Elem != nil {
				inner = append(inner, "*")
			}
			walk(inner, a.inside())
		}
	}
	walk([]string{}, n.Resource)
	return out
}

// inside are the attributes inside an attribute.
func (a *attribute) inside() []*attribute {
	if a.Elem != nil {
		return a.Elem.Fields
	}
	return a.Fields
}

// checkRenames refuses a was that no upgrade could follow.
func (n *noun) checkRenames(r *reporter) {
	var walk func(list []*attribute)
	walk = func(list []*attribute) {
		claimed := map[string]string{}
		for _, a := range list {
			for _, was := range a.Was {
				at := a.pointer + "/x-terraform/was"
				switch {
				case n.Version < 1:
					r.add(at, "R10", "%s.%s was %s, so states with the old name exist: give %s version 1 or higher", n.Name, a.Name, was, n.Name)
				case claimed[was] != "":
					r.add(at, "R10", "both %s and %s of %s say that they were %s: one attribute has one successor", claimed[was], a.Name, n.Name, was)
				case was != a.Name && has(list, was):
					r.add(at, "R10", "%s.%s was %s, but %s has an attribute %s still", n.Name, a.Name, was, n.Name, was)
				}
				claimed[was] = a.Name
			}
			walk(a.inside())
		}
	}
	walk(n.Resource)
	if len(n.Gone) > 0 && n.Version < 1 {
		r.add(n.pointer+"/was", "R10", "%s lost attributes, so states with them exist: give it version 1 or higher", n.Name)
	}
}

// compareReleased is R10: what the contract of the last release promised to
// the states of its users is kept, or led on by was and a higher version.
func compareReleased(now, released *model) error {
	r := &reporter{doc: now.doc}
	for _, old := range released.Nouns {
		if old.Resource == nil {
			continue
		}
		i := slices.IndexFunc(now.Nouns, func(n *noun) bool { return n.Name == old.Name && n.Resource != nil })
		if i < 0 {
			r.add("/components/schemas", "R10", "resource %s of the last release is gone: states hold it, keep it and mark its properties deprecated", old.Type)
			continue
		}
		c := &comparison{reporter: r, noun: now.Nouns[i]}
		c.attributes("", old.Resource, c.noun.Resource)
		switch n := c.noun; {
		case n.Version < old.Version:
			r.add(n.pointer+"/version", "R10", "version %d of %s is lower than %d, that of the last release", n.Version, n.Name, old.Version)
		case c.breaks && n.Version == old.Version:
			r.add(n.pointer, "R10", "%s differs from the last release so that states must be upgraded: raise its version to %d", n.Name, old.Version+1)
		}
	}
	return r.err()
}

// comparison compares one noun with what was released of it.
type comparison struct {
	*reporter
	noun   *noun
	breaks bool // states of the last release need an upgrade
}

func (c *comparison) attributes(prefix string, released, now []*attribute) {
	for _, old := range released {
		path := prefix + old.Name
		i := slices.IndexFunc(now, func(a *attribute) bool { return slices.Contains(a.Was, old.Name) })
		if i < 0 {
			i = slices.IndexFunc(now, func(a *attribute) bool { return a.Name == old.Name })
		}
		if i < 0 {
			c.breaks = true
			if !slices.Contains(c.noun.Gone, path) {
				c.add(c.noun.pointer, "R10", "%s.%s of the last release is gone: write x-terraform: {was: %s} at the attribute that takes its place, or was: [%s] in x-terraform-resource when none does",
					c.noun.Name, path, old.Name, path)
			}
			continue
		}
		a := now[i]
		if a.Name != old.Name {
			c.breaks = true
		}
		if shapeOf(a) != shapeOf(old) {
			c.breaks = true
			if !slices.Contains(a.Was, old.Name) {
				c.add(a.pointer, "R10", "%s.%s is a %s and was a %s in the last release: write x-terraform: {was: %s} if that is meant",
					c.noun.Name, path, shapeOf(a), shapeOf(old), old.Name)
			}
			continue
		}
		c.attributes(path+".", old.inside(), a.inside())
	}
}

// shapeOf is the type of an attribute without the members of objects, which are
// compared one by one.
func shapeOf(a *attribute) string {
	if a.Elem == nil {
		return a.Kind
	}
	return fmt.Sprintf("%s of %s", a.Kind, shapeOf(a.Elem))
}

// readReleased is the model of the contract of the last release. It is not
// checked: the rules may have become stricter since.
func readReleased(c config) (*model, error) {
	doc, err := readDocument(c.Released)
	if err != nil {
		return nil, err
	}
	types, err := emitTypes(tree{}, doc)
	if err != nil {
		return nil, err
	}
	m, err := newModel(c, doc, types)
	if err != nil {
		return nil, fmt.Errorf("the released contract cannot be compared: %w", err)
	}
	return m, nil
}

// formerNames reads was: one name, or several.
func formerNames(v any) []string {
	if s, ok := v.(string); ok {
		return strings.Fields(s)
	}
	return anyStrings(v)
}

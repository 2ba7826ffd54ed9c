package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// readSets finds which properties of a request exclude or need each other, those
// of flattened objects too.
func (n *noun) readSets(request *openapi3.Schema) {
	n.OneOf, n.AtMostOneOf, n.AtLeastOneOf = eitherSets(request)
	for _, wire := range slices.Sorted(maps.Keys(request.Properties)) {
		if p := request.Properties[wire]; isFlat(p) {
			one, most, least := eitherSets(p.Value)
			n.OneOf, n.AtMostOneOf, n.AtLeastOneOf = append(n.OneOf, one...), append(n.AtMostOneOf, most...), append(n.AtLeastOneOf, least...)
		}
	}
}

func eitherSets(s *openapi3.Schema) (oneOf, atMost, atLeast [][]string) {
	name := func(sets [][]string) [][]string {
		for _, set := range sets {
			for i, wire := range set {
				set[i] = attributeName(wire, s.Properties[wire])
			}
		}
		return sets
	}
	atLeast = name(leastSets(s))
	for _, set := range atLeast {
		slices.Sort(set)
	}
	return name(stringLists(hints(s)["oneOf"])), name(stringLists(hints(s)["atMostOneOf"])), atLeast
}

// noteSets has attributes say which of them exclude or need each other.
func noteSets(list []*attribute, oneOf, atMost, atLeast [][]string) {
	for _, rule := range []struct {
		words, verb string
		sets        [][]string
	}{{"Exactly one", "must", oneOf}, {"At most one", "may", atMost}, {"At least one", "must", atLeast}} {
		for _, set := range rule.sets {
			sentence := rule.words + " of `" + strings.Join(set, "`, `") + "` " + rule.verb + " be set."
			for _, a := range list {
				if slices.Contains(set, a.Name) && !slices.Contains(a.Sets, sentence) { // a flattened object has said it
					a.Sets = append(a.Sets, sentence)
				}
			}
		}
	}
}

// leastSets are the properties of which minProperties wants one.
func leastSets(s *openapi3.Schema) [][]string {
	if s.MinProps == 0 {
		return nil
	}
	return [][]string{slices.Sorted(maps.Keys(s.Properties))}
}

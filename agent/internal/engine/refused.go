package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/internal/mapstate"
)

// refusedShown bounds the warnings about what was refused; the list has all.
const refusedShown = 5

// A refusal is a piece of the map that this machine cannot follow. The rest of
// the map is in force all the same.
type refusal struct {
	kind   string // of a piece, as the list of the status calls it
	name   string
	reason string
}

// refusals of rules, routes and names.
func refusals(faults []mapstate.Fault) (list []refusal) {
	for _, fault := range faults {
		list = append(list, refusal{kind: string(fault.Kind), name: fault.ID, reason: fault.Err.Error()})
	}
	return list
}

// refusals lists what was refused of a map.
func (d *desired) refusals() []refusal {
	list := slices.Concat(d.odd, d.faults)
	for _, n := range slices.Sorted(d.crowd.refused.Keys()) {
		list = append(list, d.crowd.refused.At(n)...)
	}
	return list
}

// describeRefused tells what was refused.
func describeRefused(s *local.Status, list []refusal) {
	for i, each := range list {
		s.Refused = append(s.Refused, local.Refused{Kind: each.kind, Name: each.name, Reason: each.reason})
		if i < refusedShown {
			s.Warnings = append(s.Warnings, fmt.Sprintf("a part of the network map is not in force: the %s %s: %s", each.kind, each.name, strings.TrimSpace(each.reason)))
		}
	}
	if more := len(list) - refusedShown; more > 0 {
		s.Warnings = append(s.Warnings, fmt.Sprintf("%d more parts of the network map are not in force; `wattle status --json` lists them under refused", more))
	}
}

package main

import (
	"slices"
)

// secretPair is a secret shown by create and the visible switch that lets it
// into the state.
func secretPair(a *attribute) []*attribute {
	s := *a
	s.Mode, s.Sensitive, s.Secret = computed, true, "create"
	s.Description = oneline(s.Description) + " Null unless `" + s.Name + "_in_state` is true, and after an import."
	prefer := " Prefer the ephemeral resource, which keeps it out."
	if s.Lasting {
		prefer = ""
	}
	sw := &attribute{
		Name: s.Name + "_in_state", Go: goName(s.Name) + "InState", Kind: "bool", Mode: optional, HasDefault: true, Default: false,
		Immutable: true, Synthetic: true,
		Description: "Whether the secret may stand in the state." + prefer,
	}
	s.Switch = sw.Go
	for _, was := range s.Was {
		sw.Was = append(sw.Was, was+"_in_state")
	}
	return []*attribute{&s, sw}
}

// writeOnlyPair is a secret that is only ever sent, and the number whose
// change sends it again.
func writeOnlyPair(a *attribute) []*attribute {
	w := *a
	w.Name, w.Go = a.Name+"_wo", goName(a.Name)+"Wo"
	w.Mode, w.Sensitive, w.WriteOnly, w.HasDefault = optional, true, true, false
	w.Description = oneline(w.Description) + " It is never stored in plan or state (write-only, Terraform 1.11)."
	v := &attribute{
		Name: w.Name + "_version", Go: w.Go + "Version", Kind: "int64", Mode: optional, Synthetic: true,
		Description: "Change it to send `" + w.Name + "` again.",
	}
	w.Switch, w.Was = v.Go, nil // it never stood in a state
	for _, was := range a.Was {
		v.Was = append(v.Was, was+"_wo_version")
	}
	return []*attribute{&w, v}
}

// Ephemeral reports whether the noun also exists for one run only: it has a
// secret, and an object that ends with the run is of use.
func (n *noun) Ephemeral() bool {
	return n.Resource != nil && slices.ContainsFunc(n.Secrets, func(a *attribute) bool { return !a.Lasting })
}

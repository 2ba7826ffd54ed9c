package main

import (
	"embed"
	"fmt"
	"regexp"
	"strings"
)

// guideFiles are the pages about tasks. They are written by hand, stand beside
// the generated ones in the registry, and are the provider's own.
//
//go:embed guides
var guideFiles embed.FS

// guides lists the pages in the order in which they are read.
var guides = []string{"first-network", "secrets", "many-resources", "state", "moving"}

// guidesFor is the provider that the guides are about.
const guidesFor = "wattle"

// emitGuides copies the pages about tasks.
func emitGuides(files tree, m *model) error {
	if m.Provider != guidesFor {
		return nil
	}
	for _, name := range guides {
		raw, err := guideFiles.ReadFile("guides/" + name + ".md")
		if err != nil {
			return fmt.Errorf("guide %s: %w", name, err)
		}
		if err := files.put("docs/guides/"+name+".md", raw); err != nil {
			return err
		}
	}
	return nil
}

var guideTitle = regexp.MustCompile(`(?m)^# (.+)$`)

// guideList is the part of the index that leads to the guides.
func guideList(m *model) string {
	if m.Provider != guidesFor {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n## Guides\n\n")
	for _, name := range guides {
		raw, err := guideFiles.ReadFile("guides/" + name + ".md")
		if err != nil {
			continue // emitGuides tells
		}
		if title := guideTitle.FindSubmatch(raw); title != nil {
			fmt.Fprintf(&b, "- [%s](guides/%s.md)\n", title[1], name)
		}
	}
	return b.String()
}

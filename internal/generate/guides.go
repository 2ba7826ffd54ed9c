package main

import (
	"fmt"
	"regexp"
	"strings"
)

// guides lists the pages about tasks in the order in which they are read. They
// are written by hand and stand beside the reference.
var guides = []string{"first-network", "secrets", "many-resources", "state", "moving"}

var guideTitle = regexp.MustCompile(`(?m)^# (.+)$`)

// guideList is the part of the index that leads to the guides.
func guideList() (string, error) {
	var b strings.Builder
	b.WriteString("\n## Guides\n\n")
	for _, name := range guides {
		raw, err := staticFiles.ReadFile("static/pages/guides/" + name + ".md")
		if err != nil {
			return "", fmt.Errorf("guide %s: %w", name, err)
		}
		title := guideTitle.FindSubmatch(raw)
		if title == nil {
			return "", fmt.Errorf("guide %s has no title", name)
		}
		fmt.Fprintf(&b, "- [%s](guides/%s.md)\n", title[1], name)
	}
	return b.String(), nil
}

package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"text/template"

	"github.com/wattlenet/wattle/acceptance/lab"
)

// natTable renders the figures of net/nat_matrix, one a line, as docs/nat-matrix.md. What was not measured is a dash; it
// fails when nothing was.
func natTable(figures io.Reader, page io.Writer) error {
	measured := make(map[string]string)
	lines := bufio.NewScanner(figures)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 3 && fields[2] == "ms" && strings.HasPrefix(fields[0], "nat_") {
			ms, err := strconv.ParseFloat(fields[1], 64)
			if err != nil {
				return fmt.Errorf("figure %q: %w", lines.Text(), err)
			}
			measured[fields[0]] = strconv.FormatFloat(ms, 'f', 0, 64)
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if len(measured) == 0 {
		return fmt.Errorf("no figure begins with nat_: give the output of bench -only '^net/nat_matrix'")
	}
	return natPage.Execute(page, natData{
		System: fmt.Sprintf("%s on %s, %d processors%s", runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH, runtime.NumCPU(), load()),
		Sides:  lab.Sides, Shapes: lab.Shapes, measured: measured,
	})
}

// load says how busy the machine has been; figures of a busy one are no measure. Empty where the system does not tell.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(text))
	if err != nil || len(fields) < 3 {
		return ""
	}
	return ", load average " + fields[2] + " in the last 15 minutes"
}

// natData is what the page is made of.
type natData struct {
	System string
	Sides  []lab.Side
	Shapes []lab.Shape

	measured map[string]string // milliseconds by figure
}

// Pair is the cell of two sides; empty below the diagonal, which says the same.
func (d natData) Pair(i, j int) string {
	if j < i {
		return ""
	}
	return d.cell(d.Sides[i].Name+"_"+d.Sides[j].Name, lab.Direct(d.Sides[i], d.Sides[j]))
}

// Shape is the cell of a shape.
func (d natData) Shape(s lab.Shape) string { return d.cell(natShape+s.Name, s.Direct) }

func (d natData) cell(name string, direct bool) string {
	name = "nat_" + strings.ReplaceAll(name, "-", "_")
	path := "relayed"
	if direct {
		path = "direct"
	}
	first, final := d.measured[name+"_first_ping_ms"], d.measured[name+"_"+path+"_ms"]
	if first == "" || final == "" {
		return path + " -"
	}
	if direct {
		path = "**direct**"
	}
	return path + " " + first + " / " + final
}

var dependences = map[lab.Dependence]string{
	lab.Independent: "endpoint-independent", lab.OnAddress: "address-dependent", lab.OnPort: "address and port-dependent",
}

// Kind describes a side.
func (d natData) Kind(s lab.Side) string {
	text := dependences[s.Mapping] + " | " + dependences[s.Filtering]
	if !s.UDP {
		text = "no UDP passes |"
	}
	return text
}

var natPage = template.Must(template.New("page").Parse(`# Which machines connect directly

Two machines in a lab of network namespaces, each behind the access named at the side and at the top. A cell says the path that
they end on, the milliseconds from ` + "`wattle up`" + ` on a fresh machine to its first answered ping, and those to the final path; of a relayed
pair that is when it is clear that there is no direct one. Ways are a fraction of a millisecond long here: add the round trips of yours.

Medians of up to three rounds by ` + "`make nat-matrix`" + `, {{.System}}. The path of every cell is a test too: ` + "`TestEveryPairOfNATs`" + ` and
` + "`TestEveryShape`" + ` in ` + "`acceptance`" + `.

|{{range .Sides}} | {{.Name}}{{end}} |
|---{{range .Sides}}|---{{end}}|
{{range $i, $left := .Sides}}| **{{$left.Name}}**{{range $j, $right := $.Sides}} | {{$.Pair $i $j}}{{end}} |
{{end}}
| access | mapping (RFC 4787, section 4.1) | filtering (section 5) |
|---|---|---|
{{range .Sides}}| {{.Name}} | {{$.Kind .}} |
{{end}}
Shapes in which the two ways depend on each other, or that are more than a NAT:

| shape | path, first ping / final path in ms |
|---|---|
{{range .Shapes}}| {{.Text}} | {{$.Shape .}} |
{{end}}`))

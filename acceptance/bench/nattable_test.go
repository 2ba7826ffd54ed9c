package main

import (
	"strings"
	"testing"
)

func TestNATTable(t *testing.T) {
	figures := `some_other_figure 3 ms
nat_public_symmetric_first_ping_ms 93.4 ms
nat_public_symmetric_direct_ms 210.6 ms
nat_symmetric_symmetric_first_ping_ms 95 ms
nat_symmetric_symmetric_relayed_ms 5080 ms
nat_shape_one_carrier_first_ping_ms 90 ms
nat_shape_one_carrier_relayed_ms 5040 ms
`
	var page strings.Builder
	if err := natTable(strings.NewReader(figures), &page); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"**direct** 93 / 211", "relayed 95 / 5080", "behind one carrier's NAT that does not | relayed 90 / 5040 |", "direct -",
		"| symmetric | address and port-dependent | address and port-dependent |",
	} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page lacks %q:\n%s", want, page.String())
		}
	}
	if err := natTable(strings.NewReader("first_ping_lan_ms 90 ms\n"), &page); err == nil {
		t.Error("a table was made of nothing")
	}
}

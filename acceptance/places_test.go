//go:build linux

package acceptance

import (
	"net"
	"os"
	"strings"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
	"github.com/rogpeppe/go-internal/testscript"
)

// places writes a geo database that tells the countries of some networks.
func places(_ *story, ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	usage(ts, len(args) >= 2, "places FILE NETWORK=COUNTRY...")
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "Story-Country", RecordSize: 24, IncludeReservedNetworks: true})
	ts.Check(err)
	for _, arg := range args[1:] {
		text, country, found := strings.Cut(arg, "=")
		usage(ts, found, "places FILE NETWORK=COUNTRY...")
		_, network, err := net.ParseCIDR(text)
		ts.Check(err)
		ts.Check(tree.Insert(network, mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String(country)}}))
	}
	file, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	_, err = tree.WriteTo(file)
	ts.Check(err)
	ts.Check(file.Close())
}

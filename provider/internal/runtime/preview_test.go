package runtime

import (
	"errors"
	"slices"
	"testing"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/generated/sdk"
	"github.com/wattlenet/wattle/generated/terraform"
)

func TestAccessText(t *testing.T) {
	peer := func(name string) terraform.End { return terraform.End{Type: "peer", Name: name} }
	pair := terraform.Pair{Source: peer("alpha"), Destination: peer("beta"), Before: []string{"tcp/22"}, After: []string{"tcp/80", "icmp"}}
	toResource := pair
	toResource.Destination = terraform.End{Type: "resource", Name: "db"}
	pairs := func(count int64, sample ...terraform.Pair) terraform.Pairs {
		return terraform.Pairs{Count: count, Sample: sample}
	}
	for name, c := range map[string]struct {
		preview terraform.Access
		want    string
	}{
		"nothing":  {terraform.Access{}, ""},
		"gained":   {terraform.Access{Gained: pairs(1, pair)}, "1 pair of machines gains access:\n  alpha to beta: tcp/80, icmp"},
		"lost":     {terraform.Access{Lost: pairs(2, pair, toResource)}, "2 pairs of machines lose access:\n  alpha to beta: tcp/22\n  alpha to resource db: tcp/22"},
		"changed":  {terraform.Access{Changed: pairs(1, pair)}, "1 pair of machines gets other access:\n  alpha to beta: tcp/22 becomes tcp/80, icmp"},
		"all":      {terraform.Access{Gained: pairs(1, pair), Lost: pairs(1, pair)}, "1 pair of machines gains access:\n  alpha to beta: tcp/80, icmp\n1 pair of machines loses access:\n  alpha to beta: tcp/22"},
		"many":     {terraform.Access{Lost: pairs(900, pair, pair, pair, pair, pair, pair)}, "900 pairs of machines lose access:\n  alpha to beta: tcp/22\n  alpha to beta: tcp/22\n  alpha to beta: tcp/22\n  alpha to beta: tcp/22\n  alpha to beta: tcp/22\n  and 895 more"},
		"no names": {terraform.Access{Lost: pairs(3)}, "3 pairs of machines lose access:"},
	} {
		if got := accessText(&c.preview); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestPreviewsEnd: what is wrong with one object does not keep the others from
// being asked about; what is wrong with the server or the token does.
func TestPreviewsEnd(t *testing.T) {
	said := func(status int) error { return &sdk.Error{Problem: api.Problem{Status: status}} }
	for name, c := range map[string]struct {
		err error
		ask bool
	}{
		"in use":       {said(400), true},
		"gone":         {said(404), true},
		"conflict":     {said(409), true},
		"invalid":      {said(422), true},
		"forbidden":    {said(403), false},
		"rate limited": {said(429), false},
		"broken":       {said(500), false},
		"unavailable":  {said(503), false},
		"too old":      {sdk.ErrNoPreview, false},
		"unreachable":  {errors.New("connection refused"), false},
	} {
		var p previews
		p.failed(c.err)
		if ask, _ := p.next(); ask != c.ask {
			t.Errorf("%s: asks %v, want %v", name, ask, c.ask)
		}
	}
	for _, meant := range []bool{false, true} {
		var p previews
		if meant {
			p.say()
		}
		for i := range previewLimit + 5 {
			if ask, full := p.next(); ask != (i < previewLimit) || full != (meant && i == previewLimit) {
				t.Errorf("change %d, meant %v: asks %v, full %v", i, meant, ask, full)
			}
		}
	}
}

// TestPreviewedNouns: what decides who reaches whom can be asked about.
func TestPreviewedNouns(t *testing.T) {
	previewed := map[string]bool{
		"group": true, "group_membership": true, "policy": true, "network": true,
		"network_resource": true, "network_router": true, "route": true,
	}
	for _, n := range terraform.Nouns {
		got := []bool{n.PreviewCreate != nil, n.PreviewUpdate != nil, n.PreviewDelete != nil}
		want := []bool{previewed[n.Name], previewed[n.Name] && n.Update != nil, previewed[n.Name]}
		if !slices.Equal(got, want) {
			t.Errorf("%s: create, update and delete can be asked about: %v, want %v", n.Name, got, want)
		}
	}
}

package problem

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/wattlenet/wattle/generated/api"
)

// Every kind that the code can make is declared in the contract, and every
// declared one can be made.
func TestKindsAreThoseOfTheContract(t *testing.T) {
	source, err := os.ReadFile("problem.go")
	if err != nil {
		t.Fatal(err)
	}
	inCode := map[string]bool{}
	for _, match := range regexp.MustCompile(`Kind = "([a-z-]+)"`).FindAllStringSubmatch(string(source), -1) {
		inCode[match[1]] = true
		if api.NewProblem("/problems/"+match[1]).Status == 0 {
			t.Errorf("%s is not in the contract", match[1])
		}
	}
	contract, err := os.ReadFile("../../../generated/api/problems.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range regexp.MustCompile(`= "/problems/([a-z-]+)"`).FindAllStringSubmatch(string(contract), -1) {
		if !inCode[match[1]] {
			t.Errorf("%s of the contract has no Kind", match[1])
		}
	}
}

func TestProblemsAreFoundThroughWrapping(t *testing.T) {
	cause := errors.New("disk on fire")
	err := fmt.Errorf("create a group: %w", Unavailable(0, cause))
	var p *Problem
	if !errors.As(err, &p) || p.Kind != KindUnavailable || !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
	if strings.Contains(p.Detail, "fire") {
		t.Errorf("the caller is told the cause: %q", p.Detail)
	}
}

func TestTexts(t *testing.T) {
	for _, test := range []struct {
		problem *Problem
		want    string
	}{
		{NotFound("setup key"), "setup key not found"},
		{Conflict("group", "name", "web"), `a group with the name "web" exists already`},
		{Conflict("user", "email", "a@b"), `a user with the email "a@b" exists already`},
		{Conflict("identity provider", "name", "sso"), `an identity provider with the name "sso" exists already`},
		{
			Invalid(Field("name", "must not be empty"), Field("rules[0].ports[1]", "must be at most %d", 65535)),
			"name: must not be empty; rules[0].ports[1]: must be at most 65535",
		},
		{InUse("group", "web", Referrer{Type: "setup-key", Name: "k"}, Referrer{Type: "policy", Name: "p"}), `group has been linked to setup key "k", policy "p"`},
		{InUse("peer", "db-1", Referrer{Type: "router", Name: "r"}), `peer "db-1" has been linked to router "r"`},
	} {
		if got := test.problem.Error(); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

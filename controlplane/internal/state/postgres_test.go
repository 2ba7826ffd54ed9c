package state

import (
	"testing"

	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/controlplane/internal/store/storetest"
)

// TestOnPostgres runs the tests of this package whose rules lean on the store once more, on PostgreSQL.
func TestOnPostgres(t *testing.T) {
	if testing.Short() {
		t.Skip("PostgreSQL: SKIPPED, -short")
	}
	server := storetest.Start(t)
	inFile := database
	defer func() { database = inFile }()
	addresses := map[string]string{}
	database = func(t testing.TB, dir string) store.Config {
		if addresses[dir] == "" {
			addresses[dir] = server.Fresh(t)
		}
		return store.Config{Postgres: addresses[dir]}
	}
	for name, test := range map[string]func(t *testing.T){
		"memory equals reload": TestMemoryEqualsReload, "exactly as many machines as the limit": TestExactlyAsManyMachinesAsTheLimit,
		"enrol again": TestEnrolAgainAnswersTheSamePeer, "addresses and labels": TestAddressesAndLabels, "freed ordinals": TestFreedOrdinalsRest,
		"pool exhausted": TestPoolExhausted, "order of members": TestGroupMembersKeepTheirOrder, "groups": TestGroupRules,
		"idempotent create": TestIdempotentCreate, "claim without answer": TestClaimWithoutAnswer, "pages": TestPagesKeepTheirPlace,
		"peer filters": TestPeerFilters, "policies": TestPolicyRules, "policies by reference": TestPolicyAnswersByReference,
		"rule ids": TestRuleIDsStay, "presence": TestPresenceMovesNothing, "ephemeral peers": TestEphemeralPeersGo,
		"audit": TestAuditTellsWho, "one of many setups": TestOneOfManySetupsWins, "fresh network": TestFreshNetwork, "tokens": TestTokens,
		"setup keys": TestSetupKeyRules, "setup key refusals": TestSetupKeyRefusals, "rebuild": TestRefusedChangeRebuildsTheMap,
	} {
		t.Run(name, test)
	}
}

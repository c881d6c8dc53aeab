package storetest_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/sconce-dev/sconce/sessions/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformanceMemory(t *testing.T) {
	memory := storetest.NewMemory()
	memory.Limit(storetest.MaxOwned, storetest.MaxInOrg)
	memory.LimitTokens(storetest.MaxOwnedTokens, storetest.MaxOrgTokens)
	memory.LimitEngines(storetest.MaxOwnedEngines, storetest.MaxOrgEngines)
	storetest.Run(t, func(*testing.T) storetest.Registry { return memory })
}

package proxy_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(attackEnv) != "" {
		beAttacker()
		return
	}
	if how := os.Getenv(siegeEngineEnv); how != "" {
		beSiegeEngine(how)
		return
	}
	goleak.VerifyTestMain(m)
}

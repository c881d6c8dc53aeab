package redisstore

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/sconce-dev/sconce/sessions"
)

// keys makes the names of the keys that doc.go lists.
type keys struct{ prefix string }

func (k keys) session(id sessions.ID) string { return k.prefix + ":s:{" + string(id) + "}" }

func (k keys) bound(id sessions.ID) string { return k.session(id) + ":bound" }

func (k keys) turn(id sessions.ID, spark sessions.SparkID) string {
	return k.session(id) + ":turn:" + string(spark)
}

func (k keys) tokens(id sessions.ID) string { return k.session(id) + ":tokens" }

func (k keys) operations(id sessions.ID) string { return k.session(id) + ":ops" }

func (k keys) released(id sessions.ID) string { return k.session(id) + ":released" }

func (k keys) streams(id sessions.ID) string { return k.session(id) + ":streams" }

func (k keys) sessionLease(id sessions.ID) string { return k.session(id) + ":lease" }

func (k keys) engine(key sessions.EngineKey) string { return k.prefix + ":e:{" + string(key) + "}" }

func (k keys) members(key sessions.EngineKey) string { return k.engine(key) + ":members" }

func (k keys) engineLease(key sessions.EngineKey) string { return k.engine(key) + ":lease" }

func (k keys) engines() string { return k.prefix + ":engines" }

func (k keys) looks() string { return k.prefix + ":looks" }

func (k keys) uses(id sessions.ID) string { return k.session(id) + ":uses" }

func (k keys) journal(id sessions.ID) string { return k.session(id) + ":journal" }

func (k keys) parts(id sessions.ID) string { return k.session(id) + ":parts" }

func (k keys) carried(id sessions.ID) string { return k.session(id) + ":carried" }

func (k keys) binding(spark sessions.SparkID) string { return k.prefix + ":b:{" + string(spark) + "}" }

func (k keys) owner(org, owner string) string { return k.prefix + ":o:{" + tag(org, owner) + "}" }

func (k keys) names(org, owner string) string { return k.owner(org, owner) + ":names" }

func (k keys) owned(org, owner string) string { return k.owner(org, owner) + ":ids" }

func (k keys) request(org, owner, id string) string { return k.owner(org, owner) + ":r:" + id }

func (k keys) organisation(org string) string { return k.prefix + ":g:{" + tag(org) + "}:ids" }

func (k keys) openInOrg(org string) string { return k.prefix + ":g:{" + tag(org) + "}:open" }

func (k keys) ownerEngines(org, owner string) string { return k.owner(org, owner) + ":engines" }

func (k keys) orgEngines(org string) string { return k.prefix + ":g:{" + tag(org) + "}:engines" }

func (k keys) ownerTokens(org, owner string) string { return k.owner(org, owner) + ":tokens" }

func (k keys) orgTokens(org string) string { return k.prefix + ":g:{" + tag(org) + "}:tokens" }

func (k keys) drains() string { return k.prefix + ":drains" }

func (k keys) due() string { return k.prefix + ":due" }

func (k keys) unused() string { return k.prefix + ":unused" }

func (k keys) audit() string { return k.prefix + ":audit" }

func (k keys) apiKey(id string) string { return k.prefix + ":k:{" + id + "}" }

func (k keys) apiKeys(org string) string { return k.prefix + ":g:{" + tag(org) + "}:keys" }

func (k keys) changes() string { return k.prefix + ":changes" }

// tag hashes names that come from outside: any length, any characters. The
// length before each keeps ("ab", "c") apart from ("a", "bc").
func tag(names ...string) string {
	h := sha256.New()
	for _, n := range names {
		h.Write([]byte{byte(len(n) >> 8), byte(len(n))})
		h.Write([]byte(n))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

package storetest

import (
	"context"
	"crypto/rand"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sconce-dev/sconce/sessions"
)

// Registry is both faces of a session registry.
type Registry interface {
	sessions.Store
	sessions.Directory
	sessions.TokenStore
	sessions.WakeStore
	sessions.Turns
	sessions.Deadlines
	sessions.JournalStore
	sessions.CarriedStore
	sessions.KeyStore
}

// MaxBound is how many Spark session ids a session may have in the registry that
// the suite is given.
const MaxBound = 3

// Run runs the suite. open returns a registry with MaxBound, MaxTokens, MaxOwned,
// MaxInOrg, MaxOwnedTokens, MaxOrgTokens, MaxOwnedEngines, MaxOrgEngines, MaxJournal, MaxJournals,
// MaxEntries, MaxBlobs and MaxKeys; all that it returns in one test share their data, as the replicas of Sconce do.
func Run(t *testing.T, open func(t *testing.T) Registry) {
	tests := map[string]func(*testing.T, *suite){
		"Create":                 testCreate,
		"CreateWithOptions":      testCreateWithOptions,
		"ListByLabels":           testListByLabels,
		"CreateAgain":            testCreateAgain,
		"CreateRace":             testCreateRace,
		"NameTaken":              testNameTaken,
		"NameRace":               testNameRace,
		"Get":                    testGet,
		"ListPages":              testListPages,
		"ListSelects":            testListSelects,
		"EveryTransition":        testEveryTransition,
		"TransitionOfOtherTimes": testTransitionOfOtherTimes,
		"TransitionOfNone":       testTransitionOfNone,
		"CloseKeepsLittle":       testCloseKeepsLittle,
		"CloseIsFinal":           testCloseIsFinal,
		"BindFirstUse":           testBindFirstUse,
		"BindForeign":            testBindForeign,
		"BindForeignAfterClose":  testBindForeignAfterClose,
		"BindRace":               testBindRace,
		"BindClosedAndNone":      testBindClosedAndNone,
		"BindTooMany":            testBindTooMany,
		"WatchHearsTransitions":  testWatch,
		"AgainstModel":           testAgainstModel,
		"CancelledIsNoOutage":    testCancelled,
		"RevisionGrows":          testRevisionGrows,
		"RequestIDsAreTheOwners": testRequestIDsAreTheOwners,
		"ListOfNobody":           testListUnknownOwner,
		"TooManyOfAnOwner":       testTooManyOfAnOwner,
		"TooManyInOneOrg":        testTooManyInOneOrg,
		"LimitRace":              testLimitRace,
		"Deadlines":              testDeadlines,
		"Turns":                  testTurns,
		"TurnsRefused":           testTurnsRefused,
		"TurnRace":               testTurnRace,
		"Tokens":                 testTokens,
		"TouchTokens":            testTouchTokens,
		"Revoke":                 testRevoke,
		"RevokeUnknown":          testRevokeUnknown,
		"TokensOfAClosedSession": testTokensOfAClosedSession,
		"TooManyTokens":          testTooManyTokens,
		"TooManyTokensOfAnOwner": testTooManyTokensOfAnOwner,
		"TooManyTokensInOneOrg":  testTooManyTokensInOneOrg,
		"TokenCountEnds":         testTokenCountEnds,
		"TokenLimitRace":         testTokenLimitRace,
		"WatchHearsRevocations":  testWatchHearsRevocations,
		"EngineLife":             testEngineLife,
		"EngineLease":            testEngineLease,
		"DropEngine":             testDropEngine,
		"EngineRace":             testEngineRace,
		"Drains":                 testDrains,
		"Places":                 testPlaces,
		"PlacesEnd":              testPlacesEnd,
		"PlaceRace":              testPlaceRace,
		"Unused":                 testUnused,
		"NewEngineNoOperations":  testNewEngineNoOperations,
		"Streams":                testStreams,
		"Released":               testReleased,
		"Schedule":               testSchedule,
		"Stage":                  testStage,
		"JournalOrder":           testJournalOrder,
		"JournalSlots":           testJournalSlots,
		"JournalCaps":            testJournalCaps,
		"JournalsOfASession":     testJournalsOfASession,
		"JournalEndsWithClose":   testJournalEndsWithClose,
		"JournalRace":            testJournalRace,
		"Blobs":                  testBlobs,
		"Carried":                testCarried,
		"Keys":                   testKeys,
		"RevokeKey":              testRevokeKey,
		"UseKey":                 testUseKey,
		"TooManyKeys":            testTooManyKeys,
		"KeysCancelled":          testKeysCancelled,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := &suite{Registry: open(t), open: open, now: time.Now().Truncate(time.Millisecond).UTC(), org: uuid.NewString()}
			test(t, s)
		})
	}
}

// suite is one test's registry, clock and organisation: tests share a server but
// no names.
type suite struct {
	Registry
	open func(*testing.T) Registry
	now  time.Time
	org  string
}

// session returns a new pending session of that owner, a millisecond later than
// the one before.
func (s *suite) session(t failer, owner, name string) sessions.Session {
	t.Helper()
	s.now = s.now.Add(time.Millisecond)
	id, err := sessions.NewID(s.now, rand.Reader)
	must(t, err)
	return sessions.Session{
		ID: id, Name: name, Owner: owner, Org: s.org, Cluster: "c",
		State: sessions.Pending, CreatedAt: s.now,
	}
}

func (s *suite) create(t failer, owner, name string) sessions.Session {
	t.Helper()
	made, err := s.Create(context.Background(), s.session(t, owner, name), "")
	must(t, err)
	return made
}

func (s *suite) active(t failer, owner, name string) sessions.Session {
	t.Helper()
	return s.step(t, s.create(t, owner, name), sessions.Active)
}

// step moves a session on, as somebody who knows its record.
func (s *suite) step(t failer, from sessions.Session, to sessions.State) sessions.Session {
	t.Helper()
	now, err := s.Transition(context.Background(), from.ID, s.transition(from, to))
	must(t, err)
	return now
}

func (s *suite) transition(from sessions.Session, to sessions.State) sessions.Transition {
	s.now = s.now.Add(time.Millisecond)
	return sessions.Transition{From: from.State, Generation: from.Generation, To: to, Reason: "to " + string(to), At: s.now}
}

// failer is what the helpers need of a *testing.T or a *rapid.T.
type failer interface {
	Helper()
	Errorf(format string, args ...any)
	Fatal(args ...any)
}

func newSpark() sessions.SparkID { return sessions.SparkID(uuid.NewString()) }

func must(t failer, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t failer, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("error %v, want %v", got, want)
	}
}

// wantSession compares all but UsedAt, which is the registry's own clock.
func wantSession(t failer, got, want sessions.Session) {
	t.Helper()
	got.UsedAt, want.UsedAt = time.Time{}, time.Time{}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("session\n%+v, want\n%+v", got, want)
	}
}

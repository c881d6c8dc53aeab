package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sconce-dev/sconce/proxy/proxytest"
	"github.com/sconce-dev/sconce/proxy/proxytest/gateway"
	"github.com/sconce-dev/sconce/sessions"
)

// The answer of a query to the fleet's engines.
const (
	fleetRows  = 20
	fleetBytes = 3000
)

// thinks is how long people think between two queries: the machine is to be busy and
// not so full that a slow answer says nothing.
const thinks = 10 * time.Millisecond

// fleetPatience is how long something may take that has to happen.
const fleetPatience = 60 * time.Second

// fleet is two replicas on one registry, several clusters, and people who work
// through both without pause. Each does what PySpark does: a query that is refused
// or cut for now is taken up or sent again, and must be whole in the end.
type fleet struct {
	t        *testing.T
	replicas []*gateway.Gateway
	members  []*member
	// newcomers: one member opens SparkSessions all the time.
	newcomers bool
	whose     sync.Map // Spark session id -> *member
	load      sync.WaitGroup
	stop      chan struct{}
}

// member is one session and whose it is.
type member struct {
	fleet          *fleet
	id             sessions.ID
	owner, cluster string
	spark          string
	// done counts queries that came back whole, again refusals that said to come again.
	done, again, sparks atomic.Int64
}

// fleetClusters are the clusters on which people work, and the one of the long stream.
var fleetClusters = []string{gateway.Cluster, "second"}

const longCluster = "long"

// newFleet starts both replicas and makes the sessions; nobody works yet.
func newFleet(t *testing.T, cfg gateway.Config) *fleet {
	t.Helper()
	f := &fleet{t: t, stop: make(chan struct{})}
	cfg.More, cfg.HoldTimeout = []string{"second", longCluster}, 2*time.Second
	cfg.Spark = proxytest.SparkConfig{Rows: fleetRows, BatchBytes: fleetBytes}
	first := gateway.Start(t, cfg)
	cfg.Beside = first
	f.replicas = []*gateway.Gateway{first, gateway.Start(t, cfg)}
	t.Cleanup(f.end)
	for i := range 6 {
		f.members = append(f.members, f.member(fmt.Sprintf("owner-%d", i%3), fleetClusters[i%2]))
	}
	return f
}

// member makes a session that no replica has heard of yet.
func (f *fleet) member(owner, cluster string) *member {
	f.t.Helper()
	m := &member{fleet: f, id: f.replicas[0].SessionOn(cluster, owner, sessions.Active), owner: owner, cluster: cluster}
	m.spark = m.newSpark()
	return m
}

// work has each member work through both replicas.
func (f *fleet) work() {
	f.t.Helper()
	for i, m := range f.members {
		for j, g := range f.replicas {
			c := proxytest.NewCaller(f.t, g.Dial)
			f.load.Go(func() {
				for !f.stopped() {
					spark := m.spark
					if j == 1 && i == 0 && f.newcomers {
						spark = m.newcomer(c)
					}
					if err := m.query(c, spark); err != nil {
						f.t.Errorf("%s: %v", m.id, err)
						return
					}
					time.Sleep(thinks)
				}
			})
		}
	}
}

func (f *fleet) stopped() bool {
	select {
	case <-f.stop:
		return true
	default:
		return false
	}
}

// end stops the work. It may be called twice.
func (f *fleet) end() {
	if !f.stopped() {
		close(f.stop)
	}
	f.load.Wait()
}

// progress waits until every member had n more answers.
func (f *fleet) progress(n int64) {
	f.t.Helper()
	f.progressOn("", n)
}

// on are the members who work on a cluster; "" = all.
func (f *fleet) on(cluster string) []*member {
	return slices.DeleteFunc(slices.Clone(f.members), func(m *member) bool { return cluster != "" && m.cluster != cluster })
}

// progressOn waits until each who works on a cluster had n more answers.
func (f *fleet) progressOn(cluster string, n int64) {
	f.t.Helper()
	for _, m := range f.on(cluster) {
		want := m.done.Load() + n
		f.await(fmt.Sprintf("%d more answers for %s", n, m.id), func() bool { return m.done.Load() >= want })
	}
}

// await asks until it is so.
func (f *fleet) await(what string, so func() bool) {
	f.t.Helper()
	deadline, tick := time.After(fleetPatience), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-deadline:
			f.t.Fatalf("within %v: not so: %s", fleetPatience, what)
		}
	}
}

// newSpark is one more Spark session of the member; a session may have so many.
func (m *member) newSpark() string {
	if m.sparks.Add(1) > 500 {
		return m.spark
	}
	spark := uuid.NewString()
	m.fleet.whose.Store(spark, m)
	return spark
}

// newcomer opens a SparkSession as a client does, by a small request. The registry
// must bind it, which it cannot while it is away: the client comes again.
func (m *member) newcomer(c *proxytest.Caller) string {
	spark := m.newSpark()
	for !m.fleet.stopped() {
		ctx, cancel := m.ctx()
		_, err := c.Unary(ctx, proxytest.SparkService+"Config", proxytest.Request(spark, m.owner))
		cancel()
		if err == nil {
			break
		}
		if !comeAgain(err) {
			m.fleet.t.Errorf("a new SparkSession of %s: %v", m.id, err)
			break
		}
		m.again.Add(1)
		time.Sleep(20 * time.Millisecond) // in place of the 2 s that it is told
	}
	return spark
}

func (m *member) ctx() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), fleetPatience)
	return proxytest.With(ctx, m.fleet.replicas[0].Credentials(m.id, m.owner)...), cancel
}

// ask is one small request.
func (m *member) ask(c *proxytest.Caller) error {
	ctx, cancel := m.ctx()
	defer cancel()
	_, err := c.Unary(ctx, proxytest.SparkService+"Config", proxytest.Request(m.spark, m.owner))
	return err
}

// query runs one query as PySpark does: until it is whole. The error says what a
// client would not have got over by itself, or got wrong.
func (m *member) query(c *proxytest.Caller, spark string) error {
	ctx, cancel := m.ctx()
	defer cancel()
	operation := uuid.NewString()
	var got [][]byte
	for begin := true; ; {
		path, request := "ReattachExecute", proxytest.Reattach(spark, m.owner, operation, lastOf(got))
		if begin {
			path, request = "ExecutePlan", proxytest.ExecutePlan(spark, m.owner, operation, true, []byte("plan"))
		}
		begin = false
		more, err := c.Collect(ctx, proxytest.SparkService+path, request)
		got = append(got, more...)
		if wrong := m.wrong(spark, operation, got); wrong != nil {
			return wrong
		}
		switch {
		case len(got) == fleetRows+1:
			m.done.Add(1)
			return nil
		case err == nil: // cut between two messages: the client takes it up
		case unknownOperation(err) && len(got) == 0:
			begin = true
		case comeAgain(err):
			m.again.Add(1)
			time.Sleep(20 * time.Millisecond) // in place of the 2 s that it is told
		default:
			return fmt.Errorf("%s after %d messages: %w", path, len(got), err)
		}
	}
}

// wrong compares what came with what the engine says for that query.
func (m *member) wrong(spark, operation string, got [][]byte) error {
	if len(got) > fleetRows+1 {
		return fmt.Errorf("%d messages of %d", len(got), fleetRows+1)
	}
	for i, b := range got {
		if id := proxytest.Field(b, 13); id != fmt.Sprintf("%s/%d", operation, i) || proxytest.Field(b, 1) != spark {
			return fmt.Errorf("message %d is %q of %q", i, id, proxytest.Field(b, 1))
		}
		if i < fleetRows && proxytest.Field([]byte(proxytest.Field(b, 2)), 2) != string(proxytest.Pattern(i, fleetBytes)) {
			return fmt.Errorf("message %d has other bytes than the engine sent", i)
		}
	}
	return nil
}

func lastOf(got [][]byte) string {
	if len(got) == 0 {
		return ""
	}
	return proxytest.Field(got[len(got)-1], 13)
}

// comeAgain: UNAVAILABLE with a RetryInfo, which standard clients follow by themselves.
// A result that broke needs no RetryInfo: they take it up at once.
func comeAgain(err error) bool {
	st := status.Convert(err)
	if reason(err) == "ENGINE_DISCONNECTED" {
		return st.Code() == codes.Unavailable
	}
	return st.Code() == codes.Unavailable && slices.ContainsFunc(st.Details(), func(d any) bool { _, ok := d.(*errdetails.RetryInfo); return ok })
}

// unknownOperation: what has PySpark send its plan again.
func unknownOperation(err error) bool {
	st := status.Convert(err)
	return len(st.Details()) > 0 && strings.Contains(st.Message(), "INVALID_HANDLE.OPERATION_NOT_FOUND")
}

// reason is that of a refusal.
func reason(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// checkEngines goes over every call that any engine ever had: its Spark session is
// of a session of that cluster, and its user is the owner of that.
func (f *fleet) checkEngines() {
	f.t.Helper()
	messages := 0
	for name, engine := range f.replicas[0].Engines {
		for _, r := range engine.Recorded("") {
			for _, msg := range r.Messages() {
				messages++
				owner, spark := proxytest.UserID(msg), proxytest.Field(msg, 1)
				m, ok := f.whose.Load(spark)
				if !ok || m.(*member).owner != owner || m.(*member).cluster != name {
					f.t.Errorf("the engine of %s was asked for %s by %q", name, spark, owner)
				}
			}
		}
	}
	if messages == 0 {
		f.t.Error("no engine was asked anything")
	}
}

// checkOwners reads every record: none has another owner than it was made with.
func (f *fleet) checkOwners(also ...*member) {
	f.t.Helper()
	for _, m := range append(also, f.members...) {
		list := f.recorded(m)
		if len(list) != 1 || list[0].Owner != m.owner || list[0].Cluster != m.cluster {
			f.t.Errorf("%s of %s on %s is recorded as %+v", m.id, m.owner, m.cluster, list)
		}
	}
}

// recorded is what the registry has of the session, once it answers.
func (f *fleet) recorded(m *member) (list []sessions.Session) {
	f.t.Helper()
	f.await("an answer of the registry", func() bool {
		var err error
		list, err = f.replicas[0].Store.Get(f.t.Context(), m.id)
		return err == nil
	})
	return list
}

// long is a stream that goes on through a fault.
type long struct {
	fleet  *fleet
	gate   chan struct{}
	stream *proxytest.CallerStream
	sent   int
}

// openLong opens it, through the first replica.
func (f *fleet) openLong() (*long, *member) {
	f.t.Helper()
	l := &long{fleet: f, gate: make(chan struct{})}
	f.replicas[0].Engines[longCluster].Script("ExecutePlan", proxytest.Drip(fleetBytes, l.gate))
	m := f.member("owner-0", longCluster)
	ctx := proxytest.With(f.t.Context(), f.replicas[0].Credentials(m.id, m.owner)...)
	var err error
	if l.stream, err = proxytest.NewCaller(f.t, f.replicas[0].Dial).Stream(ctx, proxytest.SparkService+"ExecutePlan"); err != nil {
		f.t.Fatal(err)
	}
	err = l.stream.Send(proxytest.ExecutePlan(m.spark, m.owner, uuid.NewString(), false, nil))
	if err = errors.Join(err, l.stream.CloseSend()); err != nil {
		f.t.Fatal(err)
	}
	l.drip(3)
	return l, m
}

// drip has the engine send n messages more, and reads them.
func (l *long) drip(n int) {
	l.fleet.t.Helper()
	for range n {
		l.gate <- struct{}{}
		got, err := l.stream.Recv()
		if err != nil || !bytes.Equal(got, proxytest.Pattern(l.sent, fleetBytes)) {
			l.fleet.t.Fatalf("message %d of the long stream: %d bytes, %v", l.sent, len(got), err)
		}
		l.sent++
	}
}

// finish reads the end.
func (l *long) finish() {
	l.fleet.t.Helper()
	close(l.gate)
	if rest, err := l.stream.Rest(); err != nil || len(rest) != 0 {
		l.fleet.t.Errorf("the long stream ended with %d messages more and %v", len(rest), err)
	}
}

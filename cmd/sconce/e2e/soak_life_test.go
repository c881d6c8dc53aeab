package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	sconcev1 "github.com/sconce-dev/sconce/proto/sconce/v1"
)

// soaker is one client: a session at a time, and a connection of its own.
type soaker struct {
	*soak
	t       *testing.T
	number  int
	cluster string
	owner   string
	control string // its control token
	rng     *rand.Rand
	conn    *grpc.ClientConn
	patient *patient

	mu sync.Mutex
	id string // of the session; "" = none
}

// act is one thing that clients do, so often in a hundred.
type act struct {
	name  string
	often int
	do    func(c *soaker, ctx context.Context)
}

// people makes the clients.
func (s *soak) people(t *testing.T) {
	t.Helper()
	for i := range soakDrawn + soakShared + soakOwn {
		c := &soaker{soak: s, t: t, number: i, cluster: "drawn", owner: fmt.Sprintf("soak-%d", i%4), rng: rand.New(rand.NewPCG(s.seed, uint64(i)+1))}
		switch {
		case i >= soakDrawn+soakShared:
			c.cluster = "own"
		case i >= soakDrawn:
			c.cluster = "shared"
		}
		var err error
		if c.control, err = s.w.gate.as(c.owner); err != nil {
			t.Fatal(err)
		}
		s.soakers = append(s.soakers, c)
	}
}

func (c *soaker) sail() bool { return c.cluster != "drawn" }

// on is the engine, as in faultKind.may.
func (c *soaker) on() string {
	if c.sail() {
		return onSail
	}
	return onDrawn
}

func (c *soaker) sessionID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.id
}

func (c *soaker) acts() []act {
	if !c.sail() {
		return []act{
			{"query", 60, (*soaker).query}, {"download", 12, (*soaker).download}, {"upload", 10, (*soaker).upload},
			{"cancel", 8, (*soaker).cancel}, {"interrupt", 6, (*soaker).interrupt},
		}
	}
	return []act{
		{"query", 60, (*soaker).query}, {"download", 10, (*soaker).download},
		{"cancel", 2, (*soaker).cancel}, {"sleep", 12, (*soaker).sleep},
	}
}

// live goes on until the soak stops.
func (c *soaker) live(ctx context.Context) {
	for c.goesOn(ctx) {
		c.open(ctx)
		for c.goesOn(ctx) && c.rng.IntN(40) > 0 {
			c.pick().do(c, ctx)
			c.thinks()
		}
		c.close(ctx)
	}
}

func (c *soaker) goesOn(ctx context.Context) bool {
	select {
	case <-c.stop:
		return false
	case <-ctx.Done():
		return false
	default:
		return true
	}
}

// thinks is what people do between two queries.
func (c *soaker) thinks() {
	select {
	case <-time.After(time.Duration(c.rng.Int64N(int64(5 * time.Second)))):
	case <-c.stop:
	}
}

func (c *soaker) pick() act {
	list, sum := c.acts(), 0
	for _, a := range list {
		sum += a.often
	}
	n := c.rng.IntN(sum)
	for _, a := range list {
		if n -= a.often; n < 0 {
			return a
		}
	}
	panic("no act")
}

// as is the client's own credentials for the control API.
func (c *soaker) as(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.control)
}

// open makes a session, and in Sail a view that has to outlive the engine.
func (c *soaker) open(ctx context.Context) {
	agent := "grpc-python/1.76.0" // one that takes up what is handed over
	if c.number%2 == 1 {
		agent = "soak"
	}
	var err error
	if c.conn, err = dialTLS(c.balancer.addr(), c.way, agent); err != nil {
		c.t.Error(err)
		return
	}
	c.patient = &patient{
		caller: &caller{conn: c.conn}, spark: newUUID(), owner: c.owner,
		retried: func() { c.counts.retried.Add(1) },
		broke:   func(begun time.Time) bool { return c.faults.allows(begun, c.on(), cutInMessage) },
		kept:    c.ends.kept,
	}
	api, begun := sconcev1.NewSessionServiceClient(c.conn), time.Now()
	request := &sconcev1.CreateSessionRequest{Cluster: c.cluster, RequestId: newUUID()}
	if c.sail() {
		request.IdleTimeout = durationpb.New(5 * time.Second)
	}
	var made *sconcev1.CreateSessionResponse
	err = c.persist(ctx, func() (err error) { made, err = api.CreateSession(c.as(ctx), request); return err })
	if !c.judge("create", begun, err) {
		return
	}
	var token *sconcev1.IssueSessionTokenResponse
	err = c.persist(ctx, func() (err error) {
		token, err = api.IssueSessionToken(c.as(ctx), &sconcev1.IssueSessionTokenRequest{SessionId: made.Session.Id})
		return err
	})
	if !c.judge("token", begun, err) {
		return
	}
	c.patient.session, c.patient.secret = made.Session.Id, remember(token.Token)
	c.mu.Lock()
	c.id = made.Session.Id
	c.mu.Unlock()
	for c.sail() && !c.makeView(ctx) && c.goesOn(ctx) {
		// A fault took the answer along, and whether it is made nobody knows.
		continue
	}
}

// makeView makes the view of look. It may be made again.
func (c *soaker) makeView(ctx context.Context) bool {
	begun := time.Now()
	_, err := c.patient.run(ctx, c.begin().command(fmt.Sprintf("CREATE OR REPLACE TEMPORARY VIEW mine AS SELECT %d AS n", c.number)))
	return c.judge("make a view", begun, err)
}

// begin begins a request of the client.
func (c *soaker) begin() wire { return request(c.patient.spark, c.owner) }

// persist tries again what is UNAVAILABLE.
func (c *soaker) persist(ctx context.Context, call func() error) error {
	for begun, n := time.Now(), 0; ; n++ {
		if err := call(); err == nil || !c.patient.again(ctx, err, n, begun) {
			return err
		}
	}
}

// close ends the session, and sees that it is closed for good.
func (c *soaker) close(ctx context.Context) {
	defer c.conn.Close()
	id := c.sessionID()
	if id == "" {
		return
	}
	c.mu.Lock()
	c.id = ""
	c.mu.Unlock()
	api, begun := sconcev1.NewSessionServiceClient(c.conn), time.Now()
	err := c.persist(ctx, func() error {
		_, err := api.CloseSession(c.as(ctx), &sconcev1.CloseSessionRequest{SessionId: id})
		return err
	})
	if !c.judge("close", begun, err) {
		return
	}
	c.ends.closed(c.patient.spark, begun)
	// A replica that cannot hear Redis may serve it from what it knows for registry_grace.
	for begun := time.Now(); ; {
		_, err := c.patient.unary(ctx, "Config", c.begin().message(3, wire(nil).message(2, wire(nil).text(1, "spark.sql.session.timeZone"))))
		if reasonOf(err) == "SESSION_CLOSED" {
			return
		}
		if time.Since(begun) > time.Minute || ctx.Err() != nil {
			c.judge("after the close", begun, fmt.Errorf("it was answered, with %w", err))
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// sql is a query, and what it has to answer.
func (c *soaker) sql(large bool) (sql string, want answer) {
	switch {
	case c.sail() && large:
		sql = sailLarge
	case c.sail():
		sql = []string{sailSum, sailRows}[c.rng.IntN(2)]
	case large:
		sql = fmt.Sprint(16 + c.rng.IntN(80))
	default:
		sql = "1"
	}
	if c.sail() {
		return sql, c.expected[sql]
	}
	var batches int
	_, _ = fmt.Sscan(sql, &batches)
	return sql, drawnAnswer(batches)
}

func (c *soaker) query(ctx context.Context) {
	if c.sail() && c.rng.IntN(3) == 0 {
		c.look(ctx)
		return
	}
	c.ask(ctx, "query", false)
}

func (c *soaker) download(ctx context.Context) { c.ask(ctx, "download", true) }

func (c *soaker) ask(ctx context.Context, name string, large bool) {
	sql, want := c.sql(large)
	begun := time.Now()
	got, err := c.patient.result(ctx, sql)
	if err == nil && got != want {
		err = fmt.Errorf("%w: %d rows, want %d", errWrong, got.rows, want.rows)
	}
	c.judge(name, begun, err)
}

// look reads the client's own view: no other's, and not none.
func (c *soaker) look(ctx context.Context) {
	begun := time.Now()
	got, err := c.patient.result(ctx, fmt.Sprintf("SELECT n FROM mine WHERE n = %d", c.number))
	if err == nil && got.rows != 1 {
		err = fmt.Errorf("%w: %d rows of its own view", errWrong, got.rows)
	}
	c.judge("view", begun, err)
}

func (c *soaker) upload(ctx context.Context) {
	begun := time.Now()
	want, got, err := c.patient.upload(ctx, 8+c.rng.IntN(56))
	if err == nil && got != want {
		err = fmt.Errorf("%w: the engine got other bytes", errWrong)
	}
	c.judge("upload", begun, err)
}

// endless has no last row.
func (c *soaker) endless() string {
	if c.sail() {
		return endlessRows
	}
	return "without an end"
}

// cancel hangs up in the middle of a result, as a notebook does that is closed.
func (c *soaker) cancel(ctx context.Context) {
	begun, operation := time.Now(), newUUID()
	_, err := c.patient.follow(ctx, operation, c.begin().query(c.endless()).operation(operation), func() error { return errEnough })
	if c.sail() { // it has to end too
		_, _ = c.patient.unary(ctx, "Interrupt", c.begin().varint(4, 3).text(6, operation))
	}
	c.patient.release(ctx, operation)
	if err == errEnough { //nolint:errorlint // follow returns it as it is
		err = nil
	}
	c.judge("cancel", begun, err)
}

// interrupt ends a result by another call, whichever replica that comes to.
func (c *soaker) interrupt(ctx context.Context) {
	begun, operation := time.Now(), newUUID()
	ended := make(chan error, 1)
	running := make(chan struct{}, 1)
	go func() {
		_, err := c.patient.follow(ctx, operation, c.begin().query(c.endless()).operation(operation), func() error {
			select {
			case running <- struct{}{}:
			default: // a message after the first
			}
			return nil
		})
		ended <- err
	}()
	var err error
	select {
	case <-running:
		_, err = c.patient.unary(ctx, "Interrupt", c.begin().varint(4, 3).text(6, operation))
		if err == nil {
			err = <-ended
		}
	case err = <-ended:
	}
	c.patient.release(ctx, operation)
	if strings.Contains(status.Convert(err).Message(), "OPERATION_CANCELED") {
		err = nil
	} else if err == nil {
		err = fmt.Errorf("%w: it ended by itself", errWrong)
	}
	c.judge("interrupt", begun, err)
}

// detachedFor is how long an operation without a stream keeps its session awake.
const detachedFor = 5 * time.Minute

// sleep waits until the session is idle; its next query wakes it, with its view.
func (c *soaker) sleep(ctx context.Context) {
	begun, api := time.Now(), sconcev1.NewSessionServiceClient(c.conn)
	for asleep := false; !asleep; {
		err := c.persist(ctx, func() error {
			seen, err := api.DescribeSession(c.as(ctx), &sconcev1.DescribeSessionRequest{SessionId: c.sessionID()})
			asleep = err == nil && seen.Session.State == sconcev1.Session_IDLE
			return err
		})
		if err != nil || time.Since(begun) > 2*time.Minute {
			if err == nil && c.faults.cutSince(begun.Add(-detachedFor)) {
				return // a replica may still wait for the client to come back
			}
			if err == nil {
				err = status.Error(codes.Internal, "it does not become idle")
			}
			c.judge("sleep", begun, err)
			return
		}
		select {
		case <-time.After(time.Second):
		case <-c.stop:
			return
		}
	}
	c.judge("sleep", begun, nil)
	c.woken.Add(1)
	c.look(ctx)
}

package sessions

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sconce-dev/sconce/proto/spark/connect"
)

// Prepare brings the Spark session spark, which is new to the engine, to what
// its session chose: configuration first, since it may define catalogs, then the
// catalog, then the database. Both are set by the plans that clients use for it,
// which Sail and Apache Spark understand alike and refuse for a name that they do
// not know; Sail accepts spark.sql.defaultCatalog and ignores it, and Spark takes
// any text for that and fails at the next query.
//
// Doing it again does no harm, other than to undo what the client has set since.
// *SetupError where the engine says no; ErrRefused, ErrEngineAway.
func (e EngineClient) Prepare(ctx context.Context, c *Cluster, s Session, spark SparkID) error {
	if !s.HasSetup() {
		return nil
	}
	conn, err := e.connect(c)
	if err != nil {
		return err
	}
	defer conn.Close()
	p := preparation{
		session: s, spark: string(spark), user: &connect.UserContext{UserId: s.Owner},
		client: connect.NewSparkConnectServiceClient(conn),
	}
	return p.run(withToken(ctx, c))
}

// preparation is one Spark session that is being prepared.
type preparation struct {
	session Session
	spark   string
	user    *connect.UserContext
	client  connect.SparkConnectServiceClient
}

func (p *preparation) run(ctx context.Context) error {
	conf := p.session.Conf.Map()
	for _, key := range slices.Sorted(maps.Keys(conf)) { // one by one: the error must name its key
		if err := p.set(ctx, key, conf[key]); err != nil {
			return p.explain(fmt.Sprintf("conf %q", key), SecretName(key), err)
		}
	}
	if name := p.session.Catalog; name != "" {
		err := p.use(ctx, &connect.Catalog{CatType: &connect.Catalog_SetCurrentCatalog{
			SetCurrentCatalog: &connect.SetCurrentCatalog{CatalogName: name},
		}})
		if err != nil {
			return p.explain(fmt.Sprintf("catalog %q", name), false, err)
		}
	}
	if name := p.session.Database; name != "" {
		err := p.use(ctx, &connect.Catalog{CatType: &connect.Catalog_SetCurrentDatabase{
			SetCurrentDatabase: &connect.SetCurrentDatabase{DbName: quoted(name)},
		}})
		if err != nil {
			return p.explain(fmt.Sprintf("database %q", name), false, err)
		}
	}
	return nil
}

func (p *preparation) set(ctx context.Context, key, value string) error {
	_, err := p.client.Config(ctx, &connect.ConfigRequest{
		SessionId: p.spark, UserContext: p.user,
		Operation: &connect.ConfigRequest_Operation{OpType: &connect.ConfigRequest_Operation_Set{
			Set: &connect.ConfigRequest_Set{Pairs: []*connect.KeyValue{{Key: key, Value: &value}}},
		}},
	}, grpc.WaitForReady(true))
	return err
}

func (p *preparation) use(ctx context.Context, c *connect.Catalog) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answer, err := p.client.ExecutePlan(ctx, &connect.ExecutePlanRequest{
		SessionId: p.spark, UserContext: p.user,
		Plan: &connect.Plan{OpType: &connect.Plan_Root{Root: &connect.Relation{RelType: &connect.Relation_Catalog{Catalog: c}}}},
	}, grpc.WaitForReady(true))
	for err == nil {
		_, err = answer.Recv()
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// quoted puts those parts of a database's name between backticks that a parser
// would not take for an identifier. The name has no backtick.
func quoted(name string) string {
	parts := strings.Split(name, ".")
	for i, part := range parts {
		if strings.Contains(part, "-") || unicode.IsDigit(rune(part[0])) {
			parts[i] = "`" + part + "`"
		}
	}
	return strings.Join(parts, ".")
}

// explain tells an engine that said no from one that did not answer. What an
// engine says of a secret is not repeated, since it may hold the value.
func (p *preparation) explain(what string, secret bool, err error) error {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return fmt.Errorf("set %s of session %s: %w: %w", what, p.session.ID, ErrEngineAway, err)
	case codes.Unauthenticated, codes.PermissionDenied:
		return fmt.Errorf("set %s of session %s: %w: %w", what, p.session.ID, ErrRefused, err)
	}
	problem := firstLine(status.Convert(err).Message())
	if secret || problem == "" {
		problem = "the engine does not take it"
	}
	return &SetupError{Session: p.session.ID, Cluster: p.session.Cluster, What: what, Problem: problem}
}

// maxProblem is how much of an engine's words is repeated.
const maxProblem = 300

// firstLine is the first line of an engine's words with anything on it.
func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	line = strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case !unicode.IsPrint(r):
			return ' '
		case r == '`': // would read as a command in the middle of ours
			return '\''
		}
		return r
	}, line))
	if cut := []rune(line); len(cut) > maxProblem {
		line = string(cut[:maxProblem]) + "..."
	}
	return line
}

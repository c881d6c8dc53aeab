package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sconce-dev/sconce/proto/spark/connect"
)

// Programs that the scripts run besides sconce; TestMain makes this binary stand for them.

// fakeSail is `sail spark server --ip I --port P`. It serves until SIGINT, as
// Sail does; with FAKE_SAIL=broken it ends at once.
func fakeSail() {
	if os.Getenv("FAKE_SAIL") == "broken" {
		fmt.Fprintln(os.Stderr, "Error: no such catalog")
		os.Exit(3)
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(os.Args[4], os.Args[6]))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("Starting the Spark Connect server on %s...\n", ln.Addr())
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	_ = server.Serve(ln)
}

// fakePython is `python -c SCRIPT`: it prints where it was told to connect,
// without the token.
func fakePython() {
	if os.Getenv("FAKE_PYTHON") == "broken" {
		fmt.Fprintln(os.Stderr, "ModuleNotFoundError: No module named 'pyspark'")
		os.Exit(1)
	}
	c := os.Getenv("SPARK_REMOTE")
	fmt.Printf("connected to %.20s with a string of %d bytes\n", c, len(c))
}

// fakeEngine is `engine PORT`: a Spark Connect server that knows one catalog, lake.
// To SQL it answers the catalog that the Spark session is in, and its own process id.
func fakeEngine() {
	ln, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	server := grpc.NewServer()
	connect.RegisterSparkConnectServiceServer(server, &lakeEngine{catalogs: map[string]string{}})
	_ = server.Serve(ln)
}

type lakeEngine struct {
	connect.UnimplementedSparkConnectServiceServer
	mu       sync.Mutex
	catalogs map[string]string // by Spark session
}

func (e *lakeEngine) name() string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", os.Getpid()) }

func (e *lakeEngine) AnalyzePlan(_ context.Context, r *connect.AnalyzePlanRequest) (*connect.AnalyzePlanResponse, error) {
	return &connect.AnalyzePlanResponse{
		SessionId: r.GetSessionId(), ServerSideSessionId: e.name(),
		Result: &connect.AnalyzePlanResponse_SparkVersion_{SparkVersion: &connect.AnalyzePlanResponse_SparkVersion{Version: "4.3.0-lake"}},
	}, nil
}

func (e *lakeEngine) Config(_ context.Context, r *connect.ConfigRequest) (*connect.ConfigResponse, error) {
	return &connect.ConfigResponse{SessionId: r.GetSessionId(), ServerSideSessionId: e.name()}, nil
}

func (e *lakeEngine) ReleaseSession(_ context.Context, r *connect.ReleaseSessionRequest) (*connect.ReleaseSessionResponse, error) {
	return &connect.ReleaseSessionResponse{SessionId: r.GetSessionId(), ServerSideSessionId: e.name()}, nil
}

func (e *lakeEngine) ExecutePlan(r *connect.ExecutePlanRequest, s grpc.ServerStreamingServer[connect.ExecutePlanResponse]) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	answer := &connect.ExecutePlanResponse{SessionId: r.GetSessionId(), OperationId: r.GetOperationId(), ServerSideSessionId: e.name()}
	root := r.GetPlan().GetRoot()
	if set := root.GetCatalog().GetSetCurrentCatalog(); set != nil {
		if set.GetCatalogName() != "lake" {
			return status.Errorf(codes.NotFound, "there is no catalog %s", set.GetCatalogName())
		}
		e.catalogs[r.GetSessionId()] = set.GetCatalogName()
	}
	if root.GetSql() != nil {
		told := fmt.Sprintf("catalog %q of engine %d", e.catalogs[r.GetSessionId()], os.Getpid())
		answer.ResponseType = &connect.ExecutePlanResponse_ArrowBatch_{ArrowBatch: &connect.ExecutePlanResponse_ArrowBatch{RowCount: 1, Data: []byte(told)}}
	}
	return s.Send(answer)
}

// fakeClient is `tables SPARK_SESSION`: it runs SHOW TABLES in that Spark session, by
// the connection string in SPARK_REMOTE, and prints what the engine answers.
func fakeClient() {
	told, err := showTables(context.Background(), os.Getenv("SPARK_REMOTE"), os.Args[1])
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %s\n", status.Code(err), status.Convert(err).Message())
		os.Exit(1)
	}
	fmt.Println(told)
}

func showTables(ctx context.Context, remote, spark string) (string, error) {
	where, parameters, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(remote), "sc://"), "/;")
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(parameter, "=")
		value, err := url.PathUnescape(value)
		if err != nil {
			return "", err
		}
		if name == "token" {
			name, value = "authorization", "Bearer "+value
		}
		ctx = metadata.AppendToOutgoingContext(ctx, name, value)
	}
	conn, err := grpc.NewClient("passthrough:///"+where, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	answers, err := connect.NewSparkConnectServiceClient(conn).ExecutePlan(ctx, &connect.ExecutePlanRequest{
		SessionId: spark, UserContext: &connect.UserContext{UserId: "tables"},
		Plan: &connect.Plan{OpType: &connect.Plan_Root{Root: &connect.Relation{
			RelType: &connect.Relation_Sql{Sql: &connect.SQL{Query: "SHOW TABLES"}},
		}}},
	})
	var told strings.Builder
	for err == nil {
		var answer *connect.ExecutePlanResponse
		if answer, err = answers.Recv(); err == nil {
			told.Write(answer.GetArrowBatch().GetData())
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return told.String(), err
}

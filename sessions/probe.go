package sessions

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sconce-dev/sconce/proto/spark/connect"
)

// ErrRefused: the cluster answered, and will not have us whenever we ask.
var ErrRefused = errors.New("cluster refused")

// probeUser is who Sconce says it is when it asks for an engine's version.
const probeUser = "sconce-probe"

// EngineClient speaks Spark Connect to clusters on Sconce's own behalf. It is an
// Engine. Its zero value works; it keeps no connection.
type EngineClient struct {
	// Dial connects to host:port; nil = TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// Probe asks grpc.health.v1, which Sail serves, and where that is not served for
// the Spark version, in a Spark session of its own that is released afterwards.
func (e EngineClient) Probe(ctx context.Context, c *Cluster) error {
	conn, err := e.connect(c)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx = withToken(ctx, c)
	health, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	switch {
	case status.Code(err) == codes.Unimplemented:
		_, err := askVersion(ctx, c, conn)
		return err
	case err != nil:
		return probeError(c, err)
	case health.GetStatus() != healthpb.HealthCheckResponse_SERVING:
		return fmt.Errorf("cluster %s: health is %s", c.Name, health.GetStatus())
	}
	return nil
}

// Version implements Engine.
func (e EngineClient) Version(ctx context.Context, c *Cluster) (string, error) {
	conn, err := e.connect(c)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return askVersion(withToken(ctx, c), c, conn)
}

// forgetTimeout is how long an engine has to release the session of a question.
const forgetTimeout = time.Second

// askVersion is the question that every Apache Spark answers. The session id is
// fresh: a probe must not touch a user's session.
func askVersion(ctx context.Context, c *Cluster, conn *grpc.ClientConn) (string, error) {
	spark := connect.NewSparkConnectServiceClient(conn)
	id, user := uuid.NewString(), &connect.UserContext{UserId: probeUser}
	answer, err := spark.AnalyzePlan(ctx, &connect.AnalyzePlanRequest{
		SessionId: id, UserContext: user,
		Analyze: &connect.AnalyzePlanRequest_SparkVersion_{SparkVersion: &connect.AnalyzePlanRequest_SparkVersion{}},
	})
	if code := status.Code(err); code == codes.OK || code == codes.DeadlineExceeded || code == codes.Canceled {
		// Also where the answer is too late: the engine may have made the session.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), forgetTimeout)
		defer cancel()
		// The engine forgets it by itself in the end, should this fail.
		_, _ = spark.ReleaseSession(ctx, &connect.ReleaseSessionRequest{SessionId: id, UserContext: user})
	}
	if err != nil {
		return "", probeError(c, err)
	}
	return answer.GetSparkVersion().GetVersion(), nil
}

func probeError(c *Cluster, err error) error {
	switch status.Code(err) {
	case codes.Unauthenticated, codes.PermissionDenied:
		return fmt.Errorf("cluster %s: %w: %w", c.Name, ErrRefused, err)
	}
	return fmt.Errorf("cluster %s: %w", c.Name, err)
}

// Release releases each Spark session and returns what went wrong with any.
func (e EngineClient) Release(ctx context.Context, c *Cluster, user string, ids []SparkID) error {
	conn, err := e.connect(c)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx = withToken(ctx, c)
	spark := connect.NewSparkConnectServiceClient(conn)
	var failed []error
	for _, id := range ids {
		_, err := spark.ReleaseSession(ctx, &connect.ReleaseSessionRequest{
			SessionId: string(id), UserContext: &connect.UserContext{UserId: user},
		})
		if err != nil {
			failed = append(failed, fmt.Errorf("release spark session %s: %w", id, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failed...)
}

// connect makes a connection that dials when it is first used.
func (e EngineClient) connect(c *Cluster) (*grpc.ClientConn, error) {
	conf, err := c.TLSConfig()
	if err != nil {
		return nil, err
	}
	creds := insecure.NewCredentials()
	if conf != nil {
		creds = credentials.NewTLS(conf)
	}
	options := []grpc.DialOption{grpc.WithTransportCredentials(creds), grpc.WithNoProxy(), grpc.WithDisableServiceConfig()}
	if e.Dial != nil {
		options = append(options, grpc.WithContextDialer(e.Dial))
	}
	conn, err := grpc.NewClient("passthrough:///"+c.Address, options...)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", c.Name, err)
	}
	return conn, nil
}

func withToken(ctx context.Context, c *Cluster) context.Context {
	if c.Token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.Token)
}

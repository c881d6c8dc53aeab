package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	sconcev1 "github.com/sconce-dev/sconce/proto/sconce/v1"
)

// client is how the client commands reach a gateway.
type client struct {
	app       *app
	endpoint  string // host:port
	tokenFile string // "-" = standard input
	ca        string // PEM file
	cert, key string // PEM files of a client certificate, "" = none
	secure    bool   // TLS also to this machine
	timeout   time.Duration
}

// defaultEndpoint is where a gateway on this machine listens.
const defaultEndpoint = "localhost:8085"

const (
	// callTimeout is how long a call may take by itself.
	callTimeout = time.Minute
	// engineTimeout is the same of a call that waits for an engine to start. It is how
	// long the gateway gives that (WakerConfig.Timeout).
	engineTimeout = 5 * time.Minute
)

// newClient adds the flags of a client whose calls may take that long.
func (a *app) newClient(cmd *cobra.Command, timeout time.Duration) *client {
	c := &client{app: a}
	f := cmd.Flags()
	f.StringVar(&c.endpoint, "endpoint", "", "host:port of the gateway (default: $SCONCE_ENDPOINT, the running `sconce dev`, or "+defaultEndpoint+")")
	f.StringVar(&c.tokenFile, "token-file", "", "file with a control token, an API key or an OIDC token, - for standard input (default: $SCONCE_TOKEN, or the running `sconce dev`'s)")
	f.StringVar(&c.ca, "ca", "", "PEM file of the authority to believe (default: the system's)")
	f.StringVar(&c.cert, "cert", "", "PEM file of a client certificate, where the gateway asks for one (tls.client_auth)")
	f.StringVar(&c.key, "key", "", "PEM file of its key")
	f.BoolVar(&c.secure, "tls", false, "speak TLS also to this machine; to any other it is always spoken")
	f.DurationVar(&c.timeout, "timeout", timeout, "how long the call may take")
	// A word in backquotes would be taken for the name of the flag's value.
	for _, name := range []string{"endpoint", "token-file"} {
		f.Lookup(name).Usage = strings.ReplaceAll(f.Lookup(name).Usage, "`", "'")
	}
	return c
}

// do is call, ended by the first signal.
func (c *client) do(ctx context.Context, call func(context.Context, sconcev1.SessionServiceClient) error) error {
	return do(ctx, c, sconcev1.NewSessionServiceClient, call)
}

// doKeys is do for calls about API keys.
func (c *client) doKeys(ctx context.Context, call func(context.Context, sconcev1.KeyServiceClient) error) error {
	return do(ctx, c, sconcev1.NewKeyServiceClient, call)
}

// doClusters is do for calls about clusters.
func (c *client) doClusters(ctx context.Context, call func(context.Context, sconcev1.ClusterServiceClient) error) error {
	return do(ctx, c, sconcev1.NewClusterServiceClient, call)
}

// do calls a service of the gateway, until the first signal.
func do[S any](ctx context.Context, c *client, of func(grpc.ClientConnInterface) S, call func(context.Context, S) error) error {
	ctx, cancel := c.app.interruptible(ctx)
	defer cancel()
	return cause(ctx, c.connect(ctx, func(ctx context.Context, conn grpc.ClientConnInterface) error { return call(ctx, of(conn)) }))
}

// call connects, calls, and words what went wrong.
func (c *client) call(ctx context.Context, call func(context.Context, sconcev1.SessionServiceClient) error) error {
	return c.connect(ctx, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		return call(ctx, sconcev1.NewSessionServiceClient(conn))
	})
}

// connect is call for any of the gateway's services.
func (c *client) connect(ctx context.Context, call func(context.Context, grpc.ClientConnInterface) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	endpoint, err := c.address()
	if err != nil {
		return err
	}
	token, err := c.token()
	if err != nil {
		return err
	}
	creds, err := c.credentials(endpoint)
	if err != nil {
		return err
	}
	conn, err := grpc.NewClient("dns:///"+endpoint, grpc.WithTransportCredentials(creds), grpc.WithUserAgent("sconce/"+versionText()))
	if err != nil {
		return usageError{fmt.Errorf("--endpoint %s: %w", endpoint, err)}
	}
	defer conn.Close()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	return c.explain(endpoint, call(ctx, conn))
}

// explain turns a status into a sentence. Those of the gateway already are.
func (c *client) explain(endpoint string, err error) error {
	st, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	switch {
	case len(st.Details()) > 0:
		return errors.New(st.Message())
	case st.Code() == codes.DeadlineExceeded:
		return fmt.Errorf("no answer from %s within %s: is the gateway running there? Name another with --endpoint, or wait longer with --timeout", endpoint, c.timeout)
	default: // not from Sconce: the connection
		return fmt.Errorf("no answer from %s: %s: is the gateway running there? Name another with --endpoint", endpoint, st.Message())
	}
}

func (c *client) address() (string, error) {
	endpoint := c.endpoint
	for _, find := range []func() (string, error){
		func() (string, error) { return c.app.env("SCONCE_ENDPOINT"), nil },
		func() (string, error) { return c.app.stateDir().read(stateEndpoint) },
		func() (string, error) { return defaultEndpoint, nil },
	} {
		if endpoint != "" {
			break
		}
		var err error
		if endpoint, err = find(); err != nil {
			return "", err
		}
	}
	if _, _, err := net.SplitHostPort(endpoint); err != nil {
		return "", usageError{fmt.Errorf("--endpoint %q: write host:port, such as %s", endpoint, defaultEndpoint)}
	}
	return endpoint, nil
}

var errNoToken = errors.New("no control token: put one, an API key or an OIDC token into SCONCE_TOKEN or name its file with --token-file; " +
	"`sconce token control` makes one, and a running `sconce dev` leaves one in .sconce")

func (c *client) token() (string, error) {
	var token string
	var err error
	switch {
	case c.tokenFile == "-":
		var b []byte
		b, err = io.ReadAll(io.LimitReader(c.app.stdin, 64<<10))
		token = string(b)
	case c.tokenFile != "":
		var b []byte
		b, err = os.ReadFile(c.tokenFile)
		token = string(b)
	default:
		if token = c.app.env("SCONCE_TOKEN"); token == "" {
			token, err = c.app.stateDir().read(stateControl)
		}
	}
	if err != nil {
		return "", fmt.Errorf("read the control token: %w: name its file with --token-file", err)
	}
	if token = strings.TrimSpace(token); token == "" {
		return "", usageError{errNoToken}
	}
	return token, nil
}

// credentials are plaintext to this machine, unless TLS was asked for, and TLS
// to any other: a token never crosses a network in the clear.
func (c *client) credentials(endpoint string) (credentials.TransportCredentials, error) {
	host, _, _ := net.SplitHostPort(endpoint)
	if !c.secure && c.ca == "" && c.cert == "" && c.key == "" && isLoopback(host) {
		return insecure.NewCredentials(), nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.ca != "" {
		pem, err := os.ReadFile(c.ca)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, usageError{fmt.Errorf("--ca %s: no certificate in it: name a PEM file", c.ca)}
		}
	}
	if c.cert != "" || c.key != "" {
		pair, err := tls.LoadX509KeyPair(c.cert, c.key)
		if err != nil {
			return nil, usageError{fmt.Errorf("--cert and --key: %w: name the PEM files of a certificate and its key", err)}
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return credentials.NewTLS(conf), nil
}

func isLoopback(host string) bool {
	return strings.EqualFold(host, "localhost") || net.ParseIP(host).IsLoopback()
}

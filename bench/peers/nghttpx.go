package peers

import (
	"fmt"
	"strings"
)

// nghttpx: HTTP/2 on both sides, two workers.
func nghttpx() Peer {
	return Peer{
		Name:    "nghttpx",
		Version: func() (string, error) { return found("nghttpx", debian("nghttp2-proxy"), "--version") },
		Command: func(s Setup) ([]string, error) {
			args := []string{
				"nghttpx",
				"--conf=/dev/null",
				"--accesslog-file=/dev/null",
				"--errorlog-file=/dev/stderr",
				"--log-level=ERROR",
				"--workers=2",
				"--no-ocsp",
				"--frontend-http2-window-size=1M",
				"--frontend-http2-connection-window-size=16M",
				"--backend-http2-window-size=1M",
				"--backend-http2-connection-window-size=16M",
				"--frontend-http2-max-concurrent-streams=1000",
				"--frontend-http2-read-timeout=600",
				"--frontend-write-timeout=600",
				"--backend-read-timeout=600",
				"--backend-write-timeout=600",
				"--stream-read-timeout=600",
				"--stream-write-timeout=600",
				"--backend=" + strings.Replace(s.Backend, ":", ",", 1) + ";;proto=h2",
			}
			front := fmt.Sprintf("--frontend=127.0.0.1,%d", s.Port)
			if s.TLS == nil {
				return append(args, front+";no-tls"), nil
			}
			return append(args, front, "--tls13-ciphers="+tlsSuite, s.TLS.Key, s.TLS.Cert), nil
		},
	}
}

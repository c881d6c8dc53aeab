package peers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// haproxy: HTTP/2 on both sides, two threads.
func haproxy() Peer {
	return Peer{
		Name:    "haproxy",
		Version: func() (string, error) { return found("haproxy", debian("haproxy"), "-v") },
		Remark:  haproxyRemark(),
		Command: func(s Setup) ([]string, error) {
			path := filepath.Join(s.Dir, "haproxy.cfg")
			if err := os.WriteFile(path, []byte(haproxySettings(s)), 0o600); err != nil {
				return nil, err
			}
			return []string{"haproxy", "-db", "-f", path}, nil
		},
	}
}

// haproxyRemark names the fault of versions before 2.9.1 that the content
// checks may meet: trailers are taken while data is still in the receive buffer.
func haproxyRemark() string {
	v, err := found("haproxy", "", "-v")
	if err == nil && strings.Contains(v, "version 2.6") {
		return "2.6 loses the data before trailers (haproxy issue 2388, fixed in 2.9.1)"
	}
	return ""
}

func haproxySettings(s Setup) string {
	bind := fmt.Sprintf("bind %s proto h2", loopback(s.Port))
	if s.TLS != nil {
		bind = fmt.Sprintf("bind %s ssl crt %s alpn h2 ssl-min-ver TLSv1.3 ciphersuites %s",
			loopback(s.Port), s.TLS.Both, tlsSuite)
	}
	return fmt.Sprintf(`global
  nbthread 2
  maxconn 9900
  tune.bufsize 32768
  tune.h2.initial-window-size 1048576
  tune.h2.max-concurrent-streams 1000
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  timeout http-request 600s
  http-reuse always
frontend front
  %s
  maxconn 9900
  default_backend back
backend back
  server s1 %s proto h2
`, bind, s.Backend)
}

package openid

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
	"go.uber.org/zap"
)

// maxAnswer is the longest document that is read. Real ones have a few KiB.
const maxAnswer = 1 << 20

// refetch finds out where the keys are, if it must, and takes them. Discovery is
// repeated each time: an issuer may move its keys.
func (i *Issuer) refetch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, i.Timeout)
	defer cancel()
	where := i.JWKS
	if where == "" {
		var err error
		if where, err = i.discover(ctx); err != nil {
			return err
		}
	}
	body, err := i.get(ctx, where)
	if err != nil {
		return err
	}
	passedOver, err := i.keys.Replace(body)
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	if passedOver > 0 {
		i.Logger.Debug("keys that sign no tokens here were passed over", zap.Int("keys", passedOver))
	}
	return nil
}

// discover asks the issuer where its keys are. go-oidc sees to it that the
// document is that issuer's.
func (i *Issuer) discover(ctx context.Context) (string, error) {
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, i.client), i.Issuer)
	if err != nil {
		return "", fmt.Errorf("discovery: %w", err)
	}
	var doc struct {
		JWKS string `json:"jwks_uri"`
	}
	if err := provider.Claims(&doc); err != nil {
		return "", fmt.Errorf("discovery: %w", err)
	}
	if err := CheckURL(doc.JWKS); err != nil {
		return "", fmt.Errorf("discovery: jwks_uri %.200q %w", doc.JWKS, err)
	}
	return doc.JWKS, nil
}

func (i *Issuer) get(ctx context.Context, where string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return nil, err
	}
	resp, err := i.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	return body, nil
}

// CheckURL says what keeps a URL from being one whose answer can be believed.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return errors.New("is no URL: write https://host/path")
	case u.User != nil || u.Fragment != "":
		return errors.New("has a user or a fragment: write https://host/path")
	case u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	}
	return errors.New("is not https: only an issuer on this machine may be asked in plaintext")
}

func isLoopback(host string) bool {
	return strings.EqualFold(host, "localhost") || net.ParseIP(host).IsLoopback()
}

// strict is a transport that takes one kind of answer: 200, at most maxAnswer
// bytes. A redirect is none: where keys come from is what the operator and the
// issuer's own document say.
type strict struct{ http.RoundTripper }

func (s strict) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := s.RoundTripper.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("it answered %d, not 200 (redirects are not followed)", resp.StatusCode)
	}
	resp.Body = &bounded{ReadCloser: resp.Body, left: maxAnswer}
	return resp, nil
}

// CloseIdleConnections is passed on by http.Client.
func (s strict) CloseIdleConnections() {
	if t, ok := s.RoundTripper.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// bounded is a body that fails past its bound.
type bounded struct {
	io.ReadCloser
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	return n, err
}

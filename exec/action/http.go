package action

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node/fleet"
)

// Patience with servers.
const (
	maxRedirects  = 10
	fetchAttempts = 4
	// firstPause is the wait before the second attempt, doubled for each later one; longestPause bounds what a server's
	// Retry-After may ask for.
	firstPause   = time.Second
	longestPause = 30 * time.Second
	// silence is how long a server may send nothing.
	silence = time.Minute
)

// asking is a GET, with what goes to its own host only.
type asking struct {
	url      *url.URL
	header   http.Header // credentials among it
	insecure bool        // plain http is allowed, also for where it is redirected to
}

// fromHTTP downloads one file.
func (h host) fromHTTP(ctx context.Context, in document.SourceInfo, to destination) error {
	a, err := httpAsking(in)
	if err != nil {
		return err
	}
	if err := checkSHA(in.SHA256); err != nil {
		return err
	}
	path, err := to.file(a.url.Path)
	if err != nil {
		return err
	}
	return h.trying(ctx, func() error {
		resp, err := h.get(ctx, a)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		n, err := write(ctx, path, resp.Body, resp.ContentLength, in.SHA256)
		if err == nil {
			h.brought(path, n)
		}
		return err
	})
}

// httpAsking reads the inputs of an HTTP download.
func httpAsking(in document.SourceInfo) (asking, error) {
	a, err := askFor(in.URL, in.AllowInsecureDownload)
	if err != nil {
		return asking{}, err
	}
	user, password := in.Username, in.Password
	if u := a.url.User; u != nil && user == "" {
		user = u.Username()
		password, _ = u.Password()
	}
	a.url.User = nil
	switch strings.ToLower(in.AuthMethod) {
	case "", "none":
		if in.Username != "" || in.Password != "" {
			return asking{}, fleet.Errorf(fleet.Invalid, "sourceInfo has a user name or password and no authMethod").Hinted(`"authMethod": "Basic"`)
		}
		if user != "" {
			a.header.Set("Authorization", basic(user, password))
		}
	case "basic":
		a.header.Set("Authorization", basic(user, password))
	case "digest":
		return asking{}, fleet.Errorf(fleet.Unavailable, "not built yet: authMethod Digest is not there in this version").Hinted(`"authMethod": "Basic", over https`)
	default:
		return asking{}, fleet.Errorf(fleet.Invalid, "there is no authMethod %q", in.AuthMethod).Hinted("None or Basic")
	}
	return a, nil
}

func basic(user, password string) string {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(user, password)
	return r.Header.Get("Authorization")
}

// askFor checks a URL. Errors repeat none of it but scheme and host: the rest may be secret.
func askFor(text string, insecure bool) (asking, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "":
		return asking{}, fleet.Errorf(fleet.Invalid, "the url is none").Hinted("https://HOST/PATH")
	case u.Scheme != "http" && u.Scheme != "https":
		return asking{}, fleet.Errorf(fleet.Invalid, "the url begins with %s, not https", u.Scheme)
	case u.Scheme == "http" && !insecure:
		return asking{}, notEncrypted(u)
	}
	return asking{url: u, header: http.Header{"User-Agent": {"muster"}}, insecure: insecure}, nil
}

func notEncrypted(u *url.URL) error {
	return fleet.Errorf(fleet.Denied, "http://%s is not encrypted", u.Host).Hinted(`https, or "allowInsecureDownload": true, better with "sha256"`)
}

func checkSHA(text string) error {
	if raw, err := hex.DecodeString(text); text != "" && (err != nil || len(raw) != 32) {
		return fleet.Errorf(fleet.Invalid, "sha256 is not 64 hexadecimal digits")
	}
	return nil
}

// shown returns a URL without what may be secret in it: user, password, query and fragment.
func shown(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// trying does something again as long as it fails for a reason that passes.
func (h host) trying(ctx context.Context, do func() error) error {
	for n := 0; ; n++ {
		err := do()
		if err == nil || n == fetchAttempts-1 || fleet.KindOf(err) != fleet.Unavailable || ctx.Err() != nil {
			return err
		}
		d := firstPause << n
		if w, ok := errors.AsType[*waitError](err); ok {
			d = max(d, w.after)
		}
		h.say("%s; trying again in %s", oneLine(err.Error()), d)
		if h.pause(ctx, d) != nil {
			return err
		}
	}
}

// waitError carries a server's Retry-After.
type waitError struct {
	why   *fleet.Error
	after time.Duration
}

func (w *waitError) Error() string { return w.why.Error() }

func (w *waitError) Unwrap() error { return w.why }

// get asks once. The answer is a success; whoever closes its body also ends the watch over its silence.
func (h host) get(ctx context.Context, a asking) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	req := (&http.Request{Method: http.MethodGet, URL: a.url, Host: a.url.Host, Header: a.header.Clone()}).WithContext(ctx)
	client := http.Client{Transport: h.transport(), CheckRedirect: a.redirect}
	resp, err := client.Do(req)
	if err != nil {
		cancel(nil)
		client.CloseIdleConnections()
		return nil, noAnswer(a.url, err)
	}
	resp.Body = &watched{body: resp.Body, cancel: cancel, timer: time.AfterFunc(silence, func() { cancel(errSilent(resp.Request.URL)) }), ctx: ctx, client: &client}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, badStatus(resp)
}

// transport returns how servers are reached: by the proxy of the run's environment, and without unpacking what a server
// packs, so that sizes and digests are those of what was published.
func (h host) transport() http.RoundTripper {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    30 * time.Second,
		ResponseHeaderTimeout:  silence,
		MaxResponseHeaderBytes: 256 << 10,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
	}
}

// redirect lets a server send elsewhere, a bounded number of times. What is for one host goes to no other; Referer would
// carry the query along.
func (a asking) redirect(req *http.Request, via []*http.Request) error {
	req.Header.Del("Referer")
	switch {
	case len(via) > maxRedirects:
		return fleet.Errorf(fleet.Invalid, "more than %d redirects", maxRedirects)
	case req.URL.Scheme != "https" && !(req.URL.Scheme == "http" && a.insecure):
		return fleet.Errorf(fleet.Denied, "redirected to %s://%s, which is not encrypted", req.URL.Scheme, req.URL.Host).Hinted(`"allowInsecureDownload": true`)
	case req.URL.Host != a.url.Host || req.URL.Scheme != a.url.Scheme:
		req.Header.Del("Authorization")
	}
	return nil
}

// noAnswer says why nothing came back. net/http's own error would print the whole URL.
func noAnswer(u *url.URL, err error) error {
	if fe, ok := errors.AsType[*fleet.Error](err); ok {
		return &fleet.Error{Kind: fe.Kind, What: shown(u) + ": " + fe.What, Hint: fe.Hint}
	}
	for {
		ue, ok := err.(*url.Error)
		if !ok {
			break
		}
		err = ue.Err
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fleet.Errorf(fleet.Denied, "%s: %w", shown(u), err)
	}
	return fleet.Errorf(fleet.Unavailable, "no answer from %s: %w", shown(u), err)
}

func badStatus(resp *http.Response) error {
	what := shown(resp.Request.URL) + ": " + oneLine(resp.Status)
	switch code := resp.StatusCode; {
	case code == http.StatusNotFound || code == http.StatusGone:
		return fleet.Errorf(fleet.NotFound, "%s", what)
	case code == http.StatusUnauthorized || code == http.StatusForbidden || code == http.StatusProxyAuthRequired:
		return fleet.Errorf(fleet.Denied, "%s", what)
	case code == http.StatusRequestTimeout || code == http.StatusTooManyRequests || code >= 500:
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After")) // a date, or nothing: our own pause will do
		return &waitError{fleet.Errorf(fleet.Unavailable, "%s", what), min(time.Duration(max(seconds, 0))*time.Second, longestPause)}
	}
	return fleet.Errorf(fleet.Invalid, "%s", what)
}

func errSilent(u *url.URL) error {
	return fleet.Errorf(fleet.Unavailable, "%s has sent nothing for %s", shown(u), silence)
}

// watched is a body whose server may not fall silent.
type watched struct {
	body interface {
		Read([]byte) (int, error)
		Close() error
	}
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	client *http.Client
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.body.Read(p)
	if n > 0 {
		w.timer.Reset(silence)
	}
	if err != nil && context.Cause(w.ctx) != nil {
		err = context.Cause(w.ctx)
	}
	return n, err
}

func (w *watched) Close() error {
	w.timer.Stop()
	w.cancel(nil)
	err := w.body.Close()
	w.client.CloseIdleConnections()
	return err
}

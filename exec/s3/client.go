package s3

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/muster-fleet/muster/node/fleet"
)

// Limits of requests.
const (
	// MaxPut is the biggest object that one PUT can make, in bytes: S3's limit.
	MaxPut = 5 << 30
	// attempts is how often a request is sent before it counts as failed.
	attempts = 5
	// firstPause is the wait before the second attempt; each later one is twice as long, up to longestPause.
	firstPause   = 250 * time.Millisecond
	longestPause = 15 * time.Second
	// maxError bounds what is read of an error's body, maxListing of one page of a listing, in bytes. S3's pages have at
	// most 1000 keys of 1024 bytes.
	maxError   = 64 << 10
	maxListing = 8 << 20
)

// emptyHash is the SHA-256 of no bytes.
const emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// Client asks a store. It is safe for concurrent use.
type Client struct {
	HTTP        *http.Client // its redirects are not followed
	Credentials Credentials
	Now         func() time.Time
	// Pause waits between attempts and returns the context's error if it ends first; nil: a timer.
	Pause func(context.Context, time.Duration) error
}

// Object is what Get found. The caller closes Body.
type Object struct {
	Body io.ReadCloser
	Size int64 // -1: the store does not say
}

// Item is one object of a listing.
type Item struct {
	Key  string
	Size int64
}

// Get asks for an object. fleet.NotFound: there is none. The body that follows may still be cut short; it says so by
// io.ErrUnexpectedEOF.
func (c *Client) Get(ctx context.Context, p Place) (Object, error) {
	resp, err := c.send(ctx, http.MethodGet, p, "", body{hash: emptyHash})
	if err != nil {
		return Object{}, err
	}
	return Object{resp.Body, resp.ContentLength}, nil
}

// List returns the objects below a place, at most limit: more are fleet.Exhausted.
func (c *Client) List(ctx context.Context, p Place, limit int) ([]Item, error) {
	var items []Item
	for token := ""; ; {
		page, err := c.page(ctx, p, token)
		if err != nil {
			return nil, err
		}
		for _, o := range page.Contents {
			items = append(items, Item(o))
		}
		if len(items) > limit {
			return nil, fleet.Errorf(fleet.Exhausted, "%s holds more than %d objects", p, limit)
		}
		if !page.IsTruncated {
			return items, nil
		}
		if token = page.NextContinuationToken; token == "" {
			return nil, fleet.Errorf(fleet.Unavailable, "%s: the store breaks off its list of %s", p.Endpoint, p)
		}
	}
}

// listing is a page of ListObjectsV2, as far as it is of use.
type listing struct {
	Contents []struct {
		Key  string
		Size int64
	}
	IsTruncated           bool
	NextContinuationToken string
}

func (c *Client) page(ctx context.Context, p Place, token string) (listing, error) {
	q := url.Values{"list-type": {"2"}, "prefix": {p.Key}}
	if token != "" {
		q.Set("continuation-token", token)
	}
	bucket := p
	bucket.Key = ""
	// Signatures want %20 for a space, where Encode writes +.
	resp, err := c.send(ctx, http.MethodGet, bucket, strings.ReplaceAll(q.Encode(), "+", "%20"), body{hash: emptyHash})
	if err != nil {
		return listing{}, err
	}
	defer resp.Body.Close()
	var l listing
	if err := xml.NewDecoder(io.LimitReader(resp.Body, maxListing)).Decode(&l); err != nil {
		return listing{}, fleet.Errorf(fleet.Unavailable, "%s: the list of %s cannot be read: %w", p.Endpoint, p, err)
	}
	return l, nil
}

// Put writes an object of size bytes. open is called once for the hash and once per attempt; what it returns may be longer
// than size, and what is behind stays out.
func (c *Client) Put(ctx context.Context, p Place, size int64, open func() (io.ReadCloser, error)) error {
	if size > MaxPut {
		return fleet.Errorf(fleet.Exhausted, "%d bytes for %s; one object takes at most %d", size, p, int64(MaxPut))
	}
	sum, err := hash(open, size)
	if err != nil {
		return err
	}
	resp, err := c.send(ctx, http.MethodPut, p, "", body{open: open, size: size, hash: sum})
	if err != nil {
		return err
	}
	io.Copy(io.Discard, io.LimitReader(resp.Body, maxError)) // so that the connection can be used again
	return resp.Body.Close()
}

func hash(open func() (io.ReadCloser, error), size int64) (string, error) {
	f, err := open()
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyN(h, f, size); err != nil {
		return "", fleet.Errorf(fleet.Unavailable, "what is to be sent cannot be read: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// body is what a request carries.
type body struct {
	open func() (io.ReadCloser, error) // nil: nothing
	size int64
	hash string
}

// send sends a request until it is answered for good. The caller closes the answer's body.
func (c *Client) send(ctx context.Context, method string, p Place, query string, b body) (*http.Response, error) {
	for n := 1; ; n++ {
		resp, err := c.once(ctx, method, p, query, b)
		if err == nil || n == attempts || !passing(err) || ctx.Err() != nil {
			return resp, err
		}
		if c.pause(ctx, n) != nil {
			return nil, err
		}
	}
}

func (c *Client) pause(ctx context.Context, n int) error {
	d := min(firstPause<<(n-1), longestPause)
	d = d/2 + rand.N(d) // so that a fleet that failed together does not come back together
	if c.Pause != nil {
		return c.Pause(ctx, d)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func passing(err error) bool { return fleet.KindOf(err) == fleet.Unavailable }

func (c *Client) once(ctx context.Context, method string, p Place, query string, b body) (*http.Response, error) {
	u, err := p.url(query)
	if err != nil {
		return nil, err
	}
	req := (&http.Request{Method: method, URL: u, Host: u.Host, Header: http.Header{"User-Agent": {"muster"}}}).WithContext(ctx)
	if b.open != nil {
		f, err := b.open()
		if err != nil {
			return nil, err
		}
		req.Body, req.ContentLength = limited{io.LimitReader(f, b.size), f}, b.size
		if b.size == 0 { // a body of unknown length otherwise
			f.Close()
			req.Body = http.NoBody
		}
	}
	if c.Credentials.KeyID != "" {
		if err := c.sign(ctx, req, p, b.hash); err != nil {
			return nil, err
		}
	}
	client := *c.HTTP
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	if err != nil {
		return nil, unreachable(ctx, p, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, refused(p, resp)
}

// limited is a body that ends where its Content-Length says.
type limited struct {
	io.Reader
	io.Closer
}

func (c *Client) sign(ctx context.Context, req *http.Request, p Place, hash string) error {
	req.Header.Set("X-Amz-Content-Sha256", hash)
	// S3 alone of Amazon's services signs the path as it is sent, escaped once.
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	if err := signer.SignHTTP(ctx, c.Credentials.aws(), req, hash, "s3", p.Region, c.Now()); err != nil {
		return fleet.Errorf(fleet.Internal, "the request for %s cannot be signed: %w", p, err)
	}
	return nil
}

// unreachable says why nothing came back, without the URL: net/http would print its query.
func unreachable(ctx context.Context, p Place, err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err
	}
	kind := fleet.Unavailable
	if ctx.Err() != nil {
		kind = fleet.Expired
	}
	return fleet.Errorf(kind, "no answer from %s for %s: %w", p.Endpoint, p, err)
}

// refused turns an answer that is no success into an error for people.
func refused(p Place, resp *http.Response) error {
	var said struct{ Code, Message string }
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxError)) // what cannot be read cannot be quoted
	if xml.Unmarshal(text, &said) != nil {
		said.Code, said.Message = "", ""
	}
	what := fmt.Sprintf("%s: %s: status %d", p.Endpoint, p, resp.StatusCode)
	if said.Code != "" {
		what += ", " + clean(said.Code) + ": " + clean(said.Message)
	}
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return fleet.Errorf(fleet.NotFound, "%s", what)
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return fleet.Errorf(fleet.Denied, "%s", what).Hinted("check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or the shared credentials file, the bucket's policy and the clock")
	case resp.StatusCode/100 == 3:
		if region := resp.Header.Get("X-Amz-Bucket-Region"); regionName.MatchString(region) && region != p.Region {
			return fleet.Errorf(fleet.Invalid, "the bucket %s is in region %s, not %s", p.Bucket, region, p.Region)
		}
		return fleet.Errorf(fleet.Invalid, "%s: the store sends elsewhere, which signed requests do not follow", what)
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusRequestTimeout || resp.StatusCode >= 500:
		return fleet.Errorf(fleet.Unavailable, "%s", what)
	}
	return fleet.Errorf(fleet.Invalid, "%s", what)
}

// clean keeps what a store says to one printable line of bounded length.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	if r := []rune(s); len(r) > 200 {
		s = string(r[:200]) + "…"
	}
	return strings.TrimSpace(s)
}

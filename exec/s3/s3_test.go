package s3

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/exec/s3/s3test"
	"github.com/muster-fleet/muster/node/fleet"
)

func TestParse(t *testing.T) {
	ours := Defaults{Endpoint: "http://127.0.0.1:9000", Region: "fleet-1"}
	for _, c := range []struct {
		text string
		d    Defaults
		want Place
	}{
		{"s3://logs/a/b.txt", Defaults{}, Place{"https://s3.us-east-1.amazonaws.com", "us-east-1", "logs", "a/b.txt"}},
		{"s3://logs/a/b.txt", Defaults{Region: "eu-west-1"}, Place{"https://s3.eu-west-1.amazonaws.com", "eu-west-1", "logs", "a/b.txt"}},
		{"s3://logs/a/b.txt", ours, Place{"http://127.0.0.1:9000", "fleet-1", "logs", "a/b.txt"}},
		{"s3://logs/a?endpoint=https://minio:9000/&region=x-1", ours, Place{"https://minio:9000", "x-1", "logs", "a"}},
		{"s3://logs", ours, Place{"http://127.0.0.1:9000", "fleet-1", "logs", ""}},
		{"https://s3.amazonaws.com/logs/a/b", ours, Place{"https://s3.fleet-1.amazonaws.com", "fleet-1", "logs", "a/b"}},
		{"https://s3-eu-west-1.amazonaws.com/logs/a/b", Defaults{}, Place{"https://s3.eu-west-1.amazonaws.com", "eu-west-1", "logs", "a/b"}},
		{"https://my.logs.s3.eu-west-1.amazonaws.com/a%20b/c", Defaults{}, Place{"https://s3.eu-west-1.amazonaws.com", "eu-west-1", "my.logs", "a b/c"}},
		{"https://logs.s3.cn-north-1.amazonaws.com.cn/a", Defaults{}, Place{"https://s3.cn-north-1.amazonaws.com.cn", "cn-north-1", "logs", "a"}},
		{"https://minio.example:9000/logs/a", ours, Place{"https://minio.example:9000", "fleet-1", "logs", "a"}},
		{"https://s3.amazonaws.com.example.org/logs/a", Defaults{}, Place{"https://s3.amazonaws.com.example.org", "us-east-1", "logs", "a"}},
	} {
		got, err := Parse(c.text, c.d)
		if err != nil || got != c.want {
			t.Errorf("%s: got %+v, %v", c.text, got, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                                 "begins with s3://",
		"/var/log":                         "begins with s3://",
		"s3://":                            "no name of a bucket",
		"s3://a b/":                        "no URL",
		"s3://..%2f/x":                     "no URL",
		"s3://-x/y":                        "no name of a bucket",
		"s3://logs/x?acl=public":           `not "acl"`,
		"s3://logs/x?endpoint=ftp://h":     "no http or https",
		"s3://logs/x?endpoint=https://h/p": "nothing more",
		"s3://logs/x?region=EU":            "is no region",
		"s3://logs/x?endpoint=https://u:hunter2@h": "nothing more",
		"s3://u:hunter2@logs/x":                    "holds a user name",
		"https://h/logs/x?X-Amz-Signature=hunt":    "nothing behind ?",
		"s3://logs/" + strings.Repeat("k", 2000):   "at most 1024",
	} {
		_, err := Parse(text, Defaults{})
		if err == nil || !strings.Contains(err.Error(), want) || fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("%s: got %v, wanted %q", text, err, want)
		} else if strings.Contains(err.Error(), "hunt") {
			t.Errorf("%s: the error tells a secret: %v", text, err)
		}
	}
}

func TestFindCredentials(t *testing.T) {
	home := t.TempDir()
	file := filepath.Join(home, ".aws", "credentials")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	text := "# ours\n[default]\naws_access_key_id = AK1\naws_secret_access_key=S=1==\n\n[ci]\r\naws_access_key_id=AK2\naws_secret_access_key=S2\naws_session_token=T2\n[half]\naws_access_key_id=AK3\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		env  map[string]string
		want Credentials
		err  string
	}{
		{map[string]string{}, Credentials{}, ""},
		{map[string]string{"HOME": home + "/none"}, Credentials{}, ""},
		{map[string]string{"HOME": home}, Credentials{"AK1", "S=1==", ""}, ""},
		{map[string]string{"HOME": home, "AWS_PROFILE": "ci"}, Credentials{"AK2", "S2", "T2"}, ""},
		{map[string]string{"AWS_SHARED_CREDENTIALS_FILE": file}, Credentials{"AK1", "S=1==", ""}, ""},
		{map[string]string{"HOME": home, "AWS_PROFILE": "half"}, Credentials{}, `no keys for the profile "half"`},
		{map[string]string{"HOME": home, "AWS_PROFILE": "none"}, Credentials{}, `no keys for the profile "none"`},
		{map[string]string{"AWS_SHARED_CREDENTIALS_FILE": home + "/none"}, Credentials{}, "no such file"},
		{map[string]string{"HOME": home, "AWS_ACCESS_KEY_ID": "E", "AWS_SECRET_ACCESS_KEY": "ES", "AWS_SESSION_TOKEN": "ET"}, Credentials{"E", "ES", "ET"}, ""},
		{map[string]string{"HOME": home, "AWS_ACCESS_KEY_ID": "E"}, Credentials{}, "only one is set"},
	} {
		got, err := FindCredentials(func(name string) string { return c.env[name] })
		if got != c.want || (err == nil) != (c.err == "") || (err != nil && !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%v: got %#v, %v", c.env, got, err)
		}
	}
}

func TestCredentialsDoNotPrintTheirSecret(t *testing.T) {
	c := Credentials{"AK", "hunter2", "token2"}
	for _, f := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(f, c); strings.Contains(text, "hunter2") || strings.Contains(text, "token2") {
			t.Errorf("%s prints %s", f, text)
		}
	}
}

func client(s *s3test.Store) (*Client, Place) {
	return &Client{HTTP: http.DefaultClient, Credentials: Credentials{KeyID: s3test.KeyID, Secret: s3test.Secret}, Now: time.Now,
		Pause: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }}, Place{s.URL, s3test.Region, "logs", ""}
}

func reopen(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

func TestPutGetListWithAnyKey(t *testing.T) {
	s := s3test.New(t)
	s.Page(2)
	c, bucket := client(s)
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.StringMatching(`[a-zA-Z0-9 +%/=&?#~!*'()é☃._-]{1,40}`).Draw(t, "key")
		if cleaned := "/" + key; strings.Contains(cleaned, "//") || strings.Contains(cleaned, "/.") || strings.HasSuffix(key, "/") {
			t.Skip("net/http's server would clean the path")
		}
		data := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "data")
		p := bucket.Below(key)
		longer := append(slices.Clone(data), "more that came meanwhile"...)
		if err := c.Put(context.Background(), p, int64(len(data)), reopen(longer)); err != nil {
			t.Fatal(err)
		}
		o, err := c.Get(context.Background(), p)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(o.Body)
		o.Body.Close()
		if err != nil || !bytes.Equal(got, data) || o.Size != int64(len(data)) {
			t.Fatalf("got %q of %d, %v", got, o.Size, err)
		}
		items, err := c.List(context.Background(), p, 100)
		if err != nil || len(items) == 0 || items[0] != (Item{key, int64(len(data))}) {
			t.Fatalf("list: %v, %v", items, err)
		}
	})
}

func TestListTurnsPages(t *testing.T) {
	s := s3test.New(t)
	s.Page(3)
	c, bucket := client(s)
	for i := range 10 {
		s.Put(fmt.Sprintf("logs/d/%02d", i), nil)
	}
	s.Put("logs/e/00", nil)
	items, err := c.List(t.Context(), bucket.Below("d/"), 10)
	if err != nil || len(items) != 10 || items[9].Key != "d/09" {
		t.Errorf("got %v, %v", items, err)
	}
	if _, err := c.List(t.Context(), bucket.Below("d/"), 9); fleet.KindOf(err) != fleet.Exhausted {
		t.Errorf("ten where nine are allowed: %v", err)
	}
}

func TestWrongSignaturesAreRefused(t *testing.T) {
	s := s3test.New(t)
	s.Put("logs/a", []byte("secret"))
	good, bucket := client(s)
	for name, spoil := range map[string]func(c *Client, p *Place){
		"secret":    func(c *Client, _ *Place) { c.Credentials.Secret += "x" },
		"key":       func(c *Client, _ *Place) { c.Credentials.KeyID = "AKOTHER" },
		"region":    func(_ *Client, p *Place) { p.Region = "other-1" },
		"clock":     func(c *Client, _ *Place) { c.Now = func() time.Time { return time.Now().Add(-time.Hour) } },
		"session":   func(c *Client, _ *Place) { c.Credentials.Session = "x" },
		"anonymous": func(c *Client, _ *Place) { c.Credentials = Credentials{} },
	} {
		c, p := *good, bucket.Below("a")
		spoil(&c, &p)
		_, err := c.Get(t.Context(), p)
		if fleet.KindOf(err) != fleet.Denied || strings.Contains(err.Error(), s3test.Secret) {
			t.Errorf("%s: got %v", name, err)
		}
		if err := c.Put(t.Context(), p, 1, reopen([]byte("x"))); fleet.KindOf(err) != fleet.Denied {
			t.Errorf("%s: put: %v", name, err)
		}
	}
	if data, _ := s.Object("logs/a"); string(data) != "secret" {
		t.Errorf("somebody wrote %q", data)
	}
}

func TestSessionTokensAreSigned(t *testing.T) {
	s := s3test.New(t)
	s.Session("temporary")
	c, p := client(s)
	c.Credentials.Session = "temporary"
	if err := c.Put(t.Context(), p.Below("a"), 1, reopen([]byte("x"))); err != nil {
		t.Error(err)
	}
}

func TestAnonymousReading(t *testing.T) {
	s := s3test.New(t)
	s.Public()
	s.Put("logs/a", []byte("open"))
	c, p := client(s)
	c.Credentials = Credentials{}
	o, err := c.Get(t.Context(), p.Below("a"))
	if err != nil {
		t.Fatal(err)
	}
	o.Body.Close()
}

func TestBusyStoresAreAskedAgain(t *testing.T) {
	s := s3test.New(t)
	s.Fail(503, 500, 429, 502)
	c, p := client(s)
	opened := 0
	err := c.Put(t.Context(), p.Below("a"), 5, func() (io.ReadCloser, error) { opened++; return reopen([]byte("whole"))() })
	if data, _ := s.Object("logs/a"); err != nil || string(data) != "whole" || opened != 1+attempts {
		t.Errorf("got %q, %v after %d openings", data, err, opened)
	}
	s.Fail(503, 503, 503, 503, 503)
	err = c.Put(t.Context(), p.Below("b"), 1, reopen([]byte("x")))
	if fleet.KindOf(err) != fleet.Unavailable || !strings.Contains(err.Error(), "SlowDown: Please reduce your request rate.") {
		t.Errorf("got %v", err)
	}
	before := len(s.Asked())
	s.Fail(400)
	if err = c.Put(t.Context(), p.Below("b"), 1, reopen([]byte("x"))); fleet.KindOf(err) != fleet.Invalid || len(s.Asked()) != before+1 {
		t.Errorf("a request that is wrong was sent again: %v", err)
	}
}

func TestStoppedWhileWaiting(t *testing.T) {
	s := s3test.New(t)
	s.Fail(503, 503, 503)
	c, p := client(s)
	c.Pause = nil
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Put(ctx, p.Below("a"), 1, reopen([]byte("x"))); err == nil {
		t.Error("a cancelled request succeeded")
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the other host was asked") }))
	defer elsewhere.Close()
	region := "other-2"
	here := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Amz-Bucket-Region", region)
		http.Redirect(w, r, elsewhere.URL, http.StatusMovedPermanently)
	}))
	defer here.Close()
	c, _ := client(&s3test.Store{})
	p := Place{here.URL, s3test.Region, "logs", "a"}
	if _, err := c.Get(t.Context(), p); err == nil || !strings.Contains(err.Error(), "in region other-2") {
		t.Errorf("got %v", err)
	}
	region = s3test.Region
	if _, err := c.Get(t.Context(), p); err == nil || !strings.Contains(err.Error(), "sends elsewhere") {
		t.Errorf("got %v", err)
	}
}

func TestErrorsTellNoQuery(t *testing.T) {
	c, _ := client(&s3test.Store{})
	p := Place{"http://127.0.0.1:1", s3test.Region, "logs", "a"}
	_, err := c.List(t.Context(), p, 1)
	if fleet.KindOf(err) != fleet.Unavailable || strings.Contains(err.Error(), "list-type") || !strings.Contains(err.Error(), "no answer from http://127.0.0.1:1 for s3://logs/") {
		t.Errorf("got %v", err)
	}
}

func TestTooBigAndTooShort(t *testing.T) {
	c, p := client(s3test.New(t))
	if err := c.Put(t.Context(), p.Below("a"), MaxPut+1, reopen(nil)); fleet.KindOf(err) != fleet.Exhausted {
		t.Errorf("got %v", err)
	}
	if err := c.Put(t.Context(), p.Below("a"), 10, reopen([]byte("short"))); fleet.KindOf(err) != fleet.Unavailable {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("s3://logs/a?endpoint=https://minio:9000&region=x-1")
	f.Add("https://logs.s3.eu-west-1.amazonaws.com/a%20b")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse(text, Defaults{})
		if err != nil {
			return
		}
		u, err := p.url("")
		if err != nil || u.Path != "/"+p.Bucket+"/"+p.Key || u.EscapedPath() != "/"+p.Bucket+"/"+escape(p.Key) {
			t.Errorf("%q: %+v is asked for at %v, %v", text, p, u, err)
		}
	})
}

package api

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/node/release"
)

// releasesStub answers what it was made with, and keeps what it was asked.
type releasesStub struct {
	put      release.Release
	held     []release.Held
	progress []release.Progress
	fetched  release.Fetched
	failed   error

	file    []byte
	by      []auth.Envelope
	key     []fleet.ID
	digest  fleet.ID
	sources []fleet.ID
	gaveUp  bool
}

func (s *releasesStub) PutRelease(_ context.Context, file io.Reader, by release.Bringer) (release.Release, error) {
	s.by, s.key = by.Signed, by.Key
	if s.failed != nil {
		return release.Release{}, s.failed
	}
	var err error
	s.file, err = io.ReadAll(file)
	return s.put, err
}

func (s *releasesStub) Releases(context.Context) []release.Held { return s.held }

func (s *releasesStub) FetchRelease(_ context.Context, digest fleet.ID, sources []fleet.ID, each func(release.Progress) error) (release.Fetched, error) {
	s.digest, s.sources = digest, sources
	for _, p := range s.progress {
		if err := each(p); err != nil {
			return release.Fetched{}, err
		}
	}
	return s.fetched, s.failed
}

func (s *releasesStub) GiveUpRelease(_ context.Context, digest fleet.ID) error {
	s.digest, s.gaveUp = digest, true
	return s.failed
}

// releasing is a stub that keeps releases.
type releasing struct {
	*stub
	*releasesStub
}

func TestReleases(t *testing.T) {
	digest, source := fleet.Sum([]byte("release")), fleet.Sum([]byte("source"))
	rel := release.Release{Digest: digest, Version: "1.2.0", Level: 2, Date: 1_700_000_000_000, Arches: []string{"amd64", "arm"}}
	b := &releasesStub{
		put:      rel,
		held:     []release.Held{{Release: rel, Trusted: true, Signed: release.Signed{Seals: []release.Seal{{Key: source}}}, Builds: []release.HeldBuild{{Arch: "amd64", Packed: 5, Chunks: 2, Have: 1, Given: 3}}}},
		progress: []release.Progress{{Chunks: 2, Have: 1, Bytes: 10, Peers: 1, Open: 2}},
		fetched:  release.Fetched{Release: rel, Path: "/x/muster-amd64", Bytes: 20, Peers: 2, Millis: 7, Chunks: 2, Resumed: 1, FromDisk: true},
	}
	c := serve(t, releasing{&stub{}, b})
	ctx := t.Context()

	signed := auth.NewSigner(ed25519.NewKeyFromSeed(make([]byte, 32))).Sign(release.ForPut, fleet.ID{}, release.PutAsk{Digest: digest})
	for _, by := range []auth.Envelope{{}, signed} {
		got, err := c.PutRelease(ctx, strings.NewReader("a file"), by)
		if err != nil || !reflect.DeepEqual(got, rel) || string(b.file) != "a file" || len(b.by) == 1 != (by.Format != 0) {
			t.Errorf("%+v, %v, by %v", got, err, b.by)
		}
	}
	if !reflect.DeepEqual(b.by, []auth.Envelope{signed}) {
		t.Errorf("%+v", b.by)
	}
	all, err := c.Releases(ctx)
	if err != nil || len(all) != 1 || !all[0].Trusted || all[0].Signers[0] != source || all[0].Builds[0] != (shape.ReleaseBuild{Arch: "amd64", Packed: 5, Chunks: 2, Have: 1, Given: 3}) ||
		!reflect.DeepEqual(all[0].Release(), rel) {
		t.Errorf("%+v, %v", all, err)
	}
	var told []release.Progress
	fetched, err := c.FetchRelease(ctx, digest, []fleet.ID{source}, func(p release.Progress) { told = append(told, p) })
	if err != nil || !reflect.DeepEqual(fetched, b.fetched) || !reflect.DeepEqual(told, b.progress) || b.digest != digest || b.sources[0] != source {
		t.Errorf("%+v, %v, told %v", fetched, err, told)
	}
	if err := c.GiveUpRelease(ctx, digest); err != nil || !b.gaveUp {
		t.Error(err)
	}
	if _, err := c.FetchRelease(ctx, digest, make([]fleet.ID, maxSources+1), nil); fleet.KindOf(err) != fleet.Invalid {
		t.Error("any number of sources is taken:", err)
	}
	b.failed = release.Full("/data", 5, 3)
	if _, err := c.FetchRelease(ctx, digest, nil, nil); fleet.KindOf(err) != fleet.Exhausted || !strings.Contains(err.Error(), "the disk of /data") {
		t.Error(err)
	}
	// The reason arrives though much more of the file was on its way.
	if _, err := c.PutRelease(ctx, bytes.NewReader(make([]byte, 20<<20)), auth.Envelope{}); fleet.KindOf(err) != fleet.Exhausted {
		t.Error(err)
	}
	if _, err := serve(t, &stub{}).Releases(ctx); fleet.KindOf(err) != fleet.NotFound {
		t.Error("an agent without releases:", err)
	}
}

// TestWhoBringsReleases: root and the agent's account, operators elsewhere, and who has an operator's signature; to fetch one
// is the host's own alone.
func TestWhoBringsReleases(t *testing.T) {
	d := newDesk(releasing{&stub{}, &releasesStub{}}, Options{})
	signed := base64.StdEncoding.EncodeToString(wire.Marshal(auth.Envelope{Format: 1}))
	operator := &Operator{Stands: func() error { return nil }, Large: func(context.Context) (func(), bool) { return func() {}, true }}
	for name, test := range map[string]struct {
		who        caller
		header     string
		put, fetch int
	}{
		"root":                       {caller{uid: 0}, "", 200, 200},
		"the agent's account":        {caller{uid: d.self}, "", 200, 200},
		"an operator elsewhere":      {caller{operator: operator}, "", 200, 403},
		"anybody":                    {caller{uid: 54321}, "", 403, 403},
		"anybody with a signature":   {caller{uid: 54321}, signed, 200, 403},
		"anybody with a half of one": {caller{uid: 54321}, "AAAA", 400, 403},
	} {
		for path, want := range map[string]int{"/v1/releases": test.put, "/v1/releases/" + fleet.ID{}.Text() + "/fetch": test.fetch} {
			method := map[bool]string{true: "PUT", false: "POST"}[path == "/v1/releases"]
			r := httptest.NewRequest(method, "http://muster"+path, strings.NewReader("{}"))
			r = r.WithContext(context.WithValue(r.Context(), callerKey{}, test.who))
			r.Header.Set(statementHeader, test.header)
			w := httptest.NewRecorder()
			d.routes().ServeHTTP(deadlines{w}, r)
			if w.Code != want {
				t.Errorf("%s %s of %s: %d, not %d: %s", method, path, name, w.Code, want, w.Body)
			}
		}
	}
}

// deadlines makes a recorder one that has deadlines.
type deadlines struct{ *httptest.ResponseRecorder }

func (deadlines) SetReadDeadline(time.Time) error  { return nil }
func (deadlines) SetWriteDeadline(time.Time) error { return nil }

// dripping is a body of which a byte comes every so often, for ever.
type dripping struct{}

func (dripping) Read(b []byte) (int, error) {
	time.Sleep(lineTime - time.Second)
	b[0] = 0
	return 1, nil
}
func (dripping) Close() error { return nil }

// TestReleaseFileEnds: a file that never ends does not keep others' out for ever.
func TestReleaseFileEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		in := patient{dripping{}, http.NewResponseController(deadlines{httptest.NewRecorder()}), began.Add(release.PutLife)}
		_, err := io.Copy(io.Discard, in)
		if took := time.Since(began); fleet.KindOf(err) != fleet.Expired || took > release.PutLife+lineTime {
			t.Errorf("it ended after %s: %v", took, err)
		}
	})
}

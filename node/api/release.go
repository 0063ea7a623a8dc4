package api

import (
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"time"

	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/node/release"
)

// ReleasesBackend is what an agent offers to those who bring releases and install them. A Backend need not be one.
type ReleasesBackend interface {
	// PutRelease reads a release file in, if the fleet's keys have signed it and policy lets by bring it. A release.PutAsk must
	// name it.
	PutRelease(ctx context.Context, file io.Reader, by release.Bringer) (release.Release, error)
	// Releases lists what is here, what was used last first.
	Releases(ctx context.Context) []release.Held
	// FetchRelease brings a release to this host, from others unless it is here, and returns the path of its binary for this
	// host. Several callers share one fetch. each is called with every bit of progress until it fails.
	FetchRelease(ctx context.Context, digest fleet.ID, sources []fleet.ID, each func(release.Progress) error) (release.Fetched, error)
	// GiveUpRelease ends the fetch of a release and lets go of what came of it. What is here whole stays.
	GiveUpRelease(ctx context.Context, digest fleet.ID) error
}

// withReleases lets a path be served by a backend that has releases.
func (s *desk) withReleases(serve func(ReleasesBackend, http.ResponseWriter, *http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		b, ok := s.backend.(ReleasesBackend)
		if !ok {
			fail(w, fleet.Errorf(fleet.NotFound, "this agent keeps no releases"))
			return
		}
		serve(b, w, r)
	}
}

// statementHeader carries an operator's signature where the body is something else: base64 of the encoded envelope.
const statementHeader = "Muster-Statement"

// drainTime is for how long the rest of a release file that was refused is taken and thrown away.
const drainTime = 10 * time.Second

// maxSources is how many nodes a fetch names at most.
const maxSources = 64

func (s *desk) putRelease(b ReleasesBackend, w http.ResponseWriter, r *http.Request) {
	by, err := s.mayPutRelease(r)
	if err != nil {
		fail(w, err)
		return
	}
	in := patient{r.Body, http.NewResponseController(w), time.Now().Add(release.PutLife)}
	got, err := b.PutRelease(r.Context(), io.LimitReader(in, release.MaxFile+1), by)
	if err != nil {
		if in.control.SetReadDeadline(time.Now().Add(drainTime)) == nil {
			_, _ = io.Copy(io.Discard, r.Body) // who still writes does not read why
		}
		fail(w, err)
		return
	}
	out := shape.OfRelease(got)
	out.Trusted = true // else it would not have been taken
	write(w, http.StatusOK, out)
}

// mayPutRelease lets in root, the agent's own account, operators elsewhere, and who shows an operator's signature.
// What policy says of operators the backend asks.
func (s *desk) mayPutRelease(r *http.Request) (release.Bringer, error) {
	if text := r.Header.Get(statementHeader); text != "" {
		var signed auth.Envelope
		raw, err := base64.StdEncoding.DecodeString(text)
		if err == nil {
			err = wire.Unmarshal(raw, &signed)
		}
		if err != nil {
			return release.Bringer{}, fleet.Errorf(fleet.Invalid, "the header %s has no statement", statementHeader)
		}
		return release.Bringer{Signed: []auth.Envelope{signed}}, nil
	}
	who, known := r.Context().Value(callerKey{}).(caller)
	switch {
	case !known:
		return release.Bringer{}, fleet.Errorf(fleet.Denied, "the kernel does not say who asks")
	case who.operator != nil:
		return release.Bringer{Key: []fleet.ID{who.operator.Key}}, nil
	case who.uid == 0 || who.uid == s.self:
		return release.Bringer{}, nil
	}
	return release.Bringer{}, fleet.Errorf(fleet.Denied, "only root and operators bring releases to a host").Hinted("muster upgrade signs for you, with an operator's key")
}

// patient reads a body that is long on its way, as long as some of it comes, and no longer than until its end: a drop now and
// then would keep others' files out for ever.
type patient struct {
	io.ReadCloser
	control *http.ResponseController
	end     time.Time
}

func (p patient) Read(b []byte) (int, error) {
	now, until := time.Now(), time.Now().Add(lineTime)
	if !now.Before(p.end) {
		return 0, fleet.Errorf(fleet.Expired, "the release file took more than %s on its way", release.PutLife).Hinted("bring it to a host that is nearer, and repeat it there")
	}
	if until.After(p.end) {
		until = p.end
	}
	if err := p.control.SetReadDeadline(until); err != nil {
		return 0, err
	}
	return p.ReadCloser.Read(b)
}

func (*desk) releases(b ReleasesBackend, w http.ResponseWriter, r *http.Request) {
	write(w, http.StatusOK, shape.OfReleases(b.Releases(r.Context())))
}

func pathRelease(r *http.Request) (fleet.ID, error) {
	id, err := fleet.ParseID(r.PathValue("digest"))
	if err != nil {
		return id, fleet.Errorf(fleet.Invalid, "%s: %q is no release's digest in full", r.URL.Path, r.PathValue("digest"))
	}
	return id, nil
}

func (*desk) fetchRelease(b ReleasesBackend, w http.ResponseWriter, r *http.Request) {
	digest, err := pathRelease(r)
	var body shape.ReleaseFetch
	if err == nil {
		err = ask(w, r, maxStatementBody, &body)
	}
	if err == nil && len(body.Sources) > maxSources {
		err = fleet.Errorf(fleet.Invalid, "%d sources are named; at most %d", len(body.Sources), maxSources)
	}
	if err != nil {
		fail(w, err)
		return
	}
	out := lines{w: w, control: http.NewResponseController(w)}
	got, err := b.FetchRelease(r.Context(), digest, body.Sources, func(p release.Progress) error {
		return out.put(shape.OfReleaseProgress(p))
	})
	if err == nil {
		err = out.put(shape.OfReleaseFetched(got))
	}
	out.end(r, err)
}

func (*desk) giveUpRelease(b ReleasesBackend, w http.ResponseWriter, r *http.Request) {
	digest, err := pathRelease(r)
	if err == nil {
		err = b.GiveUpRelease(r.Context(), digest)
	}
	if err != nil {
		fail(w, err)
		return
	}
	write(w, http.StatusOK, struct{}{})
}

package action

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/url"
	"path"
	"path/filepath"
	"strings"

	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node/fleet"
)

// gitHubAPI is where repositories are asked for unless sourceInfo has a baseURL.
const gitHubAPI = "https://api.github.com"

const repositoryName = fleet.Pattern(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$`)

// fromGitHub downloads a file or folder of a repository, or all of it, from the tar ball of one revision.
func (h host) fromGitHub(ctx context.Context, in document.SourceInfo, to destination) error {
	a, err := gitHubAsking(in)
	if err != nil {
		return err
	}
	want := path.Clean("/" + in.Path)[1:]
	return h.trying(ctx, func() error {
		resp, err := h.get(ctx, a)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		t, err := newTree(filepath.Dir(to.path))
		if err != nil {
			return err
		}
		defer t.discard()
		found, err := unpack(ctx, resp.Body, want, t)
		if err != nil {
			return err
		}
		return h.keep(ctx, t, found, want, to)
	})
}

func gitHubAsking(in document.SourceInfo) (asking, error) {
	if !repositoryName.MatchString(in.Owner) || !repositoryName.MatchString(in.Repository) {
		return asking{}, fleet.Errorf(fleet.Invalid, "sourceInfo needs owner and repository, as GitHub spells them")
	}
	rev, err := readOptions(in.GetOptions)
	if err != nil {
		return asking{}, err
	}
	base := in.BaseURL
	if base == "" {
		base = gitHubAPI
	}
	a, err := askFor(strings.TrimSuffix(base, "/"), in.AllowInsecureDownload)
	if err != nil {
		return asking{}, err
	}
	a.url = a.url.JoinPath("repos", in.Owner, in.Repository, "tarball", url.PathEscape(rev.name()))
	a.url.User, a.url.RawQuery = nil, ""
	a.header.Set("Accept", "application/vnd.github+json")
	if in.TokenInfo != "" {
		if strings.ContainsAny(in.TokenInfo, "\r\n") {
			return asking{}, fleet.Errorf(fleet.Invalid, "tokenInfo has more than one line")
		}
		a.header.Set("Authorization", "Bearer "+in.TokenInfo)
	}
	return a, nil
}

// found says what a path in an archive is.
type found int

const (
	foundNothing found = iota
	foundFile
	foundFolder
)

// unpack reads a packed tar ball, whose names begin with one folder for all, and puts what lies at want ("" is all of it)
// into the tree under its own names.
func unpack(ctx context.Context, from io.Reader, want string, t *tree) (found, error) {
	zipped, err := gzip.NewReader(&bounded{ctx: ctx, r: from, left: maxDownload})
	if err != nil {
		return foundNothing, archiveTrouble(err)
	}
	what := foundNothing
	archive := tar.NewReader(zipped)
	for {
		head, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return what, drain(zipped)
		}
		if err != nil {
			return what, archiveTrouble(err)
		}
		_, name, below := strings.Cut(strings.TrimPrefix(head.Name, "./"), "/")
		name = strings.TrimSuffix(name, "/")
		if !below || name == "" || !(name == want || want == "" || strings.HasPrefix(name, want+"/")) {
			continue
		}
		if what = foundFolder; name == want && head.Typeflag != tar.TypeDir {
			what = foundFile
		}
		if err := unpackOne(ctx, head, name, archive, t); err != nil {
			return what, archiveTrouble(err)
		}
	}
}

func unpackOne(ctx context.Context, head *tar.Header, name string, content io.Reader, t *tree) error {
	switch head.Typeflag {
	case tar.TypeDir:
		return t.folder(name)
	case tar.TypeReg:
		return t.file(ctx, name, content, head.Size, head.Mode&0o111 != 0)
	case tar.TypeSymlink:
		return t.link(name, head.Linkname)
	case tar.TypeXGlobalHeader:
		return nil
	}
	return fleet.Errorf(fleet.Denied, "the archive has %q, which is no file, folder or symbolic link", name)
}

// drain reads what is behind the archive's end, so that a body that was cut off is noticed.
func drain(r io.Reader) error {
	if _, err := io.Copy(io.Discard, io.LimitReader(r, 1<<20)); err != nil {
		return archiveTrouble(err)
	}
	return nil
}

// archiveTrouble keeps errors that say what is wrong, and calls the rest a broken archive.
func archiveTrouble(err error) error {
	if _, ok := errors.AsType[*fleet.Error](err); ok || errors.Is(err, context.Canceled) {
		return err
	}
	return fleet.Errorf(fleet.Unavailable, "the archive is damaged or broke off: %w", err)
}

// keep puts what was found in place: a folder's content, or one file.
func (h host) keep(ctx context.Context, t *tree, what found, want string, to destination) error {
	switch what {
	case foundFolder:
		if err := t.settle(ctx, orDot(want), to.path); err != nil {
			return err
		}
		h.sayOut("%s: %s", to.path, size(t.bytes))
		return nil
	case foundFile:
		file, err := to.file(want)
		if err != nil {
			return err
		}
		if err := t.settleFile(want, file); err != nil {
			return err
		}
		h.brought(file, t.bytes)
		return nil
	case foundNothing:
	}
	return fleet.Errorf(fleet.NotFound, "there is no %q in the repository", want)
}

func orDot(s string) string {
	if s == "" {
		return "."
	}
	return s
}

package action

import (
	"context"
	"net/http"
	"path"
	"strings"

	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/exec/s3"
	"github.com/muster-fleet/muster/node/fleet"
)

// fromS3 downloads an object, or all that lies below a path that is none.
func (h host) fromS3(ctx context.Context, in document.SourceInfo, to destination) error {
	if err := checkSHA(in.SHA256); err != nil {
		return err
	}
	d := s3.FindDefaults(h.getenv)
	if in.Endpoint != "" {
		d.Endpoint = in.Endpoint
	}
	if in.Region != "" {
		d.Region = in.Region
	}
	at, err := s3.Parse(in.Path, d)
	if err != nil {
		return err
	}
	keys, err := s3.FindCredentials(h.getenv)
	if err != nil {
		return err
	}
	ofHost := s3.FindDefaults(h.getenv).Endpoint // whoever set the host up chose it
	if !at.Encrypted() && !in.AllowInsecureDownload && at.Endpoint != strings.TrimSuffix(ofHost, "/") {
		return fleet.Errorf(fleet.Denied, "%s is not encrypted", at.Endpoint).Hinted(`https, or "allowInsecureDownload": true`)
	}
	c := &s3.Client{HTTP: &http.Client{Transport: h.transport()}, Credentials: keys, Now: h.now, Pause: h.pause}
	defer c.HTTP.CloseIdleConnections()
	if at.Key != "" && !strings.HasSuffix(at.Key, "/") {
		err := h.s3Object(ctx, c, at, in.SHA256, to)
		if fleet.KindOf(err) != fleet.NotFound || in.SHA256 != "" {
			return err
		}
	}
	if in.SHA256 != "" {
		return fleet.Errorf(fleet.Invalid, "sha256 is for one object, and %s is a folder", at)
	}
	return h.s3Folder(ctx, c, at, to)
}

func (h host) s3Object(ctx context.Context, c *s3.Client, at s3.Place, sha string, to destination) error {
	return h.trying(ctx, func() error {
		o, err := c.Get(ctx, at)
		if err != nil {
			return notAgain(err)
		}
		defer o.Body.Close()
		file, err := to.file(at.Key)
		if err != nil {
			return err
		}
		n, err := write(ctx, file, o.Body, o.Size, sha)
		if err == nil {
			h.brought(file, n)
		}
		return err
	})
}

// notAgain marks an error of the client, which has tried often enough itself.
func notAgain(err error) error {
	if fe, ok := err.(*fleet.Error); ok && fe.Kind == fleet.Unavailable {
		return &fleet.Error{Kind: fleet.Expired, What: fe.What, Hint: fe.Hint, Err: fe.Err}
	}
	return err
}

func (h host) s3Folder(ctx context.Context, c *s3.Client, at s3.Place, to destination) error {
	if at.Key != "" && !strings.HasSuffix(at.Key, "/") {
		at.Key += "/"
	}
	items, err := c.List(ctx, at, maxFiles)
	if err != nil {
		return err
	}
	t, err := newTree(path.Dir(to.path))
	if err != nil {
		return err
	}
	defer t.discard()
	files := 0
	for _, item := range items {
		name := strings.TrimPrefix(item.Key, at.Key)
		if name == "" || strings.HasSuffix(name, "/") { // how consoles mark a folder
			continue
		}
		if err := h.s3Into(ctx, c, at.Below(name), t, name); err != nil {
			return err
		}
		files++
	}
	if files == 0 {
		return fleet.Errorf(fleet.NotFound, "there is nothing at %s", at)
	}
	if err := t.settle(ctx, ".", to.path); err != nil {
		return err
	}
	h.sayOut("%s: %d files, %s", to.path, files, size(t.bytes))
	return nil
}

func (h host) s3Into(ctx context.Context, c *s3.Client, at s3.Place, t *tree, name string) error {
	return h.trying(ctx, func() error {
		o, err := c.Get(ctx, at)
		if err != nil {
			return notAgain(err)
		}
		defer o.Body.Close()
		return t.file(ctx, name, o.Body, o.Size, false)
	})
}

package action

import (
	"context"
	"strings"

	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node/fleet"
)

// download brings content to this host.
func (h host) download(ctx context.Context, in document.Download) error {
	to, err := h.destination(in.Destination)
	if err != nil {
		return err
	}
	switch strings.ToLower(in.SourceType) {
	case "http":
		return h.fromHTTP(ctx, in.Source, to)
	case "s3":
		return h.fromS3(ctx, in.Source, to)
	case "git":
		return h.fromGit(ctx, in.Source, to)
	case "github":
		return h.fromGitHub(ctx, in.Source, to)
	case "localpath", "local":
		return h.fromLocal(ctx, in.Source, to)
	case "ssmdocument":
		return h.fromDocument(ctx, in, to)
	}
	return fleet.Errorf(fleet.Invalid, "there is no source type %q", in.SourceType).Hinted("HTTP, S3, Git, GitHub, SSMDocument or LocalPath")
}

// fromDocument writes a document's text, which the plan brought along.
func (h host) fromDocument(ctx context.Context, in document.Download, to destination) error {
	if in.Text == "" {
		return fleet.Errorf(fleet.Invalid, "the document %q came without its text", in.Source.Name)
	}
	name, _, _ := strings.Cut(in.Source.Name, ":")
	path, err := to.file(documentFile(name, in.Text))
	if err != nil {
		return err
	}
	n, err := write(ctx, path, strings.NewReader(in.Text), int64(len(in.Text)), "")
	if err == nil {
		h.brought(path, n)
	}
	return err
}

// documentFile names the file of a document after what its text is.
func documentFile(name, text string) string {
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		return name + ".json"
	}
	return name + ".yaml"
}

// brought says what a download came to.
func (h host) brought(path string, n int64) { h.sayOut("%s: %s", path, size(n)) }

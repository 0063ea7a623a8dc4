package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// file is one file of an installed host.
type file struct {
	path string // on the host
	from string // on this machine
	mode fs.FileMode
	only []string // the formats that have it; empty: all
}

type files []file

// of returns the files that a format has.
func (f files) of(format string) files {
	return slices.DeleteFunc(slices.Clone(f), func(one file) bool { return len(one.only) > 0 && !slices.Contains(one.only, format) })
}

// Where things lie on a host.
const (
	docs    = "/usr/share/doc/muster/"
	man     = "/usr/share/man/man1/"
	observe = "/usr/share/muster/observe/" // as docs/observing.md has it
)

// makeShared makes what is the same for all architectures.
func (o order) makeShared(ctx context.Context, dir string) (files, error) {
	tool := filepath.Join(dir, "tool")
	if err := o.buildHere(ctx, tool); err != nil {
		return nil, err
	}
	var out files
	for _, make := range []func(ctx context.Context, tool, dir string) (files, error){o.manual, o.completions, o.service, o.observers, o.texts} {
		more, err := make(ctx, tool, dir)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, nil
}

// buildHere builds the binary for this machine, which tells about its commands.
func (o order) buildHere(ctx context.Context, tool string) error {
	for _, a := range o.arches {
		cmd := exec.CommandContext(ctx, "go", "env", "GOOS", "GOARCH")
		cmd.Env = append(os.Environ(), "GOOS=", "GOARCH=")
		here, err := cmd.Output()
		if err != nil {
			return err
		}
		if strings.Join(strings.Fields(string(here)), "/") == "linux/"+a.name {
			return o.build(ctx, a, tool)
		}
	}
	_, err := output(ctx, o.top, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -X main.release="+o.version.String(), "-o", tool, "./cmd/muster")
	return err
}

func (o order) manual(ctx context.Context, tool, dir string) (files, error) {
	pages := filepath.Join(dir, "man1")
	if _, err := output(ctx, dir, tool, "manual", "--date", o.date.Format(time.DateOnly), pages); err != nil {
		return nil, err
	}
	names, err := filepath.Glob(filepath.Join(pages, "*.1"))
	if err != nil {
		return nil, err
	}
	var out files
	for _, name := range names {
		if err := compress(name); err != nil {
			return nil, err
		}
		out = append(out, file{path: man + filepath.Base(name) + ".gz", from: name + ".gz", mode: 0o644})
	}
	return out, nil
}

// compress writes name.gz, the same bytes each time.
func compress(name string) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(data); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile(name+".gz", b.Bytes(), 0o644)
}

func (o order) completions(ctx context.Context, tool, dir string) (files, error) {
	var out files
	for _, c := range []struct {
		shell, path string
		only        []string
	}{
		{"bash", "/usr/share/bash-completion/completions/muster", nil},
		{"zsh", "/usr/share/zsh/vendor-completions/_muster", []string{"deb"}},
		{"zsh", "/usr/share/zsh/site-functions/_muster", []string{"rpm", "apk", archive}},
		{"fish", "/usr/share/fish/vendor_completions.d/muster.fish", nil},
	} {
		text, err := output(ctx, dir, tool, "completion", c.shell)
		if err != nil {
			return nil, err
		}
		from := filepath.Join(dir, "completion."+c.shell)
		if err := os.WriteFile(from, []byte(text+"\n"), 0o644); err != nil {
			return nil, err
		}
		out = append(out, file{c.path, from, 0o644, c.only})
	}
	return out, nil
}

// service is what starts the agent: the same files that muster agent install writes.
func (o order) service(context.Context, string, string) (files, error) {
	from := filepath.Join(o.top, "cmd", "muster", "service")
	return files{
		{"/usr/lib/systemd/system/muster.service", filepath.Join(from, "muster.service"), 0o644, []string{"deb", "rpm", archive}},
		{"/usr/lib/firewalld/services/muster.xml", filepath.Join(o.top, "packaging", "firewalld.xml"), 0o644, []string{"deb", "rpm"}},
		{"/etc/init.d/muster", filepath.Join(from, "muster.initd"), 0o755, []string{"apk", archive}},
	}, nil
}

// observers is what Prometheus, Grafana and Ansible read.
func (o order) observers(context.Context, string, string) (files, error) {
	from := filepath.Join(o.top, "packaging", "observe")
	return files{
		{path: observe + "alerts.yml", from: filepath.Join(from, "alerts.yml"), mode: 0o644},
		{path: observe + "alerts_test.yml", from: filepath.Join(from, "alerts_test.yml"), mode: 0o644},
		{path: observe + "dashboard.json", from: filepath.Join(from, "dashboard.json"), mode: 0o644},
		{path: observe + "muster-inventory", from: filepath.Join(from, "muster-inventory"), mode: 0o755},
	}, nil
}

func (o order) texts(context.Context, string, string) (files, error) {
	out := files{
		{path: docs + "copyright", from: filepath.Join(o.top, "LICENSE"), mode: 0o644},
		{path: docs + "README.md", from: filepath.Join(o.top, "README.md"), mode: 0o644},
		{path: docs + "CHANGELOG.md", from: filepath.Join(o.top, "CHANGELOG.md"), mode: 0o644},
	}
	pages, err := filepath.Glob(filepath.Join(o.top, "docs", "*.md"))
	if err != nil || len(pages) == 0 {
		return nil, fmt.Errorf("no pages in docs: %w", err)
	}
	for _, page := range pages {
		out = append(out, file{path: docs + "docs/" + filepath.Base(page), from: page, mode: 0o644})
	}
	return out, nil
}

// own is what an architecture has of its own.
type own struct {
	files files
	sbom  string
}

func (o order) makeOwn(ctx context.Context, a arch, bin, work string) (own, error) {
	parts, err := readParts(ctx, o.top, bin)
	if err != nil {
		return own{}, err
	}
	sbom := filepath.Join(work, "sbom.spdx.json")
	text, err := o.bill(a, parts)
	if err != nil {
		return own{}, err
	}
	if err := os.WriteFile(sbom, text, 0o644); err != nil {
		return own{}, err
	}
	notices := filepath.Join(work, "third-party.txt")
	if err := writeNotices(notices, parts); err != nil {
		return own{}, err
	}
	return own{files{
		{path: "/usr/bin/muster", from: bin, mode: 0o755},
		{path: docs + "sbom.spdx.json", from: sbom, mode: 0o644},
		{path: docs + "third-party.txt", from: notices, mode: 0o644},
	}, sbom}, nil
}

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// place returns where a file of an installed host lies in the archive: less deep, for it is read by people.
func place(path string) string {
	for _, p := range []struct{ from, to string }{
		{"/usr/bin/muster", "muster"},
		{"/usr/lib/systemd/system/", "service/"},
		{"/etc/init.d/muster", "service/muster.initd"},
		{man, "man/man1/"},
		{"/usr/share/bash-completion/completions/muster", "completions/muster.bash"},
		{"/usr/share/zsh/site-functions/", "completions/"},
		{"/usr/share/fish/vendor_completions.d/", "completions/"},
		{observe, "observe/"},
		{docs + "copyright", "LICENSE"},
		{docs, ""},
	} {
		if rest, ok := strings.CutPrefix(path, p.from); ok {
			return p.to + rest
		}
	}
	return strings.TrimPrefix(path, "/")
}

// writeArchive writes a tar file with everything below one folder: names sorted, one date, owners that every machine has.
func (o order) writeArchive(name, top string, all files) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	put := func(h tar.Header, data []byte) error {
		h.ModTime, h.Size, h.Uname, h.Gname, h.Format = o.date, int64(len(data)), "root", "root", tar.FormatUSTAR
		if err := t.WriteHeader(&h); err != nil {
			return err
		}
		_, err := t.Write(data)
		return err
	}
	made := map[string]bool{}
	list := all.of(archive)
	slices.SortFunc(list, func(a, b file) int { return strings.Compare(place(a.path), place(b.path)) })
	for _, one := range list {
		in := path.Join(top, place(one.path))
		for _, dir := range above(in) {
			if !made[dir] {
				made[dir] = true
				if err := put(tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}, nil); err != nil {
					return err
				}
			}
		}
		data, err := os.ReadFile(one.from)
		if err != nil {
			return err
		}
		if err := put(tar.Header{Typeflag: tar.TypeReg, Name: in, Mode: int64(one.mode)}, data); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), z.Close())
}

// above lists the folders that a path lies in, the outermost first.
func above(name string) []string {
	var out []string
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		out = append(out, dir)
	}
	slices.Reverse(out)
	return out
}

const sumsName = "SHA256SUMS"

// writeSums writes the digests of all files of a folder, as sha256sum --check reads them.
func writeSums(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%x  %s\n", sha256.Sum256(data), e.Name())
	}
	return os.WriteFile(filepath.Join(dir, sumsName), b.Bytes(), 0o644)
}

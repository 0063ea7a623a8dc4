package action

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node/fleet"
)

// entry is one of an archive's.
type entry struct {
	name string
	kind byte // 0: a file
	text string
	mode int64
}

func pack(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	archive := tar.NewWriter(zipped)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: max(e.mode, 0o644)}
		switch e.kind {
		case tar.TypeSymlink, tar.TypeLink:
			h.Linkname = e.text
		case tar.TypeXGlobalHeader:
			h = &tar.Header{Typeflag: e.kind, Name: e.name, PAXRecords: map[string]string{"comment": e.text}}
		case 0, tar.TypeReg:
			h.Typeflag, h.Size = tar.TypeReg, int64(len(e.text))
		}
		if err := archive.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			archive.Write([]byte(e.text))
		}
	}
	archive.Close()
	zipped.Close()
	return out.Bytes()
}

func repository(t *testing.T) []byte {
	return pack(t, entry{"pax_global_header", tar.TypeXGlobalHeader, "1234", 0}, entry{"o-r-12/", tar.TypeDir, "", 0o755}, entry{name: "o-r-12/README", text: "read"},
		entry{"o-r-12/bin/", tar.TypeDir, "", 0o755}, entry{"o-r-12/bin/run.sh", 0, "#!/bin/sh", 0o755}, entry{name: "o-r-12/binary", text: "other"},
		entry{name: "o-r-12/bin/deep/x", text: "x"}, entry{"o-r-12/bin/link", tar.TypeSymlink, "deep/x", 0})
}

func TestGitHub(t *testing.T) {
	ball := repository(t)
	var told http.Header
	balls := serve(t, func(w http.ResponseWriter, r *http.Request) { told = r.Header.Clone(); w.Write(ball) })
	api := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer hunter2" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		switch r.URL.EscapedPath() {
		case "/api/v3/repos/o/r/tarball/HEAD", "/api/v3/repos/o/r/tarball/feature%2Fx", "/api/v3/repos/o/r/tarball/1234567":
			http.Redirect(w, r, balls+"/o-r.tgz?token=hunter3", http.StatusFound)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	})
	in := func(path, options string) document.Download {
		return document.Download{SourceType: "GitHub", Source: document.SourceInfo{Owner: "o", Repository: "r", Path: path, GetOptions: options, TokenInfo: "hunter2",
			BaseURL: api + "/api/v3/", AllowInsecureDownload: true}}
	}
	b := newBed(t)
	for to, d := range map[string]document.Download{"all": in("", ""), "bin": in("/bin/", "branch:feature/x"), "file/": in("bin/run.sh", "commitID:1234567"), "named": in("README", "branch: feature/x")} {
		d.Destination = to
		if code := b.do(t, "download", d); code != 0 {
			t.Fatal(b.err)
		}
	}
	wantFiles(t, b.downloads, map[string]string{
		"all/": "", "all/README": "read", "all/bin/": "", "all/bin/run.sh": "#!/bin/sh", "all/binary": "other", "all/bin/deep/": "", "all/bin/deep/x": "x", "all/bin/link": "→deep/x",
		"bin/": "", "bin/run.sh": "#!/bin/sh", "bin/deep/": "", "bin/deep/x": "x", "bin/link": "→deep/x",
		"file/": "", "file/run.sh": "#!/bin/sh", "named": "read"})
	if info, err := os.Stat(b.downloads + "/file/run.sh"); err != nil || info.Mode()&0o100 == 0 {
		t.Errorf("%v, %v", info, err)
	}
	if text := fmt.Sprint(told); strings.Contains(text, "hunter2") || strings.Contains(b.err.String()+b.out.String(), "hunter") {
		t.Errorf("a secret got to %s, or was printed: %s", text, b.err)
	}
	for want, d := range map[string]document.Download{
		`there is no "none"`:   in("none", ""),
		"404 Not Found":        in("", "branch:other"),
		"is a link":            in("bin/link", ""),
		"is no branch":         in("", "branch:--upload-pack=x"),
		"is no commit ID":      in("", "commitID:HEAD"),
		"not both":             in("", "branch:a,commitID:1234567"),
		`not "tag"`:            in("", "tag:v1"),
		"owner and repository": {SourceType: "GitHub", Source: document.SourceInfo{Owner: "..", Repository: "r"}},
		"more than one line":   {SourceType: "GitHub", Source: document.SourceInfo{Owner: "o", Repository: "r", TokenInfo: "a\nb: c"}},
	} {
		d.Destination = "new"
		if code := b.do(t, "download", d); code == 0 {
			t.Errorf("%+v was downloaded", d.Source)
		}
		wantWords(t, b.err.String(), want)
	}
	if left, _ := filepath.Glob(b.downloads + "/[.n]*"); len(left) > 1 {
		t.Errorf("left behind: %v", left)
	}
}

func TestGitHubIsAskedOverTLS(t *testing.T) {
	a, err := gitHubAsking(document.SourceInfo{Owner: "o", Repository: "r"})
	if err != nil || a.url.String() != "https://api.github.com/repos/o/r/tarball/HEAD" {
		t.Errorf("got %v, %v", a.url, err)
	}
	if _, err := gitHubAsking(document.SourceInfo{Owner: "o", Repository: "r", BaseURL: "http://ghe"}); fleet.KindOf(err) != fleet.Denied {
		t.Errorf("got %v", err)
	}
}

func TestArchivesDoNotLeadOut(t *testing.T) {
	for name, entries := range map[string][]entry{
		"dots":            {{name: "top/../../evil", text: "x"}},
		"dots below":      {{name: "top/a/../../../evil", text: "x"}},
		"absolute":        {{name: "top//evil", text: "x"}},
		"link out":        {{"top/l", tar.TypeSymlink, "../../evil", 0}},
		"absolute link":   {{"top/l", tar.TypeSymlink, "/etc", 0}},
		"link, then file": {{"top/a/b", tar.TypeSymlink, "..", 0}, {"top/l", tar.TypeSymlink, "a/b/../..", 0}, {name: "top/l/../evil", text: "x"}},
		"hard link":       {{"top/l", tar.TypeLink, "/etc/passwd", 0}},
		"device":          {{"top/l", tar.TypeChar, "", 0}},
		"pipe":            {{"top/l", tar.TypeFifo, "", 0}},
		"twice":           {{name: "top/a", text: "1"}, {name: "top/a", text: "2"}},
		"over a link":     {{"top/l", tar.TypeSymlink, "a", 0}, {name: "top/l", text: "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			tr, err := newTree(filepath.Join(parent, "in"))
			if err != nil {
				t.Fatal(err)
			}
			_, err = unpack(t.Context(), bytes.NewReader(pack(t, entries...)), "", tr)
			if err == nil {
				err = tr.settle(t.Context(), ".", filepath.Join(parent, "in/out"))
			}
			tr.discard()
			if err == nil {
				t.Errorf("unpacked: %v", files(t, parent))
			}
			for path := range files(t, parent) {
				if path != "in/" && !strings.HasPrefix(path, "in/out") {
					t.Errorf("%s is there", path)
				}
			}
		})
	}
}

func TestBrokenArchives(t *testing.T) {
	whole := repository(t)
	for n := 0; n < len(whole); n += 7 {
		tr, err := newTree(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unpack(t.Context(), bytes.NewReader(whole[:n]), "", tr); fleet.KindOf(err) != fleet.Unavailable {
			t.Fatalf("cut after %d of %d bytes: %v", n, len(whole), err)
		}
		tr.discard()
	}
}

func TestTreesAreBounded(t *testing.T) {
	tr, err := newTree(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer tr.discard()
	tr.bytes = maxDownload - 3
	if err := tr.file(t.Context(), "a", strings.NewReader("four"), -1, false); fleet.KindOf(err) != fleet.Exhausted {
		t.Errorf("got %v", err)
	}
	tr.files = maxFiles
	if err := tr.folder("b"); fleet.KindOf(err) != fleet.Exhausted {
		t.Errorf("got %v", err)
	}
}

func TestSettlingKeepsWhatIsInTheWay(t *testing.T) {
	top := t.TempDir()
	outside := t.TempDir()
	for _, c := range []struct{ own, came string }{{"x/", "x"}, {"x", "x/y"}, {"→x", "x/y"}} {
		dest := filepath.Join(top, "d"+digest(c.own)[:6])
		os.MkdirAll(dest, 0o755)
		switch c.own {
		case "x/":
			os.Mkdir(dest+"/x", 0o755)
		case "x":
			os.WriteFile(dest+"/x", []byte("own"), 0o644)
		default:
			os.Symlink(outside, dest+"/x")
		}
		tr, err := newTree(top)
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.file(t.Context(), c.came, strings.NewReader("new"), 3, false); err != nil {
			t.Fatal(err)
		}
		if err := tr.settle(t.Context(), ".", dest); fleet.KindOf(err) != fleet.Conflict {
			t.Errorf("%q over %q: %v", c.came, c.own, err)
		}
		tr.discard()
	}
	wantFiles(t, outside, nil)
}

func FuzzUnpack(f *testing.F) {
	f.Add("top/a", "text", byte(0))
	f.Add("top/../../evil", "../..", byte(tar.TypeSymlink))
	f.Fuzz(func(t *testing.T, name, text string, kind byte) {
		if strings.Contains(name, "\x00") || strings.Contains(text, "\x00") || len(name) > 200 || len(text) > 200 {
			return
		}
		parent := t.TempDir()
		tr, err := newTree(filepath.Join(parent, "in"))
		if err != nil {
			t.Fatal(err)
		}
		var ball bytes.Buffer
		zipped := gzip.NewWriter(&ball)
		archive := tar.NewWriter(zipped)
		for _, h := range []*tar.Header{{Name: name, Typeflag: kind, Linkname: text, Mode: 0o644}, {Name: name + "/evil", Typeflag: tar.TypeReg, Mode: 0o644}} {
			if archive.WriteHeader(h) != nil {
				return
			}
		}
		archive.Close()
		zipped.Close()
		unpack(t.Context(), &ball, "", tr)
		tr.discard()
		wantFiles(t, parent, map[string]string{"in/": ""})
	})
}

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestVersions(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][4]string{ // what muster version, deb, rpm and apk say
		"1.2.3":                  {"1.2.3", "1.2.3", "1.2.3", "1.2.3"},
		"v1.2.3":                 {"1.2.3", "1.2.3", "1.2.3", "1.2.3"},
		"1.2.3-rc.1":             {"1.2.3-rc.1", "1.2.3~rc.1", "1.2.3~rc.1", "1.2.3_rc1"},
		"v1.2.3-5-gabc0123":      {"1.2.3+5.gabc0123", "1.2.3+5.gabc0123", "1.2.3^5.gabc0123", "1.2.3_p5"},
		"v1.2.3-rc.1-5-gabc0123": {"1.2.3-rc.1+5.gabc0123", "1.2.3~rc.1+5.gabc0123", "1.2.3~rc.1^5.gabc0123", "1.2.3_rc1_p5"},
		"1.2.3-dirty":            {"1.2.3+dirty", "1.2.3+dirty", "1.2.3^dirty", "1.2.3"},
		"0.0.0-dev+99.gabc":      {"0.0.0-dev+99.gabc", "0.0.0~dev+99.gabc", "0.0.0~dev^99.gabc", "0.0.0_alpha_p99"},
		"2.0.0-beta.2":           {"2.0.0-beta.2", "2.0.0~beta.2", "2.0.0~beta.2", "2.0.0_beta2"},
	} {
		v, err := parseVersion(text)
		if got := [4]string{v.String(), v.deb(), v.rpm(), v.apk()}; err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "1.2", "latest", "1.2.3 ", "1.2.3;x", "1.2.3-5-gabc+6", "1.2.3/../x", "v1.2.3-\n"} {
		if v, err := parseVersion(text); err == nil {
			t.Errorf("%q is %v", text, v)
		}
	}
}

// TestVersionsSort asks dpkg itself: a candidate is older than its release, and commits since a release are newer.
func TestVersionsSort(t *testing.T) {
	t.Parallel()
	dpkg, err := exec.LookPath("dpkg")
	if err != nil {
		return // the table above holds all the same
	}
	var before string
	for _, text := range []string{"0.0.0-dev+99.gabc", "0.0.0-dev+100.g012", "1.0.0-alpha.1", "1.0.0-rc.1", "1.0.0-rc.1+5.gabc", "1.0.0", "1.0.0+7.gabc", "1.0.1-rc.1", "1.0.1"} {
		v, err := parseVersion(text)
		if err != nil {
			t.Fatal(err)
		}
		if before != "" && exec.Command(dpkg, "--compare-versions", before+"-1", "lt", v.deb()+"-1").Run() != nil {
			t.Errorf("%s is not older than %s", before, v.deb())
		}
		before = v.deb()
	}
}

func TestArches(t *testing.T) {
	t.Parallel()
	if got, err := pickArches("armv7,amd64"); err != nil || len(got) != 2 || got[0].of("deb") != "armhf" || got[0].of("rpm") != "armv7hl" || got[1].of("apk") != "x86_64" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := pickArches("amd64,sparc"); err == nil {
		t.Error("sparc is made")
	}
}

// top is the source's folder.
func top(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// copySource copies what the build reads, as another person's checkout might have it.
func copySource(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name == ".git" || name == "bin" || d.Name() == "testdata" {
				return fs.SkipDir
			}
			return os.MkdirAll(filepath.Join(to, name), 0o700)
		}
		if !d.Type().IsRegular() || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), text, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// build runs the command as a person does, in a source folder.
func build(t *testing.T, source, out, arches string, env ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "run", "./packaging", "--arch", arches, "--version", "1.2.3-rc.1", "--date", "1795000000", "--out", out)
	cmd.Dir = source
	cmd.Env = append(os.Environ(), env...)
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
}

// TestTwoBuildsAreOne builds everything twice: in another folder, with other modes of files, in another zone, by another
// name of the machine's user, and from nothing that was compiled before. It takes minutes: MUSTER_LONG=1.
func TestTwoBuildsAreOne(t *testing.T) {
	if os.Getenv("MUSTER_LONG") == "" {
		t.Skip("it builds all packages twice, once from nothing: set MUSTER_LONG=1")
	}
	which, other := archNames(arches()), []string{"TZ=Asia/Tokyo", "USER=somebody", "LANG=C", "GOCACHE=" + t.TempDir()}
	one, two := filepath.Join(t.TempDir(), "dist"), filepath.Join(t.TempDir(), "elsewhere", "dist")
	build(t, top(t), one, which)
	source := filepath.Join(t.TempDir(), "some", "checkout")
	defer syscall.Umask(syscall.Umask(0o077))
	copySource(t, top(t), source)
	build(t, source, two, which, other...)

	names := list(t, one)
	if want := 5*len(strings.Split(which, ",")) + 1; len(names) != want || !slices.Equal(names, list(t, two)) {
		t.Fatalf("made %v and %v", names, list(t, two))
	}
	for _, name := range names {
		if a, b := read(t, filepath.Join(one, name)), read(t, filepath.Join(two, name)); !bytes.Equal(a, b) {
			t.Errorf("%s differs: %d and %d bytes", name, len(a), len(b))
		}
	}
	check := exec.Command("sha256sum", "--check", "--strict", sumsName)
	check.Dir = one
	if said, err := check.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, said)
	}
	archiveIsWhole(t, filepath.Join(one, "muster_1.2.3-rc.1_linux_amd64.tar.gz"))
	billIsWhole(t, filepath.Join(one, "muster_1.2.3-rc.1_linux_amd64.spdx.json"))
	apkIsWhole(t, filepath.Join(one, "muster-1.2.3_rc1-r0.x86_64.apk"))
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// tarNames lists a compressed tar file, several of them one behind the other included, and returns the files asked for.
func tarNames(t *testing.T, data []byte, want ...string) (names []string, texts map[string]string) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	texts = map[string]string{}
	r := tar.NewReader(z)
	for {
		h, err := r.Next()
		if err == io.EOF {
			return names, texts
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || (h.Uname != "" && h.Uname != "root") || h.Mode&0o022 != 0 {
			t.Errorf("%s belongs to %d:%d (%s), mode %o", h.Name, h.Uid, h.Gid, h.Uname, h.Mode)
		}
		names = append(names, h.Name)
		if slices.Contains(want, h.Name) {
			text, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			texts[h.Name] = string(text)
		}
	}
}

func archiveIsWhole(t *testing.T, name string) {
	t.Helper()
	names, _ := tarNames(t, read(t, name))
	for _, want := range []string{"muster", "LICENSE", "README.md", "third-party.txt", "sbom.spdx.json", "docs/install.md", "service/muster.service",
		"service/muster.initd", "man/man1/muster.1.gz", "man/man1/muster-node-list.1.gz", "completions/muster.bash", "completions/_muster", "completions/muster.fish",
		"observe/alerts.yml", "observe/muster-inventory"} {
		if !slices.Contains(names, "muster-1.2.3-rc.1-linux-amd64/"+want) {
			t.Errorf("the archive has no %s", want)
		}
	}
}

// billIsWhole: what the binary says it was made of is in the bill, and every part has its place in it.
func billIsWhole(t *testing.T, name string) {
	t.Helper()
	var d spdxDocument
	if err := json.Unmarshal(read(t, name), &d); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, p := range d.Packages {
		if ids[p.ID] || strings.ContainsAny(p.ID, "/_@") {
			t.Errorf("%s is there twice, or no identifier", p.ID)
		}
		ids[p.ID] = true
	}
	for _, want := range []string{"muster", "stdlib", "github.com-quic-go-quic-go", "github.com-hashicorp-raft", "go.etcd.io-bbolt"} {
		if !ids["SPDXRef-"+want] {
			t.Errorf("the bill has no %s", want)
		}
	}
	if ids["SPDXRef-pgregory.net-rapid"] || ids["SPDXRef-honnef.co-go-tools"] {
		t.Error("the bill names what only tests use")
	}
	if len(d.Relationships) != len(d.Packages) || len(d.Packages[0].Checksums) != 1 || d.Version != "SPDX-2.3" {
		t.Errorf("%d relationships of %d packages", len(d.Relationships), len(d.Packages))
	}
}

// apkIsWhole reads an Alpine package as apk does: two compressed tar files, the first of which tells of the second.
func apkIsWhole(t *testing.T, name string) {
	t.Helper()
	names, texts := tarNames(t, read(t, name), ".PKGINFO")
	for _, want := range []string{".PKGINFO", ".pre-install", ".post-install", ".post-upgrade", ".pre-deinstall", ".post-deinstall"} {
		if !slices.Contains(names, want) {
			t.Errorf("the apk has no %s: %v", want, names)
		}
	}
	for line := range strings.Lines(texts[".PKGINFO"]) {
		if !strings.HasPrefix(line, "#") && !strings.Contains(line, " = ") {
			t.Errorf(".PKGINFO has the line %q", line)
		}
	}
	if !strings.Contains(texts[".PKGINFO"], "pkgver = 1.2.3_rc1-r0\n") {
		t.Errorf("%s", texts[".PKGINFO"])
	}
}

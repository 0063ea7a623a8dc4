package store

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/release"
)

const size = 3*release.ChunkSize + 100

type made struct {
	signed   release.Signed
	manifest release.Manifest
	packed   map[string][]byte
	binary   []byte // of amd64
	file     []byte
}

func signer() auth.Signer {
	sum := sha256.Sum256([]byte("store"))
	return auth.NewSigner(ed25519.NewKeyFromSeed(sum[:]))
}

func trust() auth.ReleaseKeys {
	return auth.ReleaseKeys{Need: 1, Keys: []ed25519.PublicKey{signer().Public()}}
}

func noise(seed uint64, n int) []byte {
	random := rand.NewChaCha8(sha256.Sum256([]byte{byte(seed)}))
	out := make([]byte, n)
	_, _ = random.Read(out)
	return out
}

// makeRelease makes a signed release whose binaries nobody can run.
func makeRelease(t *testing.T, version string, seed uint64) made {
	t.Helper()
	out := made{packed: map[string][]byte{}, binary: noise(seed, size)}
	var builds []release.Build
	for arch, binary := range map[string][]byte{"amd64": out.binary, "arm64": noise(seed+100, 500)} {
		b, packed, err := release.Pack(arch, binary)
		if err != nil {
			t.Fatal(err)
		}
		builds = append(builds, b)
		out.packed[arch] = packed
	}
	return out.signedWith(t, version, builds)
}

func (m made) signedWith(t *testing.T, version string, builds []release.Build) made {
	t.Helper()
	var err error
	if m.manifest, err = release.NewManifest(version, 2, time.Unix(1e9, 0), builds); err != nil {
		t.Fatal(err)
	}
	if m.signed, err = release.Sign(m.manifest, signer()); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := release.WriteFile(&b, m.signed, m.manifest, m.packed); err != nil {
		t.Fatal(err)
	}
	m.file = b.Bytes()
	return m
}

func (m made) chunk(arch string, index int) []byte {
	b, _ := m.manifest.Build(arch)
	return m.packed[arch][index*release.ChunkSize:][:b.ChunkLen(index)]
}

func open(t *testing.T, dir string, tune ...func(*Config)) *Store {
	t.Helper()
	cfg := Config{Dir: dir}
	for _, f := range tune {
		f(&cfg)
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func verify(s release.Signed) (release.Signed, release.Manifest, error) { return s.Take(trust(), true) }

func (m made) take(t *testing.T, s *Store) *Build {
	t.Helper()
	b, done, err := s.Take(m.signed, m.manifest, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(done)
	return b
}

func list(s *Store) (out []string) {
	for _, h := range s.List(trust(), true) {
		out = append(out, h.Version)
	}
	return out
}

// empty fails if anything lies below a folder.
func empty(t *testing.T, dir string) {
	t.Helper()
	all, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(all) > 0 {
		t.Errorf("it leaves %v", all)
	}
}

func TestImport(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "releases")
	s, m := open(t, dir), makeRelease(t, "1.2.0", 1)
	got, err := s.Import(iotest.HalfReader(bytes.NewReader(m.file)), false, verify)
	if err != nil || got.Digest != m.signed.Digest() {
		t.Fatal(got, err)
	}
	for range 2 { // also after a restart
		b, err := s.Build(m.signed.Digest(), "amd64")
		if err != nil {
			t.Fatal(err)
		}
		path, err := b.Unpack()
		if err != nil {
			t.Fatal(err)
		}
		binary, err := os.ReadFile(path)
		info, _ := os.Stat(path)
		if err != nil || !bytes.Equal(binary, m.binary) || info.Mode().Perm() != 0o700 {
			t.Fatalf("%v, mode %v", err, info.Mode())
		}
		data := make([]byte, release.ChunkSize)
		if err := b.Read(1, data); err != nil || !bytes.Equal(data, m.chunk("amd64", 1)) {
			t.Fatal(err)
		}
		h := s.List(trust(), true)
		if len(h) != 1 || !h[0].Trusted || h[0].Builds[0].Have != 4 || h[0].Builds[1].Have != 1 || s.List(auth.ReleaseKeys{}, false)[0].Trusted {
			t.Fatalf("%+v", h)
		}
		s = open(t, dir)
	}
	if _, err := s.Import(bytes.NewReader(m.file), false, verify); err != nil {
		t.Error("the same again:", err)
	}
	if _, err := s.Build(fleet.Sum([]byte("x")), "amd64"); fleet.KindOf(err) != fleet.NotFound {
		t.Error(err)
	}
	if _, err := s.Build(m.signed.Digest(), "arm"); fleet.KindOf(err) != fleet.Invalid {
		t.Error(err)
	}
}

// TestImportRefused: what is refused, or breaks off, leaves nothing.
func TestImportRefused(t *testing.T) {
	m := makeRelease(t, "1.2.0", 1)
	spoilt := bytes.Clone(m.file)
	spoilt[len(spoilt)-700] ^= 1
	for name, test := range map[string]struct {
		from   io.Reader
		verify func(release.Signed) (release.Signed, release.Manifest, error)
		kind   fleet.Kind
	}{
		"a stranger's": {bytes.NewReader(m.file), func(s release.Signed) (release.Signed, release.Manifest, error) {
			return s.Take(auth.ReleaseKeys{}, false)
		}, fleet.Denied},
		"spoilt":     {bytes.NewReader(spoilt), verify, fleet.Invalid},
		"cut":        {bytes.NewReader(m.file[:len(m.file)-1]), verify, fleet.Invalid},
		"longer":     {bytes.NewReader(append(bytes.Clone(m.file), 1)), verify, fleet.Invalid},
		"breaks off": {io.MultiReader(bytes.NewReader(m.file[:size/2]), iotest.ErrReader(errors.New("gone"))), verify, fleet.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "releases")
			s := open(t, dir)
			if _, err := s.Import(test.from, false, test.verify); fleet.KindOf(err) != test.kind {
				t.Errorf("%v", err)
			}
			empty(t, dir)
		})
	}
}

// TestGoesOn: what came before a crash counts after it, as far as it is what it should be.
func TestGoesOn(t *testing.T) {
	dir, m := t.TempDir(), makeRelease(t, "1.2.0", 1)
	b := m.take(t, open(t, dir))
	if err := errors.Join(b.Write(0, m.chunk("amd64", 0)), b.Write(3, m.chunk("amd64", 3))); err != nil {
		t.Fatal(err)
	}
	if err := b.Write(1, m.chunk("amd64", 2)); fleet.KindOf(err) != fleet.Invalid {
		t.Fatal("another chunk is taken", err)
	}
	if _, err := b.Unpack(); fleet.KindOf(err) != fleet.NotFound {
		t.Fatal("a part is unpacked", err)
	}
	packed := filepath.Join(dir, m.signed.Digest().Text(), "amd64.packed")
	f, err := os.OpenFile(packed, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("what was never synced"), 3*release.ChunkSize)
	if err = errors.Join(err, f.Close(), os.WriteFile(packed+newSuffix, []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	again := m.take(t, open(t, dir))
	if got := again.Have().All(); len(got) != 1 || got[0] != 0 {
		t.Fatalf("%v are here", got)
	}
	if _, err := os.Stat(packed + newSuffix); err == nil {
		t.Error("what was being written stays")
	}
	for n := 1; n < 4; n++ {
		if err := again.Write(n, m.chunk("amd64", n)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := again.Unpack(); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedOnDisk: a chunk that went bad on the disk is not given, nor a binary that somebody changed.
func TestDamagedOnDisk(t *testing.T) {
	dir, m := t.TempDir(), makeRelease(t, "1.2.0", 1)
	s := open(t, dir)
	if _, err := s.Import(bytes.NewReader(m.file), false, verify); err != nil {
		t.Fatal(err)
	}
	b, _ := s.Build(m.signed.Digest(), "amd64")
	path, err := b.Unpack()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append([]byte{1}, m.binary[1:]...), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err = b.Unpack(); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); !bytes.Equal(got, m.binary) {
		t.Error("a changed binary is handed out")
	}
	f, err := os.OpenFile(b.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte{1, 2, 3}, release.ChunkSize)
	f.Close()
	data := make([]byte, release.ChunkSize)
	if err2 := b.Read(1, data); err != nil || fleet.KindOf(err2) != fleet.NotFound || b.Have().Has(1) {
		t.Error(err, err2)
	}
}

// TestBadArchive: a release whose maker packed something else than they signed is found out, and a bomb unpacks to what was
// signed and no further.
func TestBadArchive(t *testing.T) {
	bomb, packed, err := release.Pack("amd64", make([]byte, 20<<20))
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*release.Build, *[]byte){
		"another sum": func(b *release.Build, _ *[]byte) { b.Sum[0]++ },
		"longer":      func(b *release.Build, _ *[]byte) { b.Size = 1000 },
		"shorter":     func(b *release.Build, _ *[]byte) { b.Size++ },
		"no archive": func(b *release.Build, p *[]byte) {
			*p = noise(4, len(*p))
			b.Chunks = []fleet.ID{fleet.Sum(*p)}
		},
	} {
		b, data := bomb, packed
		spoil(&b, &data)
		m := made{packed: map[string][]byte{"amd64": data}}.signedWith(t, "1.2.0", []release.Build{b})
		dir := t.TempDir()
		s := open(t, dir)
		if _, err := s.Import(bytes.NewReader(m.file), false, verify); err != nil {
			t.Fatal(name, err)
		}
		build, _ := s.Build(m.signed.Digest(), "amd64")
		if path, err := build.Unpack(); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("%s: %s, %v", name, path, err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*", binaryPrefix+"*")); len(left) > 0 {
			t.Errorf("%s: it leaves %v", name, left)
		}
	}
}

// TestRoom: two releases are kept; the one that was not used for longest makes way, but not one that is being fetched.
func TestRoom(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	all := []made{makeRelease(t, "1.0.0", 1), makeRelease(t, "1.1.0", 2), makeRelease(t, "1.2.0", 3)}
	for _, m := range all[:2] {
		if _, err := s.Import(bytes.NewReader(m.file), false, verify); err != nil {
			t.Fatal(err)
		}
	}
	_, done, err := s.Take(all[0].signed, all[0].manifest, "amd64") // used again
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Import(bytes.NewReader(all[2].file), false, verify); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(list(s), " "); got != "1.2.0 1.0.0" {
		t.Fatal(got)
	}
	_, done2, err := s.Take(all[2].signed, all[2].manifest, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Import(bytes.NewReader(all[1].file), false, verify); fleet.KindOf(err) != fleet.Conflict {
		t.Fatal("a release that is being fetched makes way:", err)
	}
	done()
	done()
	done2()
	if _, err := s.Import(bytes.NewReader(all[1].file), false, verify); err != nil {
		t.Fatal(err)
	}
	if folders, _ := os.ReadDir(dir); len(folders) != MaxReleases {
		t.Errorf("%d folders", len(folders))
	}
}

// TestTwoOfOneVersion: they are two releases.
func TestTwoOfOneVersion(t *testing.T) {
	s := open(t, t.TempDir())
	a, b := makeRelease(t, "1.2.0", 1), makeRelease(t, "1.2.0", 2)
	for _, m := range []made{a, b} {
		if _, err := s.Import(bytes.NewReader(m.file), false, verify); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range []made{a, b} {
		build, err := s.Build(m.signed.Digest(), "amd64")
		if err != nil {
			t.Fatal(err)
		}
		path, err := build.Unpack()
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); !bytes.Equal(got, m.binary) {
			t.Error("one is handed out for the other")
		}
	}
}

// TestFull: a disk with too little room is said before anything is written; one that gets full on the way leaves nothing.
func TestFull(t *testing.T) {
	dir, m := t.TempDir(), makeRelease(t, "1.2.0", 1)
	s := open(t, dir, func(c *Config) { c.Free = func(string) (int64, error) { return spare + size, nil } })
	if _, _, err := s.Take(m.signed, m.manifest, "amd64"); fleet.KindOf(err) != fleet.Exhausted || !strings.Contains(err.Error(), "is full") && !strings.Contains(err.Error(), "MiB left") {
		t.Fatal(err)
	}
	empty(t, dir)

	s = open(t, dir)
	folder := filepath.Join(dir, m.signed.Digest().Text())
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/full", filepath.Join(folder, "amd64.packed")); err != nil {
		t.Fatal(err)
	}
	b, done, err := s.Take(m.signed, m.manifest, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	if err := b.Write(0, m.chunk("amd64", 0)); fleet.KindOf(err) != fleet.Exhausted || err.(*fleet.Error).Hint == "" {
		t.Fatal(err)
	}
	empty(t, dir)
	if got := list(s); len(got) != 0 {
		t.Error(got)
	}
	if err := b.Write(1, m.chunk("amd64", 1)); err == nil {
		t.Error("it goes on writing")
	}
	if _, err := b.Unpack(); err == nil {
		t.Error("there is something to unpack")
	}
}

// TestFullMakesWay: a release that nobody uses goes before a disk is said to be full.
func TestFullMakesWay(t *testing.T) {
	dir, free := t.TempDir(), int64(1<<40)
	s := open(t, dir, func(c *Config) { c.Free = func(string) (int64, error) { return free - sizeBelow(dir), nil } })
	old, m := makeRelease(t, "1.1.0", 2), makeRelease(t, "1.2.0", 1)
	if _, err := s.Import(bytes.NewReader(old.file), false, verify); err != nil {
		t.Fatal(err)
	}
	free = spare + 2*size + 2<<10
	_, done, err := s.Take(m.signed, m.manifest, "amd64")
	if err != nil || strings.Join(list(s), " ") != "1.2.0" {
		t.Fatal(list(s), err)
	}
	done()
	free = spare
	if _, _, err := s.Take(old.signed, old.manifest, "amd64"); fleet.KindOf(err) != fleet.Exhausted || len(list(s)) != 1 {
		t.Error(list(s), err)
	}
}

func sizeBelow(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, e os.DirEntry, _ error) error {
		if info, err := e.Info(); err == nil && !e.IsDir() {
			n += info.Size()
		}
		return nil
	})
	return n
}

// TestReadOnly: a disk that can only be read says so.
func TestReadOnly(t *testing.T) {
	s := open(t, "/proc/releases") // nobody can make that, not root either
	m := makeRelease(t, "1.2.0", 1)
	if _, _, err := s.Take(m.signed, m.manifest, "amd64"); fleet.KindOf(err) != fleet.Unavailable {
		t.Fatal(err)
	}
}

func TestDrop(t *testing.T) {
	dir, m := t.TempDir(), makeRelease(t, "1.2.0", 1)
	s := open(t, dir)
	if err := s.Drop(m.signed.Digest(), "amd64"); fleet.KindOf(err) != fleet.NotFound {
		t.Fatal(err)
	}
	b := m.take(t, s)
	if err := b.Write(0, m.chunk("amd64", 0)); err != nil {
		t.Fatal(err)
	}
	if err := s.Drop(m.signed.Digest(), "amd64"); err != nil {
		t.Fatal(err)
	}
	empty(t, dir)
	if _, err := s.Import(bytes.NewReader(m.file), false, verify); err != nil {
		t.Fatal(err)
	}
	if err := s.Drop(m.signed.Digest(), "amd64"); err != nil || len(list(s)) != 1 {
		t.Error("what is here whole goes:", err)
	}
}

// TestMoreSignatures: the same release that comes again with others' signatures has all of them.
func TestMoreSignatures(t *testing.T) {
	dir, m := t.TempDir(), makeRelease(t, "1.2.0", 1)
	s := open(t, dir)
	if _, err := s.Import(bytes.NewReader(m.file), false, verify); err != nil {
		t.Fatal(err)
	}
	other := auth.NewSigner(ed25519.NewKeyFromSeed(make([]byte, 32)))
	more, err := release.Sign(m.manifest, other)
	if err != nil {
		t.Fatal(err)
	}
	_, done, err := s.Take(more, m.manifest, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	done()
	s = open(t, dir)
	got, err := s.Signed(m.signed.Digest())
	both := auth.ReleaseKeys{Need: 2, Keys: []ed25519.PublicKey{signer().Public(), other.Public()}}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := got.Verify(both, true); err != nil {
		t.Error(err)
	}
}

// TestOpenClearsAway: folders without a whole manifest go, and what is not ours stays.
func TestOpenClearsAway(t *testing.T) {
	dir := t.TempDir()
	broken, mine := filepath.Join(dir, fleet.Sum([]byte("x")).Text()), filepath.Join(dir, "notes")
	err := errors.Join(os.Mkdir(broken, 0o700), os.WriteFile(filepath.Join(broken, "amd64.packed"), []byte("x"), 0o600), os.Mkdir(mine, 0o700))
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	if len(list(s)) > 0 {
		t.Error("there is a release")
	}
	if _, err := os.Stat(broken); err == nil {
		t.Error("a folder without a manifest stays")
	}
	if _, err := os.Stat(mine); err != nil {
		t.Error("what somebody else put there goes")
	}
}

// TestGivenLatelyStays: what was given to others within the hour makes way for no file that is brought, unless whoever brings it
// may have it so; a fetch takes what was not given first.
func TestGivenLatelyStays(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	s := open(t, t.TempDir(), func(c *Config) { c.Now = func() time.Time { return now } })
	all := []made{makeRelease(t, "1.0.0", 1), makeRelease(t, "1.1.0", 2), makeRelease(t, "1.2.0", 3), makeRelease(t, "1.3.0", 4)}
	bring := func(m made, evict bool) error {
		_, err := s.Import(bytes.NewReader(m.file), evict, verify)
		return err
	}
	give := func(m made) {
		t.Helper()
		b, err := s.Build(m.signed.Digest(), "amd64")
		if err == nil {
			err = b.Read(0, make([]byte, b.Of().ChunkLen(0)))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range all[:2] {
		if err := bring(m, false); err != nil {
			t.Fatal(err)
		}
	}
	give(all[0])
	for _, m := range all[2:] { // two at a time would have been enough
		if err := bring(m, false); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(list(s), " "); got != "1.3.0 1.0.0" {
		t.Fatal(got)
	}
	give(all[3])
	if err := bring(all[1], false); fleet.KindOf(err) != fleet.Conflict || strings.Join(list(s), " ") != "1.3.0 1.0.0" {
		t.Fatal(list(s), err)
	}
	if err := bring(all[1], true); err != nil || strings.Join(list(s), " ") != "1.1.0 1.3.0" {
		t.Fatal(list(s), err)
	}
	now = now.Add(GivenLately)
	if err := bring(all[2], false); err != nil || strings.Join(list(s), " ") != "1.2.0 1.1.0" {
		t.Fatal(list(s), err)
	}
}

// TestRoomOfOneRelease: what else of the same release lies there counts, too.
func TestRoomOfOneRelease(t *testing.T) {
	dir, m := t.TempDir(), makeRelease(t, "1.2.0", 1)
	s := open(t, dir, func(c *Config) { c.Free = func(string) (int64, error) { return 1 << 40, nil } })
	if _, err := s.Import(bytes.NewReader(m.file), false, verify); err != nil {
		t.Fatal(err)
	}
	large := m.manifest
	large.Builds = []release.Build{{Arch: "amd64", Packed: MaxBytes / 2, Size: MaxBytes/2 - 2<<20, Chunks: m.manifest.Builds[0].Chunks}}
	_, done, err := s.Take(m.signed, large, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	done()
	if err := os.WriteFile(filepath.Join(dir, m.signed.Digest().Text(), "arm64.packed"), noise(7, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Take(m.signed, large, "amd64"); fleet.KindOf(err) != fleet.Exhausted || len(list(s)) != 1 {
		t.Error(err, list(s))
	}
}

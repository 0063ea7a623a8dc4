package release

import (
	"bytes"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

func TestVerify(t *testing.T) {
	m := makeRelease(t, "1.2.0", 3*ChunkSize)
	badSeal := m.sign(t, "ann", "bob")
	badSeal.Seals[0].Signature = bytes.Clone(badSeal.Seals[0].Signature)
	badSeal.Seals[0].Signature[5] ^= 1
	badBody := m.sign(t, "ann")
	badBody.Manifest = bytes.Replace(badBody.Manifest, []byte("1.2.0"), []byte("1.2.1"), 1)
	twice := m.sign(t, "ann")
	twice.Seals = append(twice.Seals, twice.Seals[0])
	forged := m.sign(t, "eve") // under ann's name
	forged.Seals[0].Key = key("ann").ID()
	elsewhere := m.sign(t)
	elsewhere.Seals = []Seal{{key("ann").ID(), key("ann").Sign(auth.ForRelease, fleet.Sum([]byte("a fleet")), m.manifest).Signature}}
	purpose := m.sign(t)
	purpose.Seals = []Seal{{key("ann").ID(), key("ann").Sign(auth.ForDocument, fleet.ID{}, m.manifest).Signature}}
	for name, test := range map[string]struct {
		s    Signed
		keys auth.ReleaseKeys
		kind fleet.Kind
		says string // empty: it is taken
	}{
		"one of one":             {m.sign(t, "ann"), trust(1, "ann"), 0, ""},
		"one of three":           {m.sign(t, "bob"), trust(1, "ann", "bob", "eve"), 0, ""},
		"two of three":           {m.sign(t, "ann", "eve"), trust(2, "ann", "bob", "eve"), 0, ""},
		"and a stranger besides": {m.sign(t, "ann", "eve"), trust(1, "ann"), 0, ""},
		"nobody is trusted":      {m.sign(t, "ann"), auth.ReleaseKeys{}, fleet.Denied, "takes nobody's releases yet"},
		"unsigned":               {m.sign(t), trust(1, "ann"), fleet.Denied, "is not signed"},
		"a stranger":             {m.sign(t, "eve"), trust(1, "ann"), fleet.Denied, "signed by a stranger"},
		"one of two":             {m.sign(t, "ann", "eve"), trust(2, "ann", "bob"), fleet.Denied, "signed by 1 of the fleet's keys, and 2 are asked for"},
		"the same twice":         {twice, trust(2, "ann", "bob"), fleet.Invalid, "damaged"},
		"a bad signature":        {badSeal, trust(2, "ann", "bob"), fleet.Invalid, "a signature on it does not hold"},
		"another body":           {badBody, trust(1, "ann"), fleet.Invalid, "a signature on it does not hold"},
		"under another's name":   {forged, trust(1, "ann"), fleet.Invalid, "a signature on it does not hold"},
		"signed for one fleet":   {elsewhere, trust(1, "ann"), fleet.Invalid, "a signature on it does not hold"},
		"signed as a document":   {purpose, trust(1, "ann"), fleet.Invalid, "a signature on it does not hold"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := test.s.Verify(test.keys, test.keys.Need > 0)
			if test.says == "" {
				if err != nil || got.Version != "1.2.0" {
					t.Fatalf("%+v, %v", got, err)
				}
				return
			}
			if err == nil || fleet.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.says) {
				t.Fatalf("%v", err)
			}
			if e := err.(*fleet.Error); e.Hint == "" {
				t.Error("nobody is told how to mend it")
			}
		})
	}
}

// TestDigest: it names what was signed, whoever signed; other bytes under the same version have another.
func TestDigest(t *testing.T) {
	m := makeRelease(t, "1.2.0", ChunkSize)
	if m.sign(t, "ann").Digest() != m.sign(t, "bob", "ann").Digest() {
		t.Error("signatures change the digest")
	}
	if m.sign(t, "ann").Digest() == makeRelease(t, "1.2.0", ChunkSize+1).sign(t, "ann").Digest() {
		t.Error("two releases of one version have one digest")
	}
	if m.sign(t, "ann").Digest() != makeRelease(t, "1.2.0", ChunkSize).sign(t, "ann").Digest() {
		t.Error("the same release made again is another")
	}
	both, err := m.sign(t, "ann").Join(m.sign(t, "bob"))
	if err != nil || len(both.Seals) != 2 {
		t.Fatal(both, err)
	}
	if _, err := both.Verify(trust(2, "ann", "bob"), true); err != nil {
		t.Error(err)
	}
	if _, err := both.Join(makeRelease(t, "1.2.1", 10).sign(t, "ann")); err == nil {
		t.Error("signatures of two releases are put together")
	}
}

// TestManifestOfManyChunks: what a manifest claims takes no more room than the manifest.
func TestManifestOfManyChunks(t *testing.T) {
	m := makeRelease(t, "1.2.0", ChunkSize).manifest
	for name, spoil := range map[string]func(*Manifest){
		"10^9 chunks' worth": func(m *Manifest) { m.Builds[0].Packed = 1e9 * ChunkSize },
		"negative":           func(m *Manifest) { m.Builds[0].Packed = -1 },
		"nothing":            func(m *Manifest) { m.Builds[0].Packed, m.Builds[0].Chunks = 0, nil },
		"fewer chunks":       func(m *Manifest) { m.Builds[0].Chunks = m.Builds[0].Chunks[1:] },
		"more chunks":        func(m *Manifest) { m.Builds[0].Chunks = append(m.Builds[0].Chunks, fleet.ID{}) },
		"a big binary":       func(m *Manifest) { m.Builds[0].Size = MaxBinary + 1 },
		"no binary":          func(m *Manifest) { m.Builds[0].Size = 0 },
		"another arch":       func(m *Manifest) { m.Builds[0].Arch = "../../etc" },
		"one arch twice":     func(m *Manifest) { m.Builds = append(m.Builds, m.Builds[1]) },
		"arches mixed":       func(m *Manifest) { m.Builds[0], m.Builds[1] = m.Builds[1], m.Builds[0] },
		"none":               func(m *Manifest) { m.Builds = nil },
		"no level":           func(m *Manifest) { m.Level = 0 },
		"no version":         func(m *Manifest) { m.Version = "newest" },
		"a long version":     func(m *Manifest) { m.Version = "1.2.3-" + strings.Repeat("x", 100) },
		"an end":             func(m *Manifest) { m.Header.Expires = 5 },
		"no date":            func(m *Manifest) { m.Header.Issued = 0 },
		"another ID":         func(m *Manifest) { m.Header.ID[3]++ },
	} {
		bad := m
		bad.Builds = append([]Build{}, m.Builds...)
		spoil(&bad)
		if name != "another ID" {
			bad.Header.ID = bad.ownID()
		}
		s := Signed{Manifest: wire.Marshal(bad), Seals: []Seal{{key("ann").ID(), key("ann").Sign(auth.ForRelease, fleet.ID{}, bad).Signature}}}
		if _, err := s.Verify(trust(1, "ann"), true); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := Sign(bad, key("ann")); err == nil {
			t.Errorf("%s: it is signed", name)
		}
	}
	long := Signed{Manifest: make([]byte, MaxManifest+1)}
	if _, err := DecodeSigned(long.Encode()); fleet.KindOf(err) != fleet.Invalid {
		t.Error("a manifest of any length is taken", err)
	}
}

// TestLargestManifestFits: the bounds hold together.
func TestLargestManifestFits(t *testing.T) {
	var builds []Build
	for _, arch := range Arches() {
		b := Build{Arch: arch, Size: MaxBinary, Packed: MaxPacked}
		for range MaxChunks {
			b.Chunks = append(b.Chunks, fleet.Sum([]byte(arch)))
		}
		builds = append(builds, b)
	}
	if len(Arches()) > MaxBuilds {
		t.Fatal("there are more architectures than builds")
	}
	m, err := NewManifest("1.2.3-"+strings.Repeat("x", MaxVersion-6), fleet.LevelNewest, date, builds)
	if err != nil {
		t.Fatal(err)
	}
	one := wire.Marshal(m.Builds[0])
	if size := len(wire.Marshal(m)) + (MaxBuilds-len(builds))*len(one); size > MaxManifest {
		t.Errorf("it takes %d bytes", size)
	}
	var keys []auth.Signer
	for _, name := range strings.Fields("a b c d e f g h") {
		keys = append(keys, key(name))
	}
	s, err := Sign(m, keys...)
	if err != nil || len(s.Encode()) > MaxSigned {
		t.Fatal(len(s.Encode()), err)
	}
}

func TestKeyFile(t *testing.T) {
	seed := make([]byte, 32)
	seed[0] = 7
	text := FormatKey(seed)
	got, err := ParseKey(text)
	if err != nil || auth.FormatReleaseKey(got.Public()) != strings.Fields(text[strings.Index(text, "public: "):])[1] {
		t.Fatal(got, err)
	}
	for _, bad := range []string{"", text[:len(text)-8], strings.Replace(text, "seed: B", "seed: C", 1), "x" + text, text + strings.Repeat("x", MaxKeyFile)} {
		if _, err := ParseKey(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// TestTake: what is kept and given on has the signatures alone that were verified.
func TestTake(t *testing.T) {
	m := makeRelease(t, "1.2.0", ChunkSize)
	s := m.sign(t, "ann", "bob", "eve")
	for i, seal := range s.Seals {
		if seal.Key == key("bob").ID() {
			s.Seals[i].Signature = make([]byte, len(seal.Signature))
		}
	}
	got, manifest, err := s.Take(trust(1, "ann", "bob"), true)
	if err != nil || manifest.Version != "1.2.0" || len(got.Seals) != 1 || got.Seals[0].Key != key("ann").ID() || got.Digest() != s.Digest() {
		t.Fatalf("%+v, %v", got.Seals, err)
	}
	if len(s.Seals) != 3 {
		t.Error("what was given is changed")
	}
	if _, _, err := s.Take(trust(2, "ann", "bob"), true); fleet.KindOf(err) != fleet.Invalid {
		t.Error(err)
	}
}

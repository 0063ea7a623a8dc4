package release

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// key returns a key that a name alone decides.
func key(name string) auth.Signer {
	sum := sha256.Sum256([]byte("release key " + name))
	return auth.NewSigner(ed25519.NewKeyFromSeed(sum[:]))
}

// trust is a fleet's setting: so many of those.
func trust(need int, names ...string) auth.ReleaseKeys {
	keys := auth.ReleaseKeys{Need: need}
	for _, name := range names {
		keys.Keys = append(keys.Keys, key(name).Public())
	}
	return keys
}

// noise is data that cannot be packed smaller.
func noise(seed uint64, size int) []byte {
	random := rand.New(rand.NewPCG(seed, 3))
	out := make([]byte, size)
	for i := range out {
		out[i] = byte(random.Uint32())
	}
	return out
}

var date = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)

type made struct {
	manifest Manifest
	packed   map[string][]byte
}

// make makes a release with a binary of some size for amd64, and a small one for arm64.
func makeRelease(tb testing.TB, version string, size int) made {
	tb.Helper()
	out := made{packed: map[string][]byte{}}
	var builds []Build
	for arch, binary := range map[string][]byte{"amd64": noise(1, size), "arm64": noise(2, 1000)} {
		b, packed, err := Pack(arch, binary)
		if err != nil {
			tb.Fatal(err)
		}
		builds = append(builds, b)
		out.packed[arch] = packed
	}
	m, err := NewManifest(version, fleet.LevelNewest, date, builds)
	if err != nil {
		tb.Fatal(err)
	}
	out.manifest = m
	return out
}

func (m made) sign(tb testing.TB, names ...string) Signed {
	tb.Helper()
	var keys []auth.Signer
	for _, name := range names {
		keys = append(keys, key(name))
	}
	s, err := Sign(m.manifest, keys...)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func (m made) file(tb testing.TB, s Signed) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := WriteFile(&b, s, m.manifest, m.packed); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

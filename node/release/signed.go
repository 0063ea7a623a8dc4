package release

import (
	"crypto/ed25519"
	"slices"
	"strings"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// MaxSigned bounds an encoded Signed, in bytes: the manifest, and a signature by each key that a fleet can name.
const MaxSigned = MaxManifest + auth.MaxReleaseKeys*128

// Seal is one signature on a manifest.
type Seal struct {
	Key       fleet.ID // of the signer: SHA-256 of its public key
	Signature []byte
}

// Signed is a manifest as it was signed. Nobody has verified it: Verify does.
type Signed struct {
	Manifest []byte // encoded
	Seals    []Seal // by different keys, in their order
}

// Sign signs a manifest with all of some keys.
func Sign(m Manifest, keys ...auth.Signer) (Signed, error) {
	s := Signed{Manifest: wire.Marshal(m)}
	if err := m.Check(); err != nil {
		return s, err
	}
	for _, key := range keys {
		s.Seals = append(s.Seals, Seal{key.ID(), key.Sign(auth.ForRelease, fleet.ID{}, m).Signature})
	}
	slices.SortFunc(s.Seals, func(a, b Seal) int { return a.Key.Compare(b.Key) })
	return s, s.check()
}

// Join puts the signatures of both on one manifest.
func (s Signed) Join(other Signed) (Signed, error) {
	if s.Digest() != other.Digest() {
		return s, fleet.Errorf(fleet.Conflict, "the signatures are for two different releases").Hinted("build both from the same commit, with the same version and date")
	}
	all := slices.Concat(s.Seals, other.Seals)
	slices.SortStableFunc(all, func(a, b Seal) int { return a.Key.Compare(b.Key) })
	s.Seals = slices.CompactFunc(all, func(a, b Seal) bool { return a.Key == b.Key })
	return s, s.check()
}

// Digest names the release.
func (s Signed) Digest() fleet.ID { return s.envelope(Seal{}).Digest(auth.ForRelease, fleet.ID{}) }

func (s Signed) envelope(by Seal) auth.Envelope {
	return auth.Envelope{Format: auth.EnvelopeFormat, Algorithm: auth.Ed25519, Key: by.Key, Body: s.Manifest, Signature: by.Signature}
}

func (s Signed) check() error {
	if len(s.Manifest) > MaxManifest {
		return damaged("its manifest has %d bytes; at most %d are possible", len(s.Manifest), MaxManifest)
	}
	if len(s.Seals) > auth.MaxReleaseKeys {
		return damaged("it has %d signatures; at most %d are possible", len(s.Seals), auth.MaxReleaseKeys)
	}
	for i, seal := range s.Seals {
		if len(seal.Signature) != ed25519.SignatureSize || i > 0 && s.Seals[i-1].Key.Compare(seal.Key) >= 0 {
			return damaged("its signatures are not as they are written")
		}
	}
	return nil
}

// Encode returns the wire form.
func (s Signed) Encode() []byte { return wire.Marshal(s) }

// DecodeSigned reads what Encode writes.
func DecodeSigned(data []byte) (Signed, error) {
	if len(data) > MaxSigned {
		return Signed{}, damaged("its manifest and signatures have %d bytes; at most %d are possible", len(data), MaxSigned)
	}
	var s Signed
	if err := wire.Unmarshal(data, &s); err != nil {
		return Signed{}, damaged("%v", err)
	}
	return s, s.check()
}

// Verify returns the manifest if as many of a fleet's keys have signed it as the fleet asks for. trusted is what
// auth.Settings.ReleaseKeys returns; false: the fleet has said of nobody that it takes their releases.
func (s Signed) Verify(keys auth.ReleaseKeys, trusted bool) (Manifest, error) {
	if err := s.check(); err != nil {
		return Manifest{}, err
	}
	if err := s.verify(keys, trusted); err != nil {
		return Manifest{}, err
	}
	return s.peek()
}

// Take is Verify for whoever keeps the release and gives it on: it returns it with the signatures alone that were verified. What
// nobody has looked at could push aside a good signature of the same key, and would be found bad when the fleet asks for that key.
func (s Signed) Take(keys auth.ReleaseKeys, trusted bool) (Signed, Manifest, error) {
	m, err := s.Verify(keys, trusted)
	if err == nil {
		s.Seals = slices.DeleteFunc(slices.Clone(s.Seals), func(seal Seal) bool {
			return !slices.ContainsFunc(keys.Keys, func(key ed25519.PublicKey) bool { return s.holds(seal, key) })
		})
	}
	return s, m, err
}

// holds reports whether a key made a signature.
func (s Signed) holds(seal Seal, key ed25519.PublicKey) bool {
	return seal.Key == fleet.Sum(key) && s.envelope(seal).Verify(auth.ForRelease, fleet.ID{}, key) == nil
}

// peek decodes a manifest, whoever has signed it.
func (s Signed) peek() (Manifest, error) {
	var m Manifest
	if err := wire.Unmarshal(s.Manifest, &m); err != nil {
		return Manifest{}, damaged("%v", err)
	}
	return m, m.Check()
}

func (s Signed) verify(keys auth.ReleaseKeys, trusted bool) error {
	if !trusted || keys.Need < 1 {
		return fleet.Errorf(fleet.Denied, "this fleet takes nobody's releases yet").
			Hinted("whoever decides it: muster setting put %s KEY (the release's maker gives you the key; %s)", auth.SettingReleaseKeys, s.signers())
	}
	held, known := 0, 0
	for _, key := range keys.Keys {
		i := slices.IndexFunc(s.Seals, func(seal Seal) bool { return seal.Key == fleet.Sum(key) })
		if i < 0 {
			continue
		}
		known++
		if s.holds(s.Seals[i], key) {
			held++
		}
	}
	switch {
	case held >= keys.Need:
		return nil
	case len(s.Seals) == 0:
		return fleet.Errorf(fleet.Denied, "the release is not signed").Hinted("its maker signs it: go run ./packaging --format release --sign KEYFILE")
	case known > held:
		return damaged("a signature on it does not hold")
	case known == 0:
		return fleet.Errorf(fleet.Denied, "the release is signed by a stranger: %s", s.signers()).
			Hinted("muster setting list shows the keys that this fleet takes (%s); compare them with its maker's", auth.SettingReleaseKeys)
	}
	return fleet.Errorf(fleet.Denied, "the release is signed by %d of the fleet's keys, and %d are asked for", held, keys.Need).
		Hinted("another keeper of a release key signs it, too: go run ./packaging --cosign FILE --sign KEYFILE")
}

// signers names who seems to have signed, for people.
func (s Signed) signers() string {
	if len(s.Seals) == 0 {
		return "nobody signed this one"
	}
	var ids []string
	for _, seal := range s.Seals {
		ids = append(ids, seal.Key.String())
	}
	return "key ID " + strings.Join(ids, ", ")
}

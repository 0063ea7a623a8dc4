package auth

import (
	"crypto/ed25519"
	"slices"
	"strconv"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

// ForRelease is the purpose of signatures of releases. Their fleet ID is zero: a release is for all fleets, and which fleet takes
// whose is its own setting.
const ForRelease Purpose = "muster/release/1"

// SettingReleaseKeys says whose releases the fleet's hosts install: KEY, KEY,KEY (one of them is enough), or 2 of KEY,KEY,KEY.
const SettingReleaseKeys = "release.keys"

const (
	// MaxReleaseKeys is how many keys release.keys names at most.
	MaxReleaseKeys = 8
	// releaseKeyPrefix begins the text of a key, so that it is not taken for the ID of something.
	releaseKeyPrefix = "rk1"
)

// ReleaseKeys are the keys whose signatures make a release one that the fleet's hosts install.
type ReleaseKeys struct {
	Need int                 // so many of Keys must have signed
	Keys []ed25519.PublicKey // different ones
}

// FormatReleaseKey writes a public key as release.keys names it.
func FormatReleaseKey(key ed25519.PublicKey) string {
	return releaseKeyPrefix + fleet.ID(key).Text() // 32 bytes, as an ID
}

// ParseReleaseKey reads what FormatReleaseKey writes.
func ParseReleaseKey(text string) (ed25519.PublicKey, error) {
	rest, ok := strings.CutPrefix(text, releaseKeyPrefix)
	raw, err := fleet.ParseID(rest)
	if !ok || err != nil || raw.Text() != rest {
		return nil, fleet.Errorf(fleet.Invalid, "%q is no release key", shorten(text)).
			Hinted("a key begins with %s; whoever makes the releases has it in the .pub file beside theirs", releaseKeyPrefix)
	}
	return raw[:], nil
}

// ParseReleaseKeys reads a value of release.keys.
func ParseReleaseKeys(value string) (ReleaseKeys, error) {
	r, list := ReleaseKeys{Need: 1}, value
	if count, rest, ok := strings.Cut(value, " of "); ok {
		need, err := strconv.ParseUint(count, 10, 8)
		if err != nil {
			return r, fleet.Errorf(fleet.Invalid, "%q is no number of keys", shorten(count)).Hinted("2 of KEY,KEY,KEY")
		}
		r.Need, list = int(need), rest
	}
	for _, text := range strings.SplitN(list, ",", MaxReleaseKeys+1) {
		key, err := ParseReleaseKey(text)
		if len(r.Keys) >= MaxReleaseKeys {
			err = fleet.Errorf(fleet.Invalid, "more than %d release keys are named", MaxReleaseKeys)
		}
		if err == nil && slices.ContainsFunc(r.Keys, func(k ed25519.PublicKey) bool { return k.Equal(key) }) {
			err = fleet.Errorf(fleet.Invalid, "release key %s is named twice", text)
		}
		if err != nil {
			return ReleaseKeys{}, err
		}
		r.Keys = append(r.Keys, key)
	}
	if r.Need < 1 || r.Need > len(r.Keys) {
		return ReleaseKeys{}, fleet.Errorf(fleet.Invalid, "%d of %d release keys cannot be asked for", r.Need, len(r.Keys))
	}
	return r, nil
}

func checkReleaseKeys(value string) error {
	_, err := ParseReleaseKeys(value)
	return err
}

// ReleaseKeys returns whose releases the fleet's hosts install; false: nobody's.
func (s Settings) ReleaseKeys() (ReleaseKeys, bool) {
	value := s.Get(SettingReleaseKeys)
	if value == "" {
		return ReleaseKeys{}, false
	}
	keys, err := ParseReleaseKeys(value)
	return keys, err == nil
}

package release

import (
	"crypto/ed25519"
	"encoding/base64"
	"strings"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// keyTitle begins a key file. Behind it are the public key and the seed, each on a line; lines that begin with # are for people.
const keyTitle = "muster release key 1"

// MaxKeyFile bounds a key file, in bytes.
const MaxKeyFile = 4 << 10

// FormatKey writes the private key of a seed as a file's text.
func FormatKey(seed []byte) string {
	public := auth.NewSigner(ed25519.NewKeyFromSeed(seed)).Public()
	return keyTitle + "\n# Whoever has this file decides what the fleets that trust it run. Keep it off hosts.\npublic: " +
		auth.FormatReleaseKey(public) + "\nseed: " + base64.StdEncoding.EncodeToString(seed) + "\n"
}

// ParseKey reads what FormatKey writes.
func ParseKey(text string) (auth.Signer, error) {
	wrong := fleet.Errorf(fleet.Invalid, "this is no file with a release key, or a part of one").
		Hinted("go run ./packaging --new-key FILE makes one")
	var values [2]string
	title, rest, _ := strings.Cut(text, "\n")
	if len(text) > MaxKeyFile || title != keyTitle {
		return auth.Signer{}, wrong
	}
	for line := range strings.Lines(rest) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "public":
			values[0] = value
		case "seed":
			values[1] = value
		}
	}
	seed, err := base64.StdEncoding.DecodeString(values[1])
	if err != nil || len(seed) != ed25519.SeedSize {
		return auth.Signer{}, wrong
	}
	signer := auth.NewSigner(ed25519.NewKeyFromSeed(seed))
	if auth.FormatReleaseKey(signer.Public()) != values[0] {
		return auth.Signer{}, wrong
	}
	return signer, nil
}

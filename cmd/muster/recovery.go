package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// recoveryCheck is the bytes of checksum in a recovery key's text. With them it has 35 bytes: 14 groups of 4 characters
// without padding.
const recoveryCheck = 3

// recoveryText returns a root's seed as text to print and put away, in groups that a person can type.
func recoveryText(seed []byte) string {
	raw := append(bytes.Clone(seed), recoverySum(seed)...)
	text := base32.StdEncoding.EncodeToString(raw)
	var groups []string
	for ; len(text) > 4; text = text[4:] {
		groups = append(groups, text[:4])
	}
	return strings.Join(append(groups, text), "-")
}

// parseRecoveryText reads what recoveryText wrote, in any case, with any spaces and hyphens.
func parseRecoveryText(text string) ([]byte, error) {
	text = strings.ToUpper(strings.Join(strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune("- \t\r\n", r) }), ""))
	text = strings.NewReplacer("0", "O", "1", "I", "8", "B").Replace(text) // what eyes confuse; base32 has none of them
	raw, err := base32.StdEncoding.DecodeString(text)
	if err != nil || len(raw) != ed25519.SeedSize+recoveryCheck {
		return nil, fleet.Errorf(fleet.Invalid, "that is no recovery key: it has 14 groups of 4 letters and digits")
	}
	seed, sum := raw[:ed25519.SeedSize], raw[ed25519.SeedSize:]
	if !bytes.Equal(sum, recoverySum(seed)) {
		return nil, fleet.Errorf(fleet.Invalid, "the recovery key has a slip in it: its checksum differs").Hinted("compare it with the paper, group by group")
	}
	return seed, nil
}

func recoverySum(seed []byte) []byte {
	sum := sha256.Sum256(append([]byte("muster recovery key 1\x00"), seed...))
	return sum[:recoveryCheck]
}

// recoveryRecipient returns the public key to which secrets are sealed for recovery, so that the printed key opens them. It
// follows from the recovery root's seed: there is one paper to put away, not two.
func recoveryRecipient(seed []byte) ([]byte, error) {
	private, err := params.RecoveryPrivate(seed)
	if err != nil {
		return nil, err
	}
	return params.PublicOf(private)
}

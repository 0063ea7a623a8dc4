package main

import (
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Key files are text: a first line that says what it is and in which version, then name: value lines in a fixed order,
// and a checksum of all lines before it, so that a file that was cut or pasted wrongly is told from a wrong key. Lines
// that begin with # are for people.
const (
	identityTitle = "muster operator key 1"
	rootTitle     = "muster root key 1"
	maxKeyFile    = 8 << 10
)

// identity is what makes somebody an operator of a fleet.
type identity struct {
	Fleet     fleet.ID
	FleetName string
	Operator  string
	Seed      []byte // Ed25519
	HPKE      []byte // private key for secrets, ML-KEM-768 with X25519
}

// newIdentity makes an operator's keys.
func newIdentity(fleetID fleet.ID, fleetName, operator string) (identity, error) {
	key, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		return identity{}, fleet.Errorf(fleet.Internal, "cannot make a key: %w", err)
	}
	raw, err := key.Bytes()
	if err != nil {
		return identity{}, fleet.Errorf(fleet.Internal, "cannot make a key: %w", err)
	}
	return identity{fleetID, fleetName, operator, newSeed(), raw}, nil
}

func newSeed() []byte {
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed)
	return seed
}

// signer returns the signing key.
func (i identity) signer() auth.Signer { return auth.NewSigner(ed25519.NewKeyFromSeed(i.Seed)) }

// asOperator returns the public side, as the charter takes it.
func (i identity) asOperator(teams ...string) (auth.Operator, error) {
	key, err := hpke.MLKEM768X25519().NewPrivateKey(i.HPKE)
	if err != nil {
		return auth.Operator{}, fleet.Errorf(fleet.Invalid, "the operator's key for secrets is damaged: %w", err)
	}
	return auth.Operator{Name: i.Operator, Key: i.signer().Public(), HPKE: key.PublicKey().Bytes(), Teams: teams}, nil
}

func (i identity) text() string {
	return keyText(identityTitle, "Whoever has this file can act as operator "+i.Operator+" in fleet "+i.FleetName+". Keep it to yourself.",
		keyLine{"fleet", i.Fleet.Text()}, keyLine{"fleet-name", i.FleetName}, keyLine{"operator", i.Operator},
		keyLine{"signing-seed", encode64(i.Seed)}, keyLine{"secrets-key", encode64(i.HPKE)})
}

func parseIdentity(text string) (identity, error) {
	values, err := parseKeyText(text, identityTitle, "fleet", "fleet-name", "operator", "signing-seed", "secrets-key")
	if err != nil {
		return identity{}, err
	}
	i := identity{FleetName: values[1], Operator: values[2]}
	if i.Fleet, err = fleet.ParseID(values[0]); err != nil {
		return i, err
	}
	if i.Seed, err = decode64(values[3], ed25519.SeedSize); err != nil {
		return i, err
	}
	if i.HPKE, err = decode64(values[4], 32); err != nil {
		return i, err
	}
	if err := fleet.CheckName(i.Operator); err != nil {
		return i, err
	}
	return i, fleet.CheckName(i.FleetName)
}

// rootKey is one root of a fleet's charter.
type rootKey struct {
	Fleet     fleet.ID
	FleetName string
	Seed      []byte // Ed25519
}

func (k rootKey) signer() auth.Signer { return auth.NewSigner(ed25519.NewKeyFromSeed(k.Seed)) }

func (k rootKey) text() string {
	return keyText(rootTitle, "Whoever has this file decides who may act in fleet "+k.FleetName+". Better kept on another disk than on this one.",
		keyLine{"fleet", k.Fleet.Text()}, keyLine{"fleet-name", k.FleetName}, keyLine{"seed", encode64(k.Seed)})
}

func parseRootKey(text string) (rootKey, error) {
	values, err := parseKeyText(text, rootTitle, "fleet", "fleet-name", "seed")
	if err != nil {
		return rootKey{}, err
	}
	k := rootKey{FleetName: values[1]}
	if k.Fleet, err = fleet.ParseID(values[0]); err != nil {
		return k, err
	}
	if k.Seed, err = decode64(values[2], ed25519.SeedSize); err != nil {
		return k, err
	}
	return k, fleet.CheckName(k.FleetName)
}

type keyLine struct{ name, value string }

func keyText(title, comment string, lines ...keyLine) string {
	var b strings.Builder
	b.WriteString(title + "\n")
	for _, l := range lines {
		b.WriteString(l.name + ": " + l.value + "\n")
	}
	body := b.String()
	return "# " + comment + "\n" + body + "checksum: " + checksum(body) + "\n"
}

func checksum(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:8])
}

// parseKeyText returns the values of names, which must be all lines there are, in their order.
func parseKeyText(text, title string, names ...string) ([]string, error) {
	if len(text) > maxKeyFile {
		return nil, fleet.Errorf(fleet.Invalid, "it has %d bytes, a key file at most %d", len(text), maxKeyFile)
	}
	var lines []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 || lines[0] != title+"\n" {
		return nil, fleet.Errorf(fleet.Invalid, "it is no %q", title)
	}
	if len(lines) != len(names)+2 {
		return nil, fleet.Errorf(fleet.Invalid, "it was cut or has lines that this version does not know")
	}
	if last := lines[len(lines)-1]; last != "checksum: "+checksum(strings.Join(lines[:len(lines)-1], ""))+"\n" {
		return nil, fleet.Errorf(fleet.Invalid, "it is damaged: its checksum differs")
	}
	values := make([]string, len(names))
	for i, name := range names {
		value, ok := strings.CutPrefix(lines[i+1], name+": ")
		if !ok {
			return nil, fleet.Errorf(fleet.Invalid, "line %d should be %q", i+2, name)
		}
		values[i] = strings.TrimSuffix(value, "\n")
	}
	return values, nil
}

func encode64(b []byte) string { return base64.RawStdEncoding.EncodeToString(b) }

func decode64(text string, size int) ([]byte, error) {
	raw, err := base64.RawStdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != size {
		return nil, fleet.Errorf(fleet.Invalid, "a key in it is no base64 of %d bytes", size)
	}
	return raw, nil
}

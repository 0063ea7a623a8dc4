package fleet

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"strings"
)

// ID is a SHA-256 digest that names a thing for good: a node (of its public key), a fleet (of its first charter entry),
// an operator key, a statement. Wire and disk carry all 32 bytes; screens show 26 base32 characters (130 bits), which
// is enough that nobody can make a second key with the same text.
type ID [32]byte

// ScreenLen is the length of an ID's text on screens.
const ScreenLen = 26

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Sum returns the ID of data.
func Sum(data []byte) ID { return sha256.Sum256(data) }

// String returns the screen form.
func (id ID) String() string { return id.Text()[:ScreenLen] }

// Text returns all 52 base32 characters; ParseID takes them back.
func (id ID) Text() string { return base32Lower.EncodeToString(id[:]) }

// IsZero reports whether the ID names nothing.
func (id ID) IsZero() bool { return id == ID{} }

// Compare orders IDs by their bytes.
func (id ID) Compare(other ID) int { return bytes.Compare(id[:], other[:]) }

// ParseID reads the full base32 text of an ID.
func ParseID(text string) (ID, error) {
	raw, err := base32Lower.DecodeString(text)
	if err != nil || len(raw) != len(ID{}) {
		return ID{}, Errorf(Invalid, "%q is not a full ID (52 base32 characters)", text)
	}
	return ID(raw), nil
}

// UUID names one order (a command, a token, any statement): 16 random bytes, or a hash for derived acts.
type UUID [16]byte

// String returns the usual 8-4-4-4-12 form.
func (u UUID) String() string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// IsZero reports whether the UUID names nothing.
func (u UUID) IsZero() bool { return u == UUID{} }

// ParseUUID reads the form that String writes.
func ParseUUID(text string) (UUID, error) {
	raw, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(raw) != len(UUID{}) || len(text) != 36 {
		return UUID{}, Errorf(Invalid, "%q is not a command ID (a UUID such as 0195e8a0-…)", text)
	}
	return UUID(raw), nil
}

// MarshalText lets IDs stand in JSON in their screen form.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// MarshalText lets UUIDs stand in JSON.
func (u UUID) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText reads a UUID from JSON.
func (u *UUID) UnmarshalText(text []byte) error {
	parsed, err := ParseUUID(string(text))
	*u = parsed
	return err
}

// MarshalBinary gives the wire form, all 32 bytes.
func (id ID) MarshalBinary() ([]byte, error) { return id[:], nil }

// UnmarshalBinary reads the wire form.
func (id *ID) UnmarshalBinary(raw []byte) error {
	if len(raw) != len(id) {
		return Errorf(Invalid, "an ID of %d bytes; it has %d", len(raw), len(id))
	}
	copy(id[:], raw)
	return nil
}

// MarshalBinary gives the wire form, all 16 bytes.
func (u UUID) MarshalBinary() ([]byte, error) { return u[:], nil }

// UnmarshalBinary reads the wire form.
func (u *UUID) UnmarshalBinary(raw []byte) error {
	if len(raw) != len(u) {
		return Errorf(Invalid, "a UUID of %d bytes; it has %d", len(raw), len(u))
	}
	copy(u[:], raw)
	return nil
}

package params

import (
	"slices"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// Content is a version's value as it is kept: exactly one of the two. Its encoding is what Put.Digest is the SHA-256 of.
type Content struct {
	Plain  [][]byte // none or one
	Sealed []Sealed // none or one
}

// Sealed is an encrypted value: AES-256-GCM under a key that only this version has, wrapped for each reader. All of it is
// bound to the fleet, the parameter's name and birth, the version and the reader.
type Sealed struct {
	Box   []byte   // of the padded value
	Wraps [][]byte // HPKE ciphertexts (encapsulated key and box) of the version's key, in the order of Put.Readers
}

// MaxContent bounds one encoded Content in bytes: the largest value, sealed for MaxReaders.
const MaxContent = MaxAdvanced + boxOverhead + MaxReaders*(wrapSize+4) + 64

// PlainContent returns the content of a plain value.
func PlainContent(value []byte) Content { return Content{Plain: [][]byte{value}} }

// SealedContent returns the content of a secret.
func SealedContent(s Sealed) Content { return Content{Sealed: []Sealed{s}} }

// Encode returns the one encoding.
func (c Content) Encode() []byte { return wire.Marshal(c) }

// DecodeContent reads what Encode wrote. Errors are Invalid.
func DecodeContent(raw []byte) (Content, error) {
	var c Content
	if len(raw) > MaxContent {
		return c, fleet.Errorf(fleet.Invalid, "a value of %d bytes with its seals; at most %d", len(raw), MaxContent)
	}
	if value, ok := plainIn(raw); ok {
		return PlainContent(value), nil
	}
	if err := wire.Unmarshal(raw, &c); err != nil {
		return Content{}, err
	}
	if len(c.Plain)+len(c.Sealed) != 1 {
		return Content{}, fleet.Errorf(fleet.Invalid, "a value is plain or sealed; this is %d of them", len(c.Plain)+len(c.Sealed))
	}
	return c, nil
}

// plainIn returns the value of a plain content: most of what a server reads is one, and it has one form alone,
// {[value], nil}. Everything else, also what is no content at all, is left to the decoder.
func plainIn(raw []byte) (value []byte, ok bool) {
	const short, long = 4, 5 // bytes before the value, which has up to 255 bytes, or more
	switch n := len(raw); {
	case n <= short || raw[0] != 0x92 || raw[1] != 0x91 || raw[n-1] != 0xc0:
		return nil, false
	case raw[2] == 0xc4 && int(raw[3]) == n-short-1:
		return slices.Clone(raw[short : n-1]), true
	case raw[2] == 0xc5 && n > long+256 && int(raw[3])<<8|int(raw[4]) == n-long-1:
		return slices.Clone(raw[long : n-1]), true
	}
	return nil, false
}

// Open returns an encoded content if it is that of p: the digest is that which was signed, a secret is sealed and nothing
// else is, and there is a wrap for each reader. Every replica asks before it takes a Put, and every reader. Whether a plain value
// matches the pattern is not asked, for two versions of this program might not agree.
func (p Put) Open(raw []byte) (Content, error) {
	if len(raw) > MaxContent || fleet.Sum(raw) != p.Digest {
		return Content{}, fleet.Errorf(fleet.Denied, "version %d of parameter %s: this is not the value that was signed", p.Version, p.Name)
	}
	c, err := DecodeContent(raw)
	if err != nil {
		return Content{}, err
	}
	if p.Type != SecureString {
		if len(c.Plain) != 1 || len(c.Plain[0]) != int(p.Size) {
			return Content{}, p.errContent()
		}
		return c, p.checkText(c.Plain[0])
	}
	if len(c.Sealed) != 1 || len(c.Sealed[0].Wraps) != len(p.Readers) || len(c.Sealed[0].Box) != boxOverhead+int(p.Size) {
		return Content{}, p.errContent()
	}
	for _, wrap := range c.Sealed[0].Wraps {
		if len(wrap) != wrapSize {
			return Content{}, p.errContent()
		}
	}
	return c, nil
}

// CheckContent is Open for who does not need the content.
func (p Put) CheckContent(raw []byte) error {
	_, err := p.Open(raw)
	return err
}

func (p Put) errContent() error {
	return fleet.Errorf(fleet.Invalid, "version %d of parameter %s: its value is not what its type, size and readers say (ValidationException)", p.Version, p.Name)
}

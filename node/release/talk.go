package release

import (
	"encoding/binary"
	"slices"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// What hosts say to each other about one build of a release, on one stream: who wants chunks asks for the build and hears a
// Hello; then any number of times an Ask, and a Chunk or a None for each, in order.

// MaxNames is how many hosts one answer names at most.
const MaxNames = 8

// BuildAsk asks for a build.
type BuildAsk struct {
	Digest fleet.ID // of the release
	Arch   string
}

// Hello says what of it is here.
type Hello struct {
	Have  Bits
	Names []fleet.ID // of others who have some of it, or ask for it
	Busy  bool       // nothing is given now: ask those, and come back
}

// Ask asks for any one of some chunks; for none: what is there now.
type Ask struct {
	Want   Bits
	Insist bool // there is nobody else
}

// None says that no chunk of those is given.
type None struct {
	Have  Bits
	Spent bool // of those that are wanted some are here, and were given often enough: the others have them
	Names []fleet.ID
}

// Chunk is one chunk, with what a None has.
type Chunk struct {
	Index int
	Have  Bits
	Names []fleet.ID
	Data  []byte
}

// chunkHead is what stands before a chunk's data.
type chunkHead struct {
	Index uint16
	Have  Bits
	Names []fleet.ID
}

// maxChunkHead bounds an encoded chunkHead, in bytes.
const maxChunkHead = 1 << 10

// Decode reads a message and reports what is wrong with it, given how many chunks the build has.
func decodeAbout[T any](data []byte, chunks int, parts func(T) (Bits, []fleet.ID)) (T, error) {
	var out T
	if len(data) > maxChunkHead {
		return out, strange("it is too long")
	}
	if err := wire.Unmarshal(data, &out); err != nil {
		return out, err
	}
	have, names := parts(out)
	if !have.fits(chunks) || len(names) > MaxNames {
		var none T
		return none, strange("it is about other chunks, or names too many")
	}
	return out, nil
}

func strange(what string) error {
	return fleet.Errorf(fleet.Invalid, "a message about a release's chunks is not understood: %s", what)
}

// DecodeBuildAsk reads a BuildAsk.
func DecodeBuildAsk(data []byte) (BuildAsk, error) {
	var out BuildAsk
	if len(data) > maxChunkHead {
		return out, strange("it is too long")
	}
	if err := wire.Unmarshal(data, &out); err != nil {
		return out, err
	}
	if !slices.Contains(Arches(), out.Arch) {
		return BuildAsk{}, strange("it names no architecture")
	}
	return out, nil
}

// DecodeHello reads a Hello about a build of that many chunks.
func DecodeHello(data []byte, chunks int) (Hello, error) {
	return decodeAbout(data, chunks, func(h Hello) (Bits, []fleet.ID) { return h.Have, h.Names })
}

// DecodeAsk reads an Ask.
func DecodeAsk(data []byte, chunks int) (Ask, error) {
	return decodeAbout(data, chunks, func(a Ask) (Bits, []fleet.ID) { return a.Want, nil })
}

// DecodeNone reads a None.
func DecodeNone(data []byte, chunks int) (None, error) {
	return decodeAbout(data, chunks, func(n None) (Bits, []fleet.ID) { return n.Have, n.Names })
}

// EncodeChunk returns u16 length (big endian) and bytes of the head, and room for size bytes of data behind it: a chunk is read
// from the disk to where it is sent from.
func EncodeChunk(c Chunk, size int) (message, data []byte) {
	head := wire.Marshal(chunkHead{uint16(c.Index), c.Have, c.Names})
	message = make([]byte, 2+len(head)+size)
	binary.BigEndian.PutUint16(message, uint16(len(head)))
	copy(message[2:], head)
	return message, message[2+len(head):]
}

// DecodeChunk reads what EncodeChunk made. Data is a part of message, and nobody has verified it.
func DecodeChunk(message []byte, chunks int) (Chunk, error) {
	if len(message) < 2 || int(binary.BigEndian.Uint16(message)) > len(message)-2 {
		return Chunk{}, strange("it is cut")
	}
	size := int(binary.BigEndian.Uint16(message))
	head, err := decodeAbout(message[2:2+size], chunks, func(h chunkHead) (Bits, []fleet.ID) { return h.Have, h.Names })
	if err != nil {
		return Chunk{}, err
	}
	if int(head.Index) >= chunks || len(message)-2-size > ChunkSize {
		return Chunk{}, strange("it is no chunk of that release")
	}
	return Chunk{int(head.Index), head.Have, head.Names, message[2+size:]}, nil
}

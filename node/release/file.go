package release

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// A release file is a line that says what it is, u32 length (big endian) and bytes of an encoded Signed, and behind it the packed
// builds in the manifest's order; nothing else.
const title = "muster release 1\n"

// Suffix ends the names of release files.
const Suffix = ".release"

// MaxFile bounds a release file, in bytes.
const MaxFile = int64(len(title)) + 4 + MaxSigned + MaxBuilds*MaxPacked

// AppendHeader appends what a release file begins with.
func AppendHeader(b []byte, s Signed) []byte {
	raw := s.Encode()
	b = append(b, title...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(raw)))
	return append(b, raw...)
}

// ReadHeader reads what a release file begins with. Nobody has verified it.
func ReadHeader(r io.Reader) (Signed, error) {
	head := make([]byte, len(title)+4)
	if _, err := io.ReadFull(r, head); err != nil {
		return Signed{}, short(err)
	}
	if string(head[:len(title)]) != title {
		return Signed{}, fleet.Errorf(fleet.Invalid, "this is no release file of muster").
			Hinted("go run ./packaging --format release --sign KEYFILE makes one; packages (.deb, .rpm, .apk) are installed as the host installs others")
	}
	size := binary.BigEndian.Uint32(head[len(title):])
	if size > MaxSigned {
		return Signed{}, damaged("its manifest and signatures have %d bytes; at most %d are possible", size, MaxSigned)
	}
	raw := make([]byte, size)
	if _, err := io.ReadFull(r, raw); err != nil {
		return Signed{}, short(err)
	}
	return DecodeSigned(raw)
}

// short says why a file ends too soon; other errors of a reader are passed on.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return damaged("it ends too soon")
	}
	return err
}

// ReadBuilds reads what is behind the header, and gives each chunk that is as the manifest says to take, in order; data is valid
// until take returns. It wants the file to end there.
func ReadBuilds(r io.Reader, m Manifest, take func(b Build, index int, data []byte) error) error {
	buf := make([]byte, ChunkSize)
	for _, b := range m.Builds {
		for index := range b.Chunks {
			data := buf[:b.ChunkLen(index)]
			if _, err := io.ReadFull(r, data); err != nil {
				return short(err)
			}
			if !b.Holds(index, data) {
				return damaged("chunk %d of %s is not as its maker signed it", index, b.Arch)
			}
			if err := take(b, index, data); err != nil {
				return err
			}
		}
	}
	if n, err := r.Read(buf[:1]); n > 0 || err == nil {
		return damaged("there is more behind its end")
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// ReadFile verifies a whole release file: first its signatures, then each chunk. keys and trusted are what
// auth.Settings.ReleaseKeys returns.
func ReadFile(r io.Reader, keys auth.ReleaseKeys, trusted bool) (Release, error) {
	signed, err := ReadHeader(r)
	if err != nil {
		return Release{}, err
	}
	m, err := signed.Verify(keys, trusted)
	if err != nil {
		return Release{}, err
	}
	return Of(signed.Digest(), m), ReadBuilds(r, m, func(Build, int, []byte) error { return nil })
}

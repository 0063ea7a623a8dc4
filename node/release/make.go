package release

import (
	"bytes"
	"compress/gzip"
	"io"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Pack packs a binary: the same bytes each time.
func Pack(arch string, binary []byte) (Build, []byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return Build{}, nil, err
	}
	if _, err := z.Write(binary); err != nil {
		return Build{}, nil, err
	}
	if err := z.Close(); err != nil {
		return Build{}, nil, err
	}
	packed := b.Bytes()
	build := Build{Arch: arch, Size: int64(len(binary)), Sum: fleet.Sum(binary), Packed: int64(len(packed))}
	for rest := packed; len(rest) > 0; {
		n := min(len(rest), ChunkSize)
		build.Chunks = append(build.Chunks, fleet.Sum(rest[:n]))
		rest = rest[n:]
	}
	return build, packed, build.check()
}

// WriteFile writes a release file; packed has the packed binaries by architecture.
func WriteFile(w io.Writer, s Signed, m Manifest, packed map[string][]byte) error {
	if _, err := w.Write(AppendHeader(nil, s)); err != nil {
		return err
	}
	for _, b := range m.Builds {
		if _, err := w.Write(packed[b.Arch]); err != nil {
			return err
		}
	}
	return nil
}

// Cosign adds signatures to a release file that is read from r, and returns what it begins with then. Whoever signs vouches for
// it: build it anew and compare the digests first.
func Cosign(r io.Reader, keys ...auth.Signer) (Signed, Manifest, error) {
	s, err := ReadHeader(r)
	if err != nil {
		return s, Manifest{}, err
	}
	m, err := s.peek()
	if err != nil {
		return s, m, err
	}
	more, err := Sign(m, keys...)
	if err != nil {
		return s, m, err
	}
	s, err = s.Join(more)
	return s, m, err
}

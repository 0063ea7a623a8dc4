package store

import (
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/release"
)

// Build is what is here of one build. Its methods may be called from any goroutine.
type Build struct {
	store  *Store
	digest fleet.ID // of the release
	of     release.Build
	path   string // of the packed file

	mu     sync.Mutex
	have   release.Bits
	file   *os.File // nil: nothing is here, or it went
	closed bool
	given  time.Time // when a chunk was last read to be given away; zero: never since the start

	unpacking sync.Mutex
}

// openBuild looks which chunks are here, by their digests.
func openBuild(s *Store, digest fleet.ID, of release.Build) (*Build, error) {
	b := &Build{
		store: s, digest: digest, of: of, path: filepath.Join(s.folder(digest), of.Arch+packedSuffix), have: release.NewBits(len(of.Chunks)),
	}
	file, err := os.OpenFile(b.path, os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return b, nil
	case err != nil:
		if file, err = os.Open(b.path); err != nil { // a disk that can only be read can still be given from
			return nil, s.explain(err)
		}
	}
	b.file = file
	buf := make([]byte, release.ChunkSize)
	for index := range of.Chunks {
		data := buf[:of.ChunkLen(index)]
		if _, err := file.ReadAt(data, int64(index)*release.ChunkSize); err == nil && of.Holds(index, data) {
			b.have.Put(index)
		}
	}
	return b, nil
}

// make makes the file that chunks are written to.
func (b *Build) make() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.file != nil {
		return nil
	}
	file, err := os.OpenFile(b.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	b.file, b.closed = file, false
	return nil
}

func (b *Build) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.file != nil {
		b.file.Close()
	}
	b.file, b.closed, b.have = nil, true, release.NewBits(len(b.of.Chunks))
}

// Of returns what the manifest says of it.
func (b *Build) Of() release.Build { return b.of }

// Have returns which chunks are here.
func (b *Build) Have() release.Bits {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.have.Clone()
}

// Read reads a chunk, to be given away, into data, which has its size. One that is damaged is not here from then on.
func (b *Build) Read(index int, data []byte) error {
	err := b.read(index, data)
	if err == nil {
		b.mu.Lock()
		b.given = b.store.cfg.Now()
		b.mu.Unlock()
	}
	return err
}

func (b *Build) read(index int, data []byte) error {
	b.mu.Lock()
	file, has := b.file, b.have.Has(index)
	b.mu.Unlock()
	if file == nil || !has {
		return fleet.Errorf(fleet.NotFound, "chunk %d of the release is not here", index)
	}
	_, err := file.ReadAt(data, int64(index)*release.ChunkSize)
	if err == nil && b.of.Holds(index, data) {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.have.Drop(index)
		b.store.cfg.Log.Warn("a chunk of a release is damaged on the disk", "release", b.digest, "arch", b.of.Arch, "chunk", index, "err", err)
	}
	return fleet.Errorf(fleet.NotFound, "chunk %d of the release is not here any more", index)
}

// Write keeps a chunk, if it is the one of the manifest. A disk that is full keeps nothing of the release.
func (b *Build) Write(index int, data []byte) error {
	if !b.of.Holds(index, data) {
		return release.Damaged("a chunk is not as its maker signed it")
	}
	b.mu.Lock()
	file := b.file
	b.mu.Unlock()
	if file == nil {
		return fleet.Errorf(fleet.Conflict, "the release was given up").Hinted("repeat it")
	}
	if _, err := file.WriteAt(data, int64(index)*release.ChunkSize); err != nil {
		return b.failed(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.have.Put(index)
	}
	return nil
}

// failed is Store.failed where the store is not held.
func (b *Build) failed(err error) error {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	if k := b.store.find(b.digest); k != nil {
		return b.store.failed(k, err)
	}
	return b.store.explain(err)
}

// Unpack returns the path of the binary, which may be run. It is verified each time.
func (b *Build) Unpack() (string, error) {
	b.unpacking.Lock()
	defer b.unpacking.Unlock()
	path := filepath.Join(b.store.folder(b.digest), binaryPrefix+b.of.Arch)
	if b.isBinary(path) {
		return path, nil
	}
	f, err := os.OpenFile(path+newSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o700)
	if err != nil {
		return "", b.failed(err)
	}
	err = b.unpackTo(f)
	if err = settle(f, path, err); err != nil {
		return "", b.failed(err)
	}
	return path, nil
}

// isBinary reports whether the file at path is the manifest's binary.
func (b *Build) isBinary(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() != b.of.Size || info.Mode().Perm() != 0o700 {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	return err == nil && n == b.of.Size && fleet.ID(sum.Sum(nil)) == b.of.Sum
}

// unpackTo writes the binary, and reports whether it is the manifest's: at most as many bytes as that says.
func (b *Build) unpackTo(to io.Writer) error {
	in, err := gzip.NewReader(&packed{build: b})
	if err != nil {
		return packedWrong(err)
	}
	in.Multistream(false)
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(to, sum), io.LimitReader(in, b.of.Size+1))
	switch {
	case isFull(err):
		return err
	case err != nil:
		return packedWrong(err)
	case n != b.of.Size || fleet.ID(sum.Sum(nil)) != b.of.Sum:
		return release.Damaged("its binary is not as its maker signed it")
	}
	return nil
}

// packedWrong tells what the format cannot be read for from what the disk does.
func packedWrong(err error) error {
	if fleet.KindOf(err) != fleet.Internal {
		return err
	}
	if errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, io.ErrUnexpectedEOF) {
		return release.Damaged("it cannot be unpacked")
	}
	if _, disk := errors.AsType[*fs.PathError](err); disk {
		return err
	}
	return release.Damaged("it cannot be unpacked: " + err.Error())
}

// packed reads all chunks in order, each verified.
type packed struct {
	build *Build
	next  int
	buf   []byte
	rest  []byte
}

func (p *packed) Read(to []byte) (int, error) {
	if len(p.rest) == 0 {
		if p.next == len(p.build.of.Chunks) {
			return 0, io.EOF
		}
		if p.buf == nil {
			p.buf = make([]byte, release.ChunkSize)
		}
		p.rest = p.buf[:p.build.of.ChunkLen(p.next)]
		if err := p.build.read(p.next, p.rest); err != nil {
			p.rest = nil
			return 0, err
		}
		p.next++
	}
	n := copy(to, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

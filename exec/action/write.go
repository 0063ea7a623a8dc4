package action

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/muster-fleet/muster/node/fleet"
)

// partSuffix ends the names of files and folders that are not whole yet.
const partSuffix = ".part"

// partName returns a name for what will be called name: hidden, and like no other.
func partName() string { return ".muster-" + rand.Text() + partSuffix }

// write puts content at path: whole, with the wanted SHA-256 if one is given, and on the disk, or not at all. length is how
// many bytes there must be, -1 if nobody knows. It returns how many there were.
func write(ctx context.Context, path string, from io.Reader, length int64, sha string) (n int64, err error) {
	dir := filepath.Dir(path)
	if err := fits(dir, length); err != nil {
		return 0, err
	}
	part := filepath.Join(dir, partName())
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return 0, troubleAt(dir, err)
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(part)
		}
	}()
	h := sha256.New()
	n, err = io.Copy(io.MultiWriter(f, h), &bounded{ctx: ctx, r: from, left: maxDownload})
	if err != nil {
		return n, copyTrouble(dir, err)
	}
	if length >= 0 && n != length {
		return n, fleet.Errorf(fleet.Unavailable, "the content broke off after %d of %d bytes", n, length)
	}
	if got := hex.EncodeToString(h.Sum(nil)); sha != "" && !strings.EqualFold(sha, got) {
		return n, fleet.Errorf(fleet.Denied, "the content has the SHA-256 %s, not %s; nothing was written", got, strings.ToLower(sha))
	}
	if err = f.Sync(); err != nil {
		return n, troubleAt(dir, err)
	}
	if err = os.Rename(part, path); err != nil {
		return n, troubleAt(path, err)
	}
	return n, syncFolder(dir)
}

// fits refuses what cannot have room, before it is fetched.
func fits(dir string, length int64) error {
	if length > maxDownload {
		return fleet.Errorf(fleet.Exhausted, "the content has %d bytes; at most %d are fetched", length, int64(maxDownload))
	}
	var s syscall.Statfs_t
	if length <= 0 || syscall.Statfs(dir, &s) != nil {
		return nil
	}
	if free := uint64(s.Bavail) * uint64(s.Bsize); uint64(length) > free {
		return fleet.Errorf(fleet.Exhausted, "the content has %d bytes, and %s has room for %d", length, dir, free).
			Hinted("make room there, or choose another destinationPath")
	}
	return nil
}

// bounded reads at most left bytes, and no more once the context is over.
type bounded struct {
	ctx  context.Context
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if err := context.Cause(b.ctx); err != nil {
		return 0, err
	}
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fleet.Errorf(fleet.Exhausted, "the content has more than %d bytes, which is as much as is fetched", int64(maxDownload))
	}
	return n, err
}

// copyTrouble tells trouble with the disk from trouble with the source, which keeps its own words.
func copyTrouble(dir string, err error) error {
	if _, ok := errors.AsType[*fleet.Error](err); ok {
		return err
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok || isFull(err) {
		return troubleAt(dir, err)
	}
	return fleet.Errorf(fleet.Unavailable, "the content broke off: %w", err)
}

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return troubleAt(dir, err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) { // some file systems cannot sync a folder
		return troubleAt(dir, err)
	}
	return nil
}

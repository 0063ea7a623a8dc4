package store

import (
	"cmp"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/node/release"
)

// Bounds of the store.
const (
	// MaxReleases is how many releases lie there: the one that runs, or that one comes from, and the one that is to run.
	MaxReleases = 2
	// MaxBytes is what all of them take of the disk at most, in bytes.
	MaxBytes = 256 << 20
	// spare is what must be left free on the disk behind a release, in bytes: what ledger and audit set aside, twice.
	spare = 32 << 20
	// GivenLately is for how long a release that was given to others does not make way for a file that is brought: an upgrade that
	// goes on finds it here only.
	GivenLately = time.Hour
)

// The files of a release's folder, which its digest names. manifestName is written last when it begins and removed first when it
// goes: a folder without it is none.
const (
	manifestName = "manifest"
	packedSuffix = ".packed" // behind an architecture
	binaryPrefix = "muster-" // before one
	newSuffix    = ".new"    // a file that is being written
)

// Config says where releases are kept.
type Config struct {
	Dir string // made when it is needed; 0700
	Log *slog.Logger
	// Free returns how many bytes are free on the disk; nil: by asking it.
	Free func(dir string) (int64, error)
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Store is the releases on a host's disk. Its methods may be called from any goroutine.
type Store struct {
	cfg Config

	mu    sync.Mutex
	kept  []*kept // the one that was used last is the last
	taken bool    // somebody reads a file in
}

// kept is a release that lies there.
type kept struct {
	digest   fleet.ID
	signed   release.Signed
	manifest release.Manifest
	builds   map[string]*Build // by architecture, those that were asked for
	inUse    int               // fetches and readers-in: it stays
}

// Open reads what is kept. Of what a crash left half nothing is reported, and nothing stays. A manifest was verified when it was
// written; who signed it is verified again by whoever installs it.
func Open(cfg Config) (*Store, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Free == nil {
		cfg.Free = freeOn
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Store{cfg: cfg}
	entries, err := os.ReadDir(cfg.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fleet.Errorf(fleet.Unavailable, "the folder of releases cannot be read: %w", err)
	}
	type dated struct {
		k  *kept
		at int64
	}
	var found []dated
	for _, e := range entries {
		digest, err := fleet.ParseID(e.Name())
		if err != nil {
			continue // not ours
		}
		k, err := s.look(digest)
		if err != nil {
			cfg.Log.Warn("a release that cannot be read goes", "release", digest, "err", err)
			_ = os.RemoveAll(s.folder(digest))
			continue
		}
		var at int64
		if info, err := e.Info(); err == nil {
			at = info.ModTime().UnixNano()
		}
		found = append(found, dated{k, at})
	}
	slices.SortStableFunc(found, func(a, b dated) int { return cmp.Compare(a.at, b.at) })
	for _, f := range found {
		s.kept = append(s.kept, f.k)
	}
	return s, nil
}

func freeOn(dir string) (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}

func (s *Store) folder(digest fleet.ID) string { return filepath.Join(s.cfg.Dir, digest.Text()) }

// look reads a release's manifest, and clears away what was being written.
func (s *Store) look(digest fleet.ID) (*kept, error) {
	dir := s.folder(digest)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), newSuffix) {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
	info, err := os.Stat(filepath.Join(dir, manifestName))
	if err == nil && info.Size() > release.MaxSigned {
		err = release.Damaged("its manifest is too long")
	}
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(dir, manifestName))
	if err != nil {
		return nil, err
	}
	signed, err := release.DecodeSigned(data)
	if err == nil && signed.Digest() != digest {
		err = release.Damaged("its manifest is that of another")
	}
	if err != nil {
		return nil, err
	}
	var m release.Manifest
	if err := wire.Unmarshal(signed.Manifest, &m); err != nil {
		return nil, err
	}
	return &kept{digest: digest, signed: signed, manifest: m, builds: map[string]*Build{}}, m.Check()
}

// List returns what is kept, the newest in use first. keys and trusted are what auth.Settings.ReleaseKeys returns.
func (s *Store) List(keys auth.ReleaseKeys, trusted bool) []release.Held {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []release.Held
	for _, k := range slices.Backward(s.kept) {
		h := release.Held{Release: release.Of(k.digest, k.manifest), Signed: k.signed}
		_, err := k.signed.Verify(keys, trusted)
		h.Trusted = err == nil
		for _, b := range k.manifest.Builds {
			held := release.HeldBuild{Arch: b.Arch, Packed: b.Packed, Chunks: len(b.Chunks)}
			if build, err := s.buildOf(k, b.Arch); err == nil {
				held.Have = build.Have().Count()
			}
			h.Builds = append(h.Builds, held)
		}
		out = append(out, h)
	}
	return out
}

// Signed returns a manifest as it was signed.
func (s *Store) Signed(digest fleet.ID) (release.Signed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.find(digest); k != nil {
		return k.signed, nil
	}
	return release.Signed{}, notHere(digest)
}

func notHere(digest fleet.ID) error {
	return fleet.Errorf(fleet.NotFound, "release %s is not here", digest).Hinted("muster upgrade --to FILE brings it here")
}

func (s *Store) find(digest fleet.ID) *kept {
	for _, k := range s.kept {
		if k.digest == digest {
			return k
		}
	}
	return nil
}

// Build returns what is here of a build. NotFound: nothing is.
func (s *Store) Build(digest fleet.ID, arch string) (*Build, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.find(digest)
	if k == nil {
		return nil, notHere(digest)
	}
	return s.buildOf(k, arch)
}

// buildOf opens a build once. mu is held.
func (s *Store) buildOf(k *kept, arch string) (*Build, error) {
	if b := k.builds[arch]; b != nil {
		return b, nil
	}
	of, err := k.manifest.Build(arch)
	if err != nil {
		return nil, err
	}
	b, err := openBuild(s, k.digest, of)
	if err != nil {
		return nil, err
	}
	k.builds[arch] = b
	return b, nil
}

// Take begins, or goes on, to keep a build of a release that was verified: chunks can be written to it. It makes room, which
// others have to give up. Call done when nothing more is written or unpacked.
func (s *Store) Take(signed release.Signed, m release.Manifest, arch string) (b *Build, done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of, err := m.Build(arch)
	if err != nil {
		return nil, nil, err
	}
	k, err := s.begin(signed, m, []release.Build{of}, true, true)
	if err != nil {
		return nil, nil, err
	}
	if err = s.moreSeals(k, signed); err == nil {
		b, err = s.buildOf(k, arch)
	}
	if err == nil {
		err = b.make()
	}
	if err != nil {
		return nil, nil, s.failed(k, err)
	}
	k.inUse++
	return b, sync.OnceFunc(func() { s.leave(k) }), nil
}

func (s *Store) leave(k *kept) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k.inUse--
}

// begin makes a release's folder, and room for some of its builds, unpacked as well where unpack says so. evict is makeRoom's. mu
// is held.
func (s *Store) begin(signed release.Signed, m release.Manifest, builds []release.Build, unpack, evict bool) (*kept, error) {
	digest := signed.Digest()
	k := s.find(digest)
	if err := s.makeRoom(k, digest, s.toCome(digest, builds, unpack), evict); err != nil {
		return nil, err
	}
	if k == nil {
		k = &kept{digest: digest, signed: signed, manifest: m, builds: map[string]*Build{}}
		if err := s.writeManifest(k); err != nil {
			return nil, s.failed(k, err)
		}
	} else {
		s.kept = slices.DeleteFunc(s.kept, func(o *kept) bool { return o == k })
	}
	s.kept = append(s.kept, k)
	return k, nil
}

func (s *Store) writeManifest(k *kept) error {
	dir := s.folder(k.digest)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return writeWhole(filepath.Join(dir, manifestName), k.signed.Encode(), 0o600)
}

// toCome returns how many bytes of builds, and of their binaries where unpack says so, are not on the disk yet. mu is held.
func (s *Store) toCome(digest fleet.ID, builds []release.Build, unpack bool) (n int64) {
	dir := s.folder(digest)
	lies := func(name string) int64 {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			return 0
		}
		return onDisk(info)
	}
	for _, b := range builds {
		n += max(0, b.Packed-lies(b.Arch+packedSuffix))
		if unpack {
			n += max(0, b.Size-lies(binaryPrefix+b.Arch))
		}
	}
	return n
}

// makeRoom lets releases go that were not used for longest, and says where there is no room all the same for need more bytes of a
// release. What was given lately goes last, and only where evict says so. mu is held.
func (s *Store) makeRoom(k *kept, digest fleet.ID, need int64, evict bool) error {
	var others []*kept
	for _, o := range s.kept {
		if o != k {
			others = append(others, o)
		}
	}
	all := need
	if k != nil {
		all += sizeOf(s, []*kept{k}) // other builds of it may lie there, too
	}
	if all > MaxBytes {
		return fleet.Errorf(fleet.Exhausted, "release %s takes %d MiB; this host keeps releases of %d MiB in all", digest, all>>20, MaxBytes>>20)
	}
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return s.explain(err)
	}
	for {
		free, err := s.cfg.Free(s.cfg.Dir)
		short := err == nil && free < need+spare
		if !short && len(others) < MaxReleases && sizeOf(s, others)+all <= MaxBytes {
			return nil
		}
		idle := slices.DeleteFunc(slices.Clone(others), func(o *kept) bool { return o.inUse > 0 || !evict && s.givenLately(o) })
		i := slices.IndexFunc(others, func(o *kept) bool { return o.inUse == 0 && !s.givenLately(o) })
		if i < 0 && len(idle) > 0 {
			i = slices.Index(others, idle[0])
		}
		lately := slices.ContainsFunc(others, func(o *kept) bool { return o.inUse == 0 && !slices.Contains(idle, o) })
		switch {
		case i < 0 && lately:
			return fleet.Errorf(fleet.Conflict, "this host gave its releases to others within the last hour: an upgrade may be going on").
				Hinted("wait for it, or bring this release to another host; root on this host may bring it all the same")
		case short && free+sizeOf(s, idle) < need+spare: // then they need not go either
			return release.Full(s.cfg.Dir, need+spare, free)
		case i < 0:
			return fleet.Errorf(fleet.Conflict, "another release is being brought to this host").Hinted("wait for it, and repeat this")
		}
		s.cfg.Log.Info("a release goes, to make room for another", "release", others[i].digest, "version", others[i].manifest.Version)
		s.remove(others[i])
		others = slices.Delete(others, i, i+1)
	}
}

// givenLately reports whether others may still be fetching a release from here. mu is held.
func (s *Store) givenLately(k *kept) bool {
	now := s.cfg.Now()
	for _, b := range k.builds {
		b.mu.Lock()
		at := b.given
		b.mu.Unlock()
		if !at.IsZero() && now.Sub(at) < GivenLately {
			return true
		}
	}
	return false
}

// sizeOf returns what releases take of the disk.
func sizeOf(s *Store, all []*kept) (n int64) {
	for _, k := range all {
		entries, _ := os.ReadDir(s.folder(k.digest))
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				continue
			}
			n += onDisk(info)
		}
	}
	return n
}

// onDisk returns what a file takes of the disk: one whose chunks are not all there has holes.
func onDisk(info fs.FileInfo) int64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return min(info.Size(), stat.Blocks*512)
	}
	return info.Size()
}

// remove forgets a release, its manifest first. mu is held.
func (s *Store) remove(k *kept) {
	for _, b := range k.builds {
		b.close()
	}
	s.kept = slices.DeleteFunc(s.kept, func(o *kept) bool { return o == k })
	_ = os.Remove(filepath.Join(s.folder(k.digest), manifestName))
	if err := os.RemoveAll(s.folder(k.digest)); err != nil {
		s.cfg.Log.Warn("a release cannot be removed", "release", k.digest, "err", err)
	}
}

// failed explains an error of the disk, and lets the release go where the disk is full. mu is held.
func (s *Store) failed(k *kept, err error) error {
	if isFull(err) {
		s.remove(k)
	}
	return s.explain(err)
}

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// explain says what mends an error of the disk.
func (s *Store) explain(err error) error {
	switch {
	case err == nil || fleet.KindOf(err) != fleet.Internal:
		return err
	case isFull(err):
		return release.Full(s.cfg.Dir, 0, 0)
	case errors.Is(err, syscall.EROFS):
		return fleet.Errorf(fleet.Unavailable, "the folder of releases %s is on a disk that can only be read", s.cfg.Dir).
			Hinted("mount it so that it can be written (mount -o remount,rw), and repeat it")
	}
	return fleet.Errorf(fleet.Unavailable, "the folder of releases cannot be used: %w", err)
}

// Drop lets a build go of which not all is here, and the release with it if nothing else of it is. NotFound: there is none.
func (s *Store) Drop(digest fleet.ID, arch string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.find(digest)
	if k == nil {
		return notHere(digest)
	}
	any := false
	for _, b := range k.manifest.Builds {
		build, err := s.buildOf(k, b.Arch)
		if err != nil {
			continue
		}
		have := build.Have().Count()
		if b.Arch == arch && have < len(b.Chunks) {
			build.close()
			delete(k.builds, arch)
			_ = os.Remove(build.path)
			continue
		}
		any = any || have > 0
	}
	if !any {
		s.remove(k)
	}
	return nil
}

// Close closes what is open.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.kept {
		for _, b := range k.builds {
			b.close()
		}
	}
	return nil
}

// writeWhole writes a file so that it is there whole, or not at all, whatever happens.
func writeWhole(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path+newSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return settle(f, path, err)
}

// settle syncs a file that was written beside path, and puts it there; after an error it goes.
func settle(f *os.File, path string, err error) error {
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

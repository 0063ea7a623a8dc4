package folder

import (
	"crypto/hpke"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// keyringsName is the folder of the keys that this host shares with others: one file for each epoch of a keyring, named by
// a hash of keyring, epoch and public side. A key stays when its keyring is deleted or this host is not in it any more: what was sealed
// to it stays readable, as it would to whoever had kept a copy.
const keyringsName = "keyrings"

// seedBody is what such a file says.
type seedBody struct {
	Keyring string
	Life    fleet.UUID
	Number  uint32
	Key     fleet.ID
	For     fleet.ID
	Private []byte
}

// HPKEPrivate returns the private key of HPKEKey.
func (i Identity) HPKEPrivate() ([]byte, error) {
	key, err := hpke.MLKEM768X25519().DeriveKeyPair(i.HPKESeed)
	if err != nil {
		return nil, err
	}
	return key.Bytes()
}

// PutSeed keeps a seed: when it returns nil, the seed is on the disk whatever happens to the host.
func (f *Folder) PutSeed(s node.Seed) error {
	dir := filepath.Join(f.dir, keyringsName)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return diskError("make", dir, err)
	} else if err == nil {
		if err := syncDir(f.dir); err != nil {
			return diskError("write", dir, err)
		}
	}
	name := seedPath(s.Name)
	body := wire.Marshal(seedBody{s.Keyring, s.Name.Life, s.Name.Number, s.Name.Key, s.For, s.Private})
	data := append(append(make([]byte, 0, len(header(name))+len(body)+sha256.Size), header(name)...), body...)
	sum := sha256.Sum256(data)
	data = append(data, sum[:]...)
	defer clear(body)
	defer clear(data)
	return WriteFile(filepath.Join(f.dir, name), data, 0o600)
}

// Seed returns the seed of that name, or fleet.NotFound.
func (f *Folder) Seed(name node.SeedName) (node.Seed, error) {
	seed, err := f.readSeed(seedPath(name))
	if errors.Is(err, fs.ErrNotExist) || err == nil && seed.Name != name {
		return node.Seed{}, fleet.Errorf(fleet.NotFound, "the key %s of a keyring is not kept here", name.Key)
	}
	return seed, err
}

// readSeed reads a file of keyringsName, which must have the name that its content gives it.
func (f *Folder) readSeed(path string) (node.Seed, error) {
	var body seedBody
	if err := f.read(path, &body); err != nil {
		return node.Seed{}, err
	}
	seed := node.Seed{
		Name: node.SeedName{Life: body.Life, Number: body.Number, Key: body.Key}, Keyring: body.Keyring, For: body.For, Private: body.Private,
	}
	if seedPath(seed.Name) != path {
		return node.Seed{}, damaged(filepath.Join(f.dir, path), "it is another key's")
	}
	return seed, nil
}

// Seeds lists the seeds that can be read, without what is secret of them. With an error it lists those that it could read
// all the same: a damaged one is fetched again from another member.
func (f *Folder) Seeds() ([]node.Seed, error) {
	dir := filepath.Join(f.dir, keyringsName)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, diskError("read", dir, err)
	}
	var out []node.Seed
	var failed []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), newPrefix) { // never became whole
			failed = append(failed, os.Remove(filepath.Join(dir, e.Name())))
			continue
		}
		if !isSeedName(e.Name()) {
			continue
		}
		seed, err := f.readSeed(filepath.Join(keyringsName, e.Name()))
		if err != nil {
			failed = append(failed, err)
			continue
		}
		clear(seed.Private)
		seed.Private = nil
		out = append(out, seed)
	}
	return out, errors.Join(failed...)
}

// DropSeed removes a seed. One that is not there is removed.
func (f *Folder) DropSeed(name node.SeedName) error {
	path := filepath.Join(f.dir, seedPath(name))
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return diskError("remove", path, err)
	}
	return nil
}

func seedPath(name node.SeedName) string {
	sum := fleet.Sum(wire.Marshal(name))
	return filepath.Join(keyringsName, hex.EncodeToString(sum[:]))
}

// isSeedName reports whether a file is called as seedPath calls it.
func isSeedName(name string) bool {
	raw, err := hex.DecodeString(name)
	return err == nil && len(raw) == sha256.Size && hex.EncodeToString(raw) == name
}

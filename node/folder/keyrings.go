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
// the hash of its public side. A key stays when its keyring is deleted or this host is not in it any more: what was sealed
// to it stays readable, as it would to whoever had kept a copy.
const keyringsName = "keyrings"

// seedBody is what such a file says.
type seedBody struct {
	Keyring string
	Life    fleet.UUID
	Number  uint32
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
	name := seedPath(s.Name.Key)
	body := wire.Marshal(seedBody{s.Keyring, s.Name.Life, s.Name.Number, s.For, s.Private})
	data := append(append(make([]byte, 0, len(header(name))+len(body)+sha256.Size), header(name)...), body...)
	sum := sha256.Sum256(data)
	data = append(data, sum[:]...)
	defer clear(body)
	defer clear(data)
	return WriteFile(filepath.Join(f.dir, name), data, 0o600)
}

// Seed returns the seed of a public key, or fleet.NotFound.
func (f *Folder) Seed(key fleet.ID) (node.Seed, error) {
	var body seedBody
	if err := f.read(seedPath(key), &body); errors.Is(err, fs.ErrNotExist) {
		return node.Seed{}, fleet.Errorf(fleet.NotFound, "the key %s of a keyring is not kept here", key)
	} else if err != nil {
		return node.Seed{}, err
	}
	return node.Seed{
		Name: node.SeedName{Life: body.Life, Number: body.Number, Key: key}, Keyring: body.Keyring, For: body.For, Private: body.Private,
	}, nil
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
		key, ok := seedKey(e.Name())
		if !ok {
			continue
		}
		seed, err := f.Seed(key)
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
func (f *Folder) DropSeed(key fleet.ID) error {
	path := filepath.Join(f.dir, seedPath(key))
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return diskError("remove", path, err)
	}
	return nil
}

func seedPath(key fleet.ID) string { return filepath.Join(keyringsName, hex.EncodeToString(key[:])) }

func seedKey(name string) (key fleet.ID, ok bool) {
	raw, err := hex.DecodeString(name)
	if err != nil || len(raw) != len(key) || hex.EncodeToString(raw) != name {
		return key, false
	}
	return fleet.ID(raw), true
}

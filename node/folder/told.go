package folder

import (
	"os"
	"path/filepath"
)

// PeersOf returns the members that the host in dir was told of last, with their addresses, without opening the folder; none where that
// cannot be read.
func PeersOf(dir string) []Peer { return (&Folder{dir: dir}).Peers() }

// SecretsOf returns the secrets of the host in dir as far as they can be read, without opening the folder: for a search that they stand
// nowhere else.
func SecretsOf(dir string) [][]byte {
	f := &Folder{dir: dir}
	var out [][]byte
	for _, name := range []string{identityName, joiningName} {
		if i, err := readIdentity(dir, name); err == nil {
			out = append(out, i.Seed, i.HPKESeed)
		}
	}
	keys, _ := f.GossipKeys()
	for _, k := range keys {
		out = append(out, k.Key)
	}
	entries, _ := os.ReadDir(filepath.Join(dir, keyringsName))
	for _, e := range entries {
		if !isSeedName(e.Name()) {
			continue
		}
		if s, err := f.readSeed(filepath.Join(keyringsName, e.Name())); err == nil {
			out = append(out, s.Private)
		}
	}
	return out
}

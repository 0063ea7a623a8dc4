package quorum

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// identity is what a node remembers of its replica apart from the replica's files: which incarnation it is, and who
// votes beside it. The latter decides whether a damaged replica may be replaced by an empty one.
type identity struct {
	Format      uint8
	Incarnation uint64
	Earlier     uint64   // incarnations this folder had before
	Index       uint64   // of the configuration the voters are from; 0 before there is one
	Voters      []member // of the newest committed configuration
}

type member struct {
	ID          []byte
	Incarnation uint64
}

const identityFormat = 1

func identityPath(dir string) string { return filepath.Join(dir, "identity") }
func markPath(dir string) string     { return filepath.Join(dir, "mark") }
func replicaPath(dir string) string  { return filepath.Join(dir, "replica") }
func logPath(dir string) string      { return filepath.Join(replicaPath(dir), "raft.db") }

// encode puts a SHA-256 before the msgpack.
func (i identity) encode() []byte {
	body := wire.Marshal(&i)
	sum := sha256.Sum256(body)
	return append(sum[:], body...)
}

func decodeIdentity(data []byte) (identity, error) {
	var i identity
	if len(data) < sha256.Size {
		return i, fleet.Errorf(fleet.Internal, "it is cut short")
	}
	sum := sha256.Sum256(data[sha256.Size:])
	if !bytes.Equal(sum[:], data[:sha256.Size]) {
		return i, fleet.Errorf(fleet.Internal, "its checksum is wrong")
	}
	if err := wire.Unmarshal(data[sha256.Size:], &i); err != nil {
		return i, err
	}
	if i.Format != identityFormat || i.Incarnation == 0 {
		return i, fleet.Errorf(fleet.Internal, "its format is %d; this muster knows format %d", i.Format, identityFormat)
	}
	return i, nil
}

// loadIdentity reads the identity; found is false in a folder that never held a replica.
func loadIdentity(dir string) (i identity, found bool, err error) {
	path := identityPath(dir)
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		_, err := os.Stat(replicaPath(dir))
		if errors.Is(err, os.ErrNotExist) {
			return identity{}, false, nil
		}
		return identity{}, false, unknownReplica(path, fleet.Errorf(fleet.NotFound, "it is missing"))
	}
	if err != nil {
		return identity{}, false, fleet.Errorf(fleet.Unavailable, "cannot read %s: %w", path, err)
	}
	i, err = decodeIdentity(data)
	if err != nil {
		return identity{}, false, unknownReplica(path, err)
	}
	return i, true, nil
}

// unknownReplica refuses: without the identity nobody knows whether this replica is the only one.
func unknownReplica(path string, cause error) error {
	return fleet.Errorf(fleet.Internal, "%s, the identity of this host's replica, is unusable: %w", path, cause).
		Hinted("if other servers of the fleet are up, move %s away: this host then rejoins empty; "+
			"if it is the only server, restore that folder from a backup", filepath.Dir(path))
}

// save replaces the identity file durably.
func (i identity) save(dir string) error {
	if err := writeDurably(identityPath(dir), i.encode()); err != nil {
		return fleet.Errorf(fleet.Unavailable, "cannot write %s: %w", identityPath(dir), err)
	}
	return nil
}

// with returns the identity with the voters of the configuration at index.
func (i identity) with(index uint64, voters []Replica) identity {
	i.Index, i.Voters = index, make([]member, len(voters))
	for n, voter := range voters {
		i.Voters[n] = member{ID: voter.ID[:], Incarnation: voter.Incarnation}
	}
	return i
}

// loss is what becomes of a node whose replica cannot be trusted.
type loss uint8

const (
	startEmpty loss = iota // others hold the state, or there is none yet: rejoin as a new incarnation
	refuse                 // the only voter: what is damaged is all there is
)

// afterLoss decides: an empty replica may take the place of a damaged one when some other replica votes, or when this
// one never had a configuration (it was waiting to be added, so it has promised nothing).
func (i identity) afterLoss(self fleet.ID) loss {
	if i.Index == 0 && len(i.Voters) == 0 {
		return startEmpty
	}
	for _, voter := range i.Voters {
		if !bytes.Equal(voter.ID, self[:]) {
			return startEmpty
		}
	}
	return refuse
}

// writeDurably replaces a file: after a power cut either the old or the new bytes are there.
func writeDurably(path string, data []byte) error {
	file, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

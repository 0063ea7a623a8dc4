package folder

import (
	"crypto/ed25519"
	"crypto/hpke"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Folder is an opened data folder.
type Folder struct {
	dir    string
	lock   *os.File
	record *os.File
	made   bool // by Create, with everything in it

	mu      sync.Mutex // of what follows: the agent's loop appends, its peers' requests read
	size    int64      // of record, all of it good
	starts  []int64    // of each act in record, and of those that wait
	waiting []byte     // acts that the disk did not take yet; they follow what is in record
	heads   []fleet.ID // of the chain after each act that waits
	kept    Floor      // length and head of what is in record

	documents sync.Mutex // of the folder of publications
}

// Identity says who this host is. Its seeds never leave the file.
type Identity struct {
	Fleet    fleet.ID
	Name     string
	Seed     []byte // Ed25519
	HPKESeed []byte // ML-KEM-768 with X25519
}

// Key returns the node's private key.
func (i Identity) Key() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(i.Seed) }

// ID returns the node's ID.
func (i Identity) ID() fleet.ID { return auth.NewSigner(i.Key()).ID() }

// HPKEKey returns the public key that secrets are sealed to.
func (i Identity) HPKEKey() ([]byte, error) {
	key, err := hpke.MLKEM768X25519().DeriveKeyPair(i.HPKESeed)
	if err != nil {
		return nil, err
	}
	return key.PublicKey().Bytes(), nil
}

// Host is how this host is reached.
type Host struct {
	Bind      string   // IP:PORT of the UDP socket
	Advertise []string // IP:PORT, told to others before what the host finds out itself
}

// Outbound is what a host knows of being outbound-only.
type Outbound struct {
	Only bool // nobody can dial it
	Free bool // the others do without the replica that it has from the time when they could
}

// Floor is what may not go back.
type Floor struct {
	Time   int64 // Unix milliseconds: the newest beacon's
	Length uint64
	Head   fleet.ID // of the record at Length
}

// GossipKey is the key of one epoch.
type GossipKey struct {
	Epoch uint32
	Key   []byte
}

// Peer is a member with the addresses it was last seen at.
type Peer struct {
	ID    fleet.ID
	Addrs []string
}

// hpkeSeedSize is what ML-KEM-768 with X25519 derives its keys from here, in bytes.
const hpkeSeedSize = 32

// MaxPeers is how many members' addresses are kept for the next start (decided).
const MaxPeers = 64

// Founding is what the first host of a fleet proposes at its first start.
type Founding struct {
	Acts []FoundingAct
}

// FoundingAct is one act of the founding.
type FoundingAct struct {
	Kind auth.ActKind
	Data []byte
}

// Dir returns the folder's path.
func (f *Folder) Dir() string { return f.dir }

// Close lets go of the folder.
func (f *Folder) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = f.flush() // what the disk does not take comes again from the peers
	var err error
	if f.record != nil {
		err = f.record.Close()
	}
	return errors.Join(err, unlock(f.lock))
}

// Identity reads who this host is.
func (f *Folder) Identity() (Identity, error) {
	i, err := readIdentity(f.dir, "identity")
	return i, hint(err, "restore the file from a backup; without one the host's key is lost: enrol it anew, in an empty folder, "+
		"with a new join string")
}

func readIdentity(dir, name string) (Identity, error) {
	var i Identity
	err := (&Folder{dir: dir}).read(name, &i)
	if err == nil && (len(i.Seed) != ed25519.SeedSize || len(i.HPKESeed) != hpkeSeedSize || i.Fleet.IsZero()) {
		err = damaged(filepath.Join(dir, name), "its keys are malformed")
	}
	return i, err
}

// PutIdentity writes who this host is. It is the last file that makes a folder a host.
func (f *Folder) PutIdentity(i Identity) error {
	err := f.write(identityName, i)
	if err == nil {
		_ = f.shred(joiningName) // else Open does it
	}
	return err
}

// Joining returns the keys of an enrolment of that name in that fleet that was begun here and may have been counted. A
// damaged file is as good as none.
func (f *Folder) Joining(in fleet.ID, name string) (Identity, bool) {
	i, err := readIdentity(f.dir, joiningName)
	return i, err == nil && i.Fleet == in && i.Name == name
}

// PutJoining keeps the keys of an enrolment before it is asked for: who repeats it with the same keys is known already,
// and nothing is counted twice.
func (f *Folder) PutJoining(i Identity) error { return f.write(joiningName, i) }

// Host reads how the host is reached; without the file, it is the default.
func (f *Folder) Host() (Host, error) {
	var h Host
	err := f.read("host", &h)
	return h, hint(orNone(err), "remove the file; the agent then binds 0.0.0.0:7980 (and see muster agent --advertise)")
}

// PutHost writes how the host is reached.
func (f *Folder) PutHost(h Host) error { return f.write("host", h) }

// Outbound reads whether nobody can dial the host. A host that never said so can be dialled.
func (f *Folder) Outbound() (Outbound, error) {
	var outbound Outbound
	err := f.read(outboundName, &outbound)
	return outbound, hint(orNone(err), "remove the file; and start the agent with --outbound if nobody can dial this host")
}

// PutOutbound writes it.
func (f *Folder) PutOutbound(outbound Outbound) error { return f.write(outboundName, outbound) }

// Floor reads what may not go back; a host that never kept one has the zero Floor.
func (f *Folder) Floor() (Floor, error) {
	var floor Floor
	err := f.read("floor", &floor)
	return floor, hint(orNone(err), "restore the file from a backup; without one remove it: the host then trusts its own clock until it hears from a server")
}

// PutFloor writes the floor: its time, and how much of the record is on disk. What of the record waits for the disk is
// tried again first.
func (f *Folder) PutFloor(floor Floor) error {
	f.mu.Lock()
	flushed := f.flush()
	if f.kept.Length < floor.Length {
		floor.Length, floor.Head = f.kept.Length, f.kept.Head
	}
	f.mu.Unlock()
	if err := f.write("floor", floor); flushed == nil {
		return err
	}
	return flushed
}

// GossipKeys reads the keys by epoch.
func (f *Folder) GossipKeys() ([]GossipKey, error) {
	var keys []GossipKey
	err := f.read("gossip-keys", &keys)
	return keys, hint(orNone(err), "remove it; the host fetches the keys from a member")
}

// PutGossipKeys writes the keys.
func (f *Folder) PutGossipKeys(keys []GossipKey) error { return f.write("gossip-keys", keys) }

// Peers reads the addresses of members. They are a hint: a damaged file is as good as none.
func (f *Folder) Peers() []Peer {
	var peers []Peer
	if f.read("peers", &peers) != nil {
		return nil
	}
	return peers
}

// PutPeers writes the addresses of members, MaxPeers of them.
func (f *Folder) PutPeers(peers []Peer) error {
	return f.write("peers", peers[:min(len(peers), MaxPeers)])
}

// Told reads the highest sequence number of what this host has told gossip of itself, 0 where it never told anything. It is
// not known where the file is damaged, or gone from a folder in which an agent ran: members who hold a higher one say so.
func (f *Folder) Told() (sequence uint64, known bool) {
	err := f.read("told", &sequence)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, !f.ran()
	}
	if err != nil {
		return 0, false
	}
	return sequence, true
}

// ran reports whether an agent ever ran in the folder.
func (f *Folder) ran() bool {
	return slices.ContainsFunc(lived, func(name string) bool {
		_, err := os.Lstat(filepath.Join(f.dir, name))
		return err == nil
	})
}

// PutTold writes it. A sequence is told only afterwards: what members hold above it, somebody else has told.
func (f *Folder) PutTold(sequence uint64) error { return f.write("told", sequence) }

// Founding reads what is to be proposed at the first start, or nil.
func (f *Folder) Founding() (*Founding, error) {
	var founding Founding
	err := f.read("founding", &founding)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return &founding, hint(err, "the fleet was not founded yet: remove the folder and the new keys, and run muster init again")
}

// PutFounding writes what is to be proposed at the first start.
func (f *Folder) PutFounding(founding Founding) error { return f.write("founding", founding) }

// Founded removes the founding, which is done.
func (f *Folder) Founded() error {
	path := filepath.Join(f.dir, "founding")
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return diskError("remove", path, err)
	}
	if err := syncDir(f.dir); err != nil {
		return diskError("write", f.dir, err)
	}
	return nil
}

func orNone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func hint(err error, text string) error {
	if e, ok := errors.AsType[*fleet.Error](err); ok && e.Hint == "" {
		return e.Hinted("%s", text)
	}
	return err
}

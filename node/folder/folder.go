package folder

import (
	"crypto/ed25519"
	"crypto/hpke"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Folder is an opened data folder.
type Folder struct {
	dir    string
	lock   *os.File
	record *os.File

	mu     sync.Mutex // of what follows: the agent's loop appends, its peers' requests read
	size   int64      // of record, all of it good
	starts []int64    // of each act in record
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

// Exists reports whether dir holds an identity.
func Exists(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "identity"))
	return err == nil
}

// Create makes the folder of a new host. A folder that is one already is refused.
func Create(dir string) (*Folder, error) {
	if Exists(dir) {
		return nil, fleet.Errorf(fleet.Conflict, "%s holds a host's identity already", dir).
			Hinted("start it: muster agent --data-dir %s; or choose another folder with --data-dir", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, diskError("make", dir, err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, diskError("protect", dir, err)
	}
	return lockFolder(dir)
}

// Open opens the folder of a host that was made by init or join.
func Open(dir string) (*Folder, error) {
	if !Exists(dir) {
		return nil, fleet.Errorf(fleet.NotFound, "%s holds no host of a fleet", dir).
			Hinted("found a fleet with muster init, or enrol with muster join STRING")
	}
	return lockFolder(dir)
}

func lockFolder(dir string) (*Folder, error) {
	path := filepath.Join(dir, "lock")
	lock, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, diskError("open", path, err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fleet.Errorf(fleet.Conflict, "another agent runs in %s", dir).
				Hinted("talk to it: muster --data-dir %s status", dir)
		}
		return nil, diskError("lock", path, err)
	}
	return &Folder{dir: dir, lock: lock}, nil
}

// Dir returns the folder's path.
func (f *Folder) Dir() string { return f.dir }

// Close lets go of the folder.
func (f *Folder) Close() error {
	var err error
	if f.record != nil {
		err = f.record.Close()
	}
	return errors.Join(err, f.lock.Close())
}

// Identity reads who this host is.
func (f *Folder) Identity() (Identity, error) {
	var i Identity
	err := f.read("identity", &i)
	if err == nil && (len(i.Seed) != ed25519.SeedSize || i.Fleet.IsZero()) {
		err = damaged(filepath.Join(f.dir, "identity"), "its keys are malformed")
	}
	return i, hint(err, "the host's key is lost: enrol it anew, in an empty folder, with a new join string")
}

// PutIdentity writes who this host is. It is the last file that makes a folder a host.
func (f *Folder) PutIdentity(i Identity) error { return f.write("identity", i) }

// Host reads how the host is reached.
func (f *Folder) Host() (Host, error) {
	var h Host
	return h, hint(f.read("host", &h), "remove the file; the agent then binds 0.0.0.0:7980")
}

// PutHost writes how the host is reached.
func (f *Folder) PutHost(h Host) error { return f.write("host", h) }

// Floor reads what may not go back; a host that never kept one has the zero Floor.
func (f *Folder) Floor() (Floor, error) {
	var floor Floor
	err := f.read("floor", &floor)
	return floor, hint(orNone(err), "if no backup of it exists, remove it; the host then trusts its own clock until it hears a beacon")
}

// PutFloor writes the floor.
func (f *Folder) PutFloor(floor Floor) error { return f.write("floor", floor) }

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

// Founding reads what is to be proposed at the first start, or nil.
func (f *Folder) Founding() (*Founding, error) {
	var founding Founding
	err := f.read("founding", &founding)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return &founding, hint(err, "the fleet was not founded yet: remove the folder and run muster init again")
}

// PutFounding writes what is to be proposed at the first start.
func (f *Folder) PutFounding(founding Founding) error { return f.write("founding", founding) }

// Founded removes the founding, which is done.
func (f *Folder) Founded() error {
	path := filepath.Join(f.dir, "founding")
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return diskError("remove", path, err)
	}
	return syncDir(f.dir)
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

package authtest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// epoch is the moment at which every fleet of this package is founded.
var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// TokenLife is how long tokens of this package live unless a test says otherwise.
const TokenLife = 24 * time.Hour

// Fleet is a fleet with all its private keys. Methods that make statements look only at Record and Now; a test whose
// record grows elsewhere (in a quorum) sets Record to that one and goes on. It is not safe for concurrent use.
type Fleet struct {
	Seed     string
	Now      time.Time     // the time of the next statement and act; statements do not move it
	Record   auth.Record   // everything taken
	Acts     []auth.Act    // the same, as acts
	Roots    []auth.Signer // the working root and the recovery root; one is enough for a change
	Operator auth.Signer   // "ada", of the team that may do everything
	Nodes    []Node        // enrolled by this fixture, in order; the first is an eligible server
	Secrets  bool          // nodes made from now on have HPKE keys that work; each takes a tenth of a millisecond
	// SealSeed seals the seed of a keyring's epoch to a public key; nil: the boxes hold nothing. The fixture cannot do it
	// itself: what is sealed how is decided above it.
	SealSeed func(keyring string, life fleet.UUID, number uint32, seed, public []byte) []byte
	names    map[string]int // keys made, by name
	ids      int            // statement IDs made
}

// Node is a node with its private keys.
type Node struct {
	Name    string
	ID      fleet.ID
	Key     ed25519.PrivateKey
	Signer  auth.Signer
	HPKE    fleet.ID // hash of its HPKE public key; without Fleet.Secrets it stands for one that nobody made
	Private []byte   // HPKE private key, with Fleet.Secrets
}

// OperatorName is the name of Fleet.Operator.
const OperatorName = "ada"

// Key returns the private key that belongs to a seed.
func Key(seed string) ed25519.PrivateKey {
	sum := sha256.Sum256([]byte("authtest key " + seed))
	return ed25519.NewKeyFromSeed(sum[:])
}

// Signer returns Key as a signer.
func Signer(seed string) auth.Signer { return auth.NewSigner(Key(seed)) }

// Empty returns the keys of a fleet that nobody has founded yet.
func Empty(seed string) *Fleet {
	f := &Fleet{Seed: seed, Now: epoch, Record: auth.NewRecord(), names: map[string]int{}}
	f.Roots = []auth.Signer{f.signer("root"), f.signer("recovery root")}
	f.Operator = f.signer("operator " + OperatorName)
	return f
}

// Found founds a fleet: the charter's genesis, the operator, and the first node, "node-0", a server that countersigned
// itself.
func Found(seed string) *Fleet { return Empty(seed).founded() }

// FoundWithSecrets is Found of a fleet with Secrets.
func FoundWithSecrets(seed string) *Fleet {
	f := Empty(seed)
	f.Secrets = true
	return f.founded()
}

func (f *Fleet) founded() *Fleet {
	for _, p := range f.Founding() {
		f.MustTake(p)
	}
	return f
}

// Proposal is an act that the quorum has not ordered yet.
type Proposal struct {
	Kind auth.ActKind
	Data []byte
}

// Founding returns the three acts that found the fleet, and adds the first node to Nodes. Take them in order.
func (f *Fleet) Founding() []Proposal {
	genesis := f.Genesis()
	charter := must(auth.Found(genesis, fleet.ID{}))
	operator := auth.SignCharter(charter, f.header(charter.Head(), 0, 0), auth.CharterPutOperator, f.operator(OperatorName, auth.RootTeam), f.Roots[0])
	charter = must(charter.Append(operator))
	head := f.header(charter.Head(), 0, TokenLife)
	join := f.signer("join")
	token := auth.Token{Header: head, Join: join.Public(), Uses: 1, Server: true}
	first := f.NewNode("node-0")
	f.Nodes = append(f.Nodes, first)
	enrolment := f.enrol(charter.Fleet(), f.Operator.Sign(auth.ForToken, charter.Fleet(), token), token, join, first, first, head)
	return []Proposal{
		{auth.ActCharter, wire.Marshal(genesis)},
		{auth.ActCharter, wire.Marshal(operator)},
		{auth.ActEnrol, enrolment.Encode()},
	}
}

// Genesis returns the charter's first entry, signed by the working root.
func (f *Fleet) Genesis() auth.CharterEntry {
	genesis := auth.Genesis{Name: "testfleet", Nonce: fleet.Sum([]byte(f.Seed)), Threshold: 1, Recovery: Public(f.RecoveryPrivate())}
	for _, root := range f.Roots {
		genesis.Roots = append(genesis.Roots, root.Public())
	}
	return auth.SignCharter(nil, f.header(fleet.ID{}, 0, 0), auth.CharterGenesis, genesis, f.Roots[0])
}

// ID returns the fleet's ID.
func (f *Fleet) ID() fleet.ID { return f.Record.Charter.Fleet() }

// Advance moves the fleet's time on.
func (f *Fleet) Advance(d time.Duration) { f.Now = f.Now.Add(d) }

// Take takes an act into Record as the quorum would, with the next act index and the time Now.
func (f *Fleet) Take(p Proposal) error {
	act := auth.Act{Index: f.Record.Act + 1, Time: f.Now.UnixMilli(), Kind: p.Kind, Data: p.Data}
	next, err := f.Record.Apply(act, fleet.ID{})
	if err != nil {
		return err
	}
	f.Record, f.Acts = next, append(f.Acts, act)
	return nil
}

// MustTake is Take of what cannot be refused.
func (f *Fleet) MustTake(p Proposal) {
	if err := f.Take(p); err != nil {
		panic("authtest: " + err.Error())
	}
}

// Header begins a statement made now: a new ID, the newest head and act, and an end after life (0: none).
func (f *Fleet) Header(life time.Duration) auth.Header {
	return f.header(f.Record.Charter.Head(), f.Record.Act, life)
}

func (f *Fleet) header(head fleet.ID, act uint64, life time.Duration) auth.Header {
	h := auth.Header{ID: f.NewID(), Issued: f.Now.UnixMilli(), Charter: head, Act: act, Mode: auth.ByQuorum}
	if life != 0 {
		h.Expires = f.Now.Add(life).UnixMilli()
	}
	return h
}

// NewID returns a statement ID that was not used yet.
func (f *Fleet) NewID() fleet.UUID {
	f.ids++
	sum := sha256.Sum256(fmt.Appendf(nil, "authtest id %s %d", f.Seed, f.ids))
	return fleet.UUID(sum[:16])
}

// signer returns a key that is new even where its name was used before.
func (f *Fleet) signer(name string) auth.Signer {
	return auth.NewSigner(f.key(name))
}

func (f *Fleet) key(name string) ed25519.PrivateKey {
	f.names[name]++
	return Key(fmt.Sprintf("%s %s %d", f.Seed, name, f.names[name]))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic("authtest: " + err.Error())
	}
	return v
}

// Clone returns a fleet that goes its own way from here: the same history, and the same keys and IDs for the same steps.
func (f *Fleet) Clone() *Fleet {
	c := *f
	c.Acts, c.Nodes, c.names = slices.Clip(f.Acts), slices.Clip(f.Nodes), maps.Clone(f.names)
	return &c
}

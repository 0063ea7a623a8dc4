package shape

import (
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Keyrings is the answer of GET /v1/keyrings.
type Keyrings struct {
	Format   int       `json:"format"`
	Recovery []byte    `json:"recovery,omitempty"` // public key; base64, as all bytes
	Keyrings []Keyring `json:"keyrings"`
}

// Keyring is a group of nodes with a key that they share.
type Keyring struct {
	Name    string          `json:"name"`
	Life    fleet.UUID      `json:"life"`
	Target  string          `json:"target"`
	Changed time.Time       `json:"changed,omitzero"`
	By      string          `json:"by"`
	Due     string          `json:"due,omitempty"`   // why its members must make a new epoch
	Closed  bool            `json:"closed,omitzero"` // nothing can be sealed to it before they have
	Alone   string          `json:"alone,omitempty"` // the member that made the key in use, if no other that answered holds it
	Members []KeyringMember `json:"members"`
	Could   []KeyringFormer `json:"could_read"`
	Epochs  []KeyringEpoch  `json:"epochs"` // oldest first
}

// KeyringMember is a node that may read what is sealed to a keyring.
type KeyringMember struct {
	ID    fleet.ID `json:"id"`
	Name  string   `json:"name"`
	Alive bool     `json:"alive"`
	Said  bool     `json:"said"`           // it answered
	Holds uint32   `json:"holds,omitzero"` // the newest epoch whose key it holds
}

// KeyringFormer is a node that was a member.
type KeyringFormer struct {
	ID   fleet.ID  `json:"id"`
	Name string    `json:"name"`
	Last uint32    `json:"last"`
	Left time.Time `json:"left,omitzero"`
}

// KeyringEpoch is the public side of one epoch of a keyring's key.
type KeyringEpoch struct {
	Number  uint32     `json:"number"`
	Key     []byte     `json:"key"`
	Made    time.Time  `json:"made,omitzero"`
	By      string     `json:"by"`
	ByNode  fleet.ID   `json:"by_node,omitzero"`
	Need    int        `json:"need"`
	Holders []fleet.ID `json:"holders"`
	Escrow  []Escrow   `json:"escrow"`
	Used    time.Time  `json:"used,omitzero"`
}

// Escrow is an epoch's secret, sealed for an operator, or, without one, for recovery.
type Escrow struct {
	Operator string   `json:"operator,omitempty"`
	Key      fleet.ID `json:"key"`
	Box      []byte   `json:"box"`
}

// PublicKey is the answer of GET /v1/nodes/{node}/hpke.
type PublicKey struct {
	Key []byte `json:"key"`
}

// SecretRef is the body of POST /v1/params/open: one exact version of a secret.
type SecretRef struct {
	Name    string   `json:"name"`
	Born    int64    `json:"born"` // Unix milliseconds, exactly
	Version uint32   `json:"version"`
	Digest  fleet.ID `json:"digest"`
}

// Opened is the answer of POST /v1/params/open.
type Opened struct {
	Value []byte `json:"value"`
}

// OfKeyrings returns the shape of l.
func OfKeyrings(l node.KeyringList) Keyrings {
	out := Keyrings{Format: Format, Recovery: l.Recovery, Keyrings: []Keyring{}}
	for _, k := range l.All {
		out.Keyrings = append(out.Keyrings, ofKeyring(k))
	}
	return out
}

func ofKeyring(k node.KeyringInfo) Keyring {
	out := Keyring{
		Name: k.Name, Life: k.Life, Target: k.Target, Changed: At(k.Changed), By: k.By, Due: k.Due, Closed: k.Closed, Alone: k.Alone,
		Members: []KeyringMember{}, Could: []KeyringFormer{}, Epochs: []KeyringEpoch{},
	}
	for _, m := range k.Members {
		out.Members = append(out.Members, KeyringMember(m))
	}
	for _, f := range k.Could {
		out.Could = append(out.Could, KeyringFormer{f.ID, f.Name, f.Last, At(f.Left)})
	}
	for _, e := range k.Epochs {
		out.Epochs = append(out.Epochs, ofEpoch(e))
	}
	return out
}

func ofEpoch(e auth.KeyEpoch) KeyringEpoch {
	out := KeyringEpoch{
		Number: e.Number, Key: e.Key, Made: At(e.Made), By: e.By, ByNode: e.ByNode, Need: e.Need,
		Holders: e.Holders, Escrow: []Escrow{}, Used: At(e.Used),
	}
	if out.Holders == nil {
		out.Holders = []fleet.ID{}
	}
	for _, x := range e.Escrow {
		out.Escrow = append(out.Escrow, Escrow(x))
	}
	return out
}

// List returns what OfKeyrings was given.
func (k Keyrings) List() node.KeyringList {
	out := node.KeyringList{Recovery: k.Recovery}
	for _, of := range k.Keyrings {
		out.All = append(out.All, of.info())
	}
	return out
}

func (k Keyring) info() node.KeyringInfo {
	out := node.KeyringInfo{Name: k.Name, Life: k.Life, Target: k.Target, Changed: Milli(k.Changed), By: k.By, Due: k.Due, Closed: k.Closed, Alone: k.Alone}
	for _, m := range k.Members {
		out.Members = append(out.Members, node.KeyringMember(m))
	}
	for _, f := range k.Could {
		out.Could = append(out.Could, node.KeyringFormer{ID: f.ID, Name: f.Name, Last: f.Last, Left: Milli(f.Left)})
	}
	for _, e := range k.Epochs {
		epoch := auth.KeyEpoch{
			Number: e.Number, Key: e.Key, Made: Milli(e.Made), By: e.By, ByNode: e.ByNode, Need: e.Need, Holders: e.Holders, Used: Milli(e.Used),
		}
		for _, x := range e.Escrow {
			epoch.Escrow = append(epoch.Escrow, auth.Escrow(x))
		}
		out.Epochs = append(out.Epochs, epoch)
	}
	return out
}

// OfSecretRef returns the shape of r.
func OfSecretRef(r node.SecretRef) SecretRef { return SecretRef(r) }

// Ref returns what OfSecretRef was given.
func (r SecretRef) Ref() node.SecretRef { return node.SecretRef(r) }

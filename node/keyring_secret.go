package node

import (
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// SecretRef names one version of a secret, and what it must be.
type SecretRef struct {
	Name    string
	Born    int64 // Unix milliseconds
	Version uint32
	Digest  fleet.ID // of the encoded content
}

// Opened is a secret that was decrypted.
type Opened struct {
	Value []byte
	Tags  map[string]string // of the version, as its writer signed them
}

// String hides the value: an Opened that is logged by mistake tells nothing.
func (Opened) String() string { return "(a secret)" }

// GoString is String.
func (o Opened) GoString() string { return o.String() }

// SecretItem returns what a node read of a version, with what is sealed. Where the leader itself did not answer, what is
// missing may come yet.
func SecretItem(read ParamsRead, ref SecretRef) (params.Item, error) {
	missing, denied := fleet.NotFound, fleet.Denied
	if read.Source != FromLeader {
		missing, denied = fleet.Unavailable, fleet.Unavailable
	}
	if len(read.Answer.Items) != 1 {
		why := "nobody knows it"
		if len(read.Answer.Missing) > 0 {
			why = read.Answer.Missing[0].Why
		}
		return params.Item{}, fleet.Errorf(missing, "version %d of parameter %s cannot be read here: %s", ref.Version, ref.Name, why)
	}
	if len(read.Answer.Items[0].Content) != 1 {
		return params.Item{}, fleet.Errorf(denied, "version %d of parameter %s came without what is sealed: policy does not let this host have it", ref.Version, ref.Name).
			Hinted("the charter's policy says who may param.decrypt")
	}
	return read.Answer.Items[0], nil
}

// CheckSecret verifies an item that somebody answered with: it is the version that ref names, an operator wrote it, and it is
// a secret with what is sealed.
func CheckSecret(record auth.Record, item params.Item, ref SecretRef) (params.Put, params.Sealed, error) {
	put, err := params.Verify(item, record.Charter)
	if err != nil {
		return put, params.Sealed{}, err
	}
	switch {
	case put.Name != ref.Name || put.Born != ref.Born || put.Version != ref.Version || put.Digest != ref.Digest:
		return put, params.Sealed{}, fleet.Errorf(fleet.Denied, "version %d of parameter %s was asked for, and another came", ref.Version, ref.Name)
	case put.Type != params.SecureString:
		return put, params.Sealed{}, fleet.Errorf(fleet.Invalid, "parameter %s is no secret", put.Name)
	case len(item.Content) != 1:
		return put, params.Sealed{}, fleet.Errorf(fleet.Invalid, "version %d of parameter %s without what is sealed", put.Version, put.Name)
	}
	content, err := put.Open(item.Content[0])
	if err != nil {
		return put, params.Sealed{}, err
	}
	return put, content.Sealed[0], nil // put.Open makes sure that a secret has one
}

// MayOpen reports why policy does not let this node, or an account of it that is not its root, decrypt a secret, or nil.
// account is empty for the node itself.
func MayOpen(record auth.Record, self fleet.ID, account string, put params.Put) error {
	entry, err := record.Roster.Enrolled(self)
	if err != nil {
		return err
	}
	who := entry.AsPrincipal()
	if account != "" {
		who = entry.LocalUser(account)
	}
	for _, action := range []auth.Action{auth.ActReadParam, auth.ActDecryptParam} {
		_, err := record.Charter.Policy().Decide(auth.Ask{Principal: who, Action: action, Resource: auth.ParameterResource(put.Name, put.Tags)})
		if err != nil {
			return err
		}
	}
	return nil
}

// SecretReader picks the reader of a secret that this node can be: the place of a keyring whose seed is here. Unavailable:
// it is a reader, but has not got the key yet; Denied: it is none.
func SecretReader(record auth.Record, self fleet.ID, put params.Put, holds func(SeedName) bool) (int, error) {
	waits := ""
	for i, r := range put.Readers {
		if r.Kind != params.ByKeyring {
			continue
		}
		if holds(SeedOf(r)) {
			return i, nil
		}
		if k, ok := record.Keyrings.Get(r.Name); ok && k.Life == r.Life && record.InKeyring(r.Name, self) && waits == "" {
			waits = r.Name
		}
	}
	if waits != "" {
		return 0, fleet.Errorf(fleet.Unavailable, "this host is in keyring %s and waits for its key; version %d of %s is sealed to it",
			waits, put.Version, put.Name).
			Hinted("it comes from any member that has it; if none is up, an operator can hand it over: muster keyring show %s", waits)
	}
	return 0, fleet.Errorf(fleet.Denied, "this host is no reader of version %d of parameter %s; its readers are %s",
		put.Version, put.Name, params.ReaderNames(put.Readers)).
		Hinted("muster param put %s --readers keyring:K makes a version for the nodes of a keyring", put.Name)
}

// SeedOf names the seed that opens for a reader which is a keyring.
func SeedOf(r params.Reader) SeedName { return SeedName{Life: r.Life, Number: r.Epoch, Key: r.Key} }

// SecretPlace is where a version of a secret was sealed for.
func SecretPlace(id fleet.ID, put params.Put) params.Binding {
	return params.Binding{Fleet: id, Name: put.Name, Born: put.Born, Version: put.Version}
}

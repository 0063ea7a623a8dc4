package consensus

import (
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// checkReaders reports which reader of a secret is none by the record of this moment, or nil. Whether it is really sealed
// for them only they can see.
func (w *changing) checkReaders(put *params.Put) error {
	for _, r := range put.Readers {
		if err := w.checkReader(put.Name, r); err != nil {
			return err
		}
	}
	return nil
}

func (w *changing) checkReader(name string, r params.Reader) error {
	switch r.Kind {
	case params.ByKeyring:
		return w.checkKeyring(name, r)
	case params.ByOperator:
		op, ok := w.operator(r.Name)
		if !ok {
			return fleet.Errorf(fleet.NotFound, "parameter %s is sealed for %s, who is no operator (InvalidKeyId)", name, r.Name).Hinted("muster operator list")
		}
		if op.Expires != 0 && w.state.Time >= op.Expires {
			return fleet.Errorf(fleet.Expired, "parameter %s is sealed for %s, whose key has expired (InvalidKeyId)", name, r.Name).Hinted("muster operator list")
		}
		return checkReaderKey(name, r, op.HPKE)
	case params.ByRecovery:
		return checkReaderKey(name, r, w.state.Record.Charter.Recovery())
	}
	return fleet.Errorf(fleet.Invalid, "parameter %s has a reader of kind %d, not understood by this version", name, r.Kind)
}

func checkReaderKey(name string, r params.Reader, key []byte) error {
	if len(key) == 0 || fleet.Sum(key) != r.Key {
		return fleet.Errorf(fleet.Conflict, "parameter %s is sealed for another key than %s has (InvalidKeyId)", name, r).Hinted("put it again")
	}
	return nil
}

func (w *changing) checkKeyring(name string, r params.Reader) error {
	keyring, epoch, err := w.state.Record.Sealable(r.Name)
	if err != nil {
		return err
	}
	if keyring.Life != r.Life || epoch.Number != r.Epoch || epoch.KeyID() != r.Key {
		return fleet.Errorf(fleet.Conflict, "parameter %s is sealed for epoch %d of %s, whose secrets are sealed for epoch %d now (InvalidKeyId)", name, r.Epoch, r, epoch.Number).
			Hinted("put it again")
	}
	return nil
}

// operator finds a standing operator by name. The charter looks through all of them, so they are listed once.
func (w *changing) operator(name string) (auth.Operator, bool) {
	if w.standing == nil {
		w.standing = map[string]auth.Operator{}
		for _, op := range w.state.Record.Charter.Operators() {
			w.standing[op.Name] = op
		}
	}
	op, ok := w.standing[name]
	return op, ok
}

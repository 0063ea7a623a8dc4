package authtest

import (
	"crypto/hpke"
	"crypto/sha256"
	"fmt"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// Private returns the HPKE private key that belongs to a seed.
func Private(seed string) []byte {
	sum := sha256.Sum256([]byte("authtest secrets " + seed))
	return sum[:]
}

// Public returns the HPKE public key of a private one.
func Public(private []byte) []byte {
	return must(hpke.MLKEM768X25519().NewPrivateKey(private)).PublicKey().Bytes()
}

// RecoveryPrivate returns the private key of the fleet's recovery recipient.
func (f *Fleet) RecoveryPrivate() []byte { return Private(f.Seed + " recovery") }

// OperatorPrivate returns the private key for secrets of the operator of that name.
func (f *Fleet) OperatorPrivate(name string) []byte { return Private(f.Seed + " operator " + name) }

// EpochSeed returns the seed of a keyring's epoch: its HPKE private key.
func (f *Fleet) EpochSeed(keyring string, life fleet.UUID, number uint32) []byte {
	return Private(fmt.Sprintf("%s keyring %s %x %d", f.Seed, keyring, life, number))
}

// epochKey is the public side of an epoch, with its seed for those who keep it.
func (f *Fleet) epochKey(keyring string, life fleet.UUID, number uint32, keepers []auth.Keeper) auth.EpochKey {
	seed := f.EpochSeed(keyring, life, number)
	out := auth.EpochKey{Key: Public(seed)}
	for _, k := range keepers {
		box := []byte("no box at all")
		if f.SealSeed != nil {
			box = f.SealSeed(keyring, life, number, seed, k.Key)
		}
		out.Escrow = append(out.Escrow, auth.Escrow{Operator: k.Operator, Key: fleet.Sum(k.Key), Box: box})
	}
	return out
}

// keyringChange makes the act of a change, signed by the operator.
func (f *Fleet) keyringChange(c auth.KeyringChange) Proposal {
	return Proposal{auth.ActKeyring, wire.Marshal(f.Sign(auth.ForKeyring, c))}
}

// NewKeyring makes the act that makes a keyring. Its first seed is EpochSeed, kept by the operator and recovery.
func (f *Fleet) NewKeyring(name, target string) Proposal {
	c := auth.KeyringChange{Header: f.Header(0), Name: name, Target: target}
	keepers := []auth.Keeper{{Operator: OperatorName, Key: Public(f.OperatorPrivate(OperatorName))}}
	if recovery := f.Record.Charter.Recovery(); len(recovery) > 0 {
		keepers = append(keepers, auth.Keeper{Key: recovery})
	}
	c.First = []auth.EpochKey{f.epochKey(name, c.Header.ID, 1, keepers)}
	return f.keyringChange(c)
}

// AddKeyring makes a keyring and takes it in.
func (f *Fleet) AddKeyring(name, target string) *auth.Keyring {
	f.MustTake(f.NewKeyring(name, target))
	return f.Keyring(name)
}

// Keyring returns the keyring of that name, which must be there.
func (f *Fleet) Keyring(name string) *auth.Keyring {
	k, ok := f.Record.Keyrings.Get(name)
	if !ok {
		panic("authtest: no keyring " + name)
	}
	return k
}

// ChangeKeyring makes the act that gives a keyring a target, and, if rotate is set, asks for a new epoch.
func (f *Fleet) ChangeKeyring(name, target string, rotate bool) Proposal {
	return f.keyringChange(auth.KeyringChange{Header: f.Header(0), Name: name, Target: target, Rotate: rotate})
}

// DeleteKeyring makes the act that deletes a keyring.
func (f *Fleet) DeleteKeyring(name string) Proposal {
	return f.keyringChange(auth.KeyringChange{Header: f.Header(0), Name: name})
}

// KeyringEpoch makes the act by which a member makes the next epoch, of which so many members must hold the seed.
func (f *Fleet) KeyringEpoch(name string, maker Node, need uint8) Proposal {
	k := f.Keyring(name)
	number := k.Newest().Number + 1
	body := auth.KeyringEpoch{
		Header: f.Header(0), Keyring: name, Life: k.Life, Number: number, Need: need,
		Epoch: f.epochKey(name, k.Life, number, f.Record.EscrowFor(name, f.Now.UnixMilli())),
	}
	return Proposal{auth.ActKeyringEpoch, wire.Marshal(maker.Signer.Sign(auth.ForKeyringEpoch, f.ID(), body))}
}

// KeyringHolding makes the act by which a member says that it holds the newest epoch's seed.
func (f *Fleet) KeyringHolding(name string, holder Node) Proposal {
	k := f.Keyring(name)
	body := auth.KeyringHolding{Header: f.Header(0), Keyring: name, Life: k.Life, Number: k.Newest().Number}
	return Proposal{auth.ActKeyringHolding, wire.Marshal(holder.Signer.Sign(auth.ForKeyringHolding, f.ID(), body))}
}

// RotateKeyring asks for a new epoch, which maker makes and as few as may be must hold, and takes all of that in.
func (f *Fleet) RotateKeyring(name string, maker Node) *auth.Keyring {
	f.MustTake(f.ChangeKeyring(name, f.Keyring(name).Target.String(), true))
	f.MustTake(f.KeyringEpoch(name, maker, uint8(f.Record.LeastNeed(name, f.Now.UnixMilli()))))
	for _, n := range f.Nodes {
		if e := f.Keyring(name).Newest(); e.Used == 0 && n.ID != maker.ID && f.Record.InKeyring(name, n.ID) {
			f.MustTake(f.KeyringHolding(name, n))
		}
	}
	return f.Keyring(name)
}

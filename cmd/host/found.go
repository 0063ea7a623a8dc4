package host

import (
	"crypto/ed25519"
	"crypto/rand"
	"net"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/node/folder"
)

// NewHost is what init and join make a data folder from.
type NewHost struct {
	Dir       string
	Name      string
	Bind      string
	Advertise []string
	Outbound  bool              // join only: nobody can dial this host
	Tags      map[string]string // init only: a joiner's come with its token
	Socket    net.PacketConn    // join only, instead of binding one, and closed by it: tests
}

// Founder is who founds a fleet.
type Founder struct {
	Fleet    string
	Operator string
	Key      ed25519.PrivateKey // operator's
	HPKE     []byte             // operator's public key for secrets
	Root     ed25519.PrivateKey
	Recovery ed25519.PublicKey
	// RecoveryHPKE is the recovery recipient's public key for secrets; empty: there is none.
	RecoveryHPKE []byte
	// Keep keeps the founder's keys; a fleet that nobody can command is none. It is called before the folder becomes a
	// host's; an error of it ends the founding. May be nil.
	Keep func(fleet.ID) error
}

func (by Founder) keep(id fleet.ID) error {
	if by.Keep == nil {
		return nil
	}
	return by.Keep(id)
}

// tokenLife of the token by which the first host enrols itself.
const tokenLife = 10 * time.Minute

// Found makes the data folder of a fleet's first host and returns the fleet's ID. Nothing is there if it fails.
func Found(n NewHost, by Founder, now time.Time) (fleet.ID, error) {
	if err := n.check(); err != nil {
		return fleet.ID{}, err
	}
	f, err := folder.Create(n.Dir)
	if err != nil {
		return fleet.ID{}, err
	}
	id, err := found(f, n, by, now)
	if err != nil {
		return fleet.ID{}, discard(f, err)
	}
	return id, f.Close()
}

// discard undoes the making of a folder; why is what is said about it.
func discard(f *folder.Folder, why error) error {
	_ = f.Discard() // a disk that refuses this was the trouble already
	return why
}

func found(f *folder.Folder, n NewHost, by Founder, now time.Time) (fleet.ID, error) {
	identity, hpkeHash, err := newIdentity(n.Name)
	if err != nil {
		return fleet.ID{}, err
	}
	var key [32]byte
	rand.Read(key[:])
	founding, fleetID, err := foundingActs(n, by, identity, hpkeHash, fleet.Sum(key[:]), now)
	if err != nil {
		return fleet.ID{}, err
	}
	identity.Fleet = fleetID
	for _, put := range []func() error{
		func() error { return f.PutHost(folder.Host{Bind: n.Bind, Advertise: n.Advertise}) },
		func() error { return f.PutGossipKeys([]folder.GossipKey{{Epoch: 1, Key: key[:]}}) },
		func() error { return f.PutFounding(founding) },
		func() error { return by.keep(fleetID) },
		func() error { return f.PutIdentity(identity) }, // last: from here on it is a host
	} {
		if err := put(); err != nil {
			return fleet.ID{}, err
		}
	}
	return fleetID, nil
}

func (n NewHost) check() error {
	if err := fleet.CheckName(n.Name); err != nil {
		return err
	}
	if _, err := ParseBind(n.Bind); err != nil {
		return err
	}
	if _, err := parseAddrs(n.Advertise); err != nil {
		return err
	}
	return fleet.CheckTags(n.Tags)
}

func newIdentity(name string) (folder.Identity, fleet.ID, error) {
	identity := folder.Identity{Name: name, Seed: make([]byte, ed25519.SeedSize), HPKESeed: make([]byte, 32)}
	rand.Read(identity.Seed)
	rand.Read(identity.HPKESeed)
	public, err := identity.HPKEKey()
	return identity, fleet.Sum(public), err
}

func newUUID() (id fleet.UUID) {
	rand.Read(id[:])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // RFC 9562, version 4
	return id
}

// foundingActs signs what a fleet begins with: its genesis, its first operator, its first node, its gossip key. They
// are applied here once, so that a mistake shows before anything is on disk.
func foundingActs(n NewHost, by Founder, identity folder.Identity, hpkeHash, gossip fleet.ID, now time.Time) (folder.Founding, fleet.ID, error) {
	root, operator, self := auth.NewSigner(by.Root), auth.NewSigner(by.Key), auth.NewSigner(identity.Key())
	ms := now.UnixMilli()
	header := func(head fleet.ID) auth.Header {
		return auth.Header{ID: newUUID(), Issued: ms, Charter: head, Mode: auth.ByQuorum}
	}
	var nonce fleet.ID
	rand.Read(nonce[:])
	genesis := auth.SignCharter(nil, header(fleet.ID{}), auth.CharterGenesis, auth.Genesis{
		Name: by.Fleet, Nonce: nonce, Roots: [][]byte{root.Public(), by.Recovery}, Threshold: 1, Recovery: by.RecoveryHPKE,
	}, root)
	charter, err := auth.Found(genesis, fleet.ID{})
	if err != nil {
		return folder.Founding{}, fleet.ID{}, err
	}
	id := charter.Fleet()
	put := auth.SignCharter(charter, header(charter.Head()), auth.CharterPutOperator, auth.Operator{
		Name: by.Operator, Key: operator.Public(), HPKE: by.HPKE, Teams: []string{auth.RootTeam},
	}, root)
	if charter, err = charter.Append(put); err != nil {
		return folder.Founding{}, id, err
	}
	var seed [ed25519.SeedSize]byte
	rand.Read(seed[:])
	join := auth.NewSigner(ed25519.NewKeyFromSeed(seed[:]))
	scope := auth.Token{Header: header(charter.Head()), Join: join.Public(), Uses: 1, Tags: n.Tags, Server: true}
	scope.Header.Expires = ms + tokenLife.Milliseconds()
	request := join.Sign(auth.ForEnrol, id, auth.EnrolRequest{
		Header: header(charter.Head()), Token: scope.Header.ID, Key: self.Public(), HPKE: hpkeHash, Name: n.Name,
	})
	enrolment := auth.Enrolment{
		Token: operator.Sign(auth.ForToken, id, scope), Request: request,
		Countersign: self.Sign(auth.ForCountersign, id, auth.Countersign{
			Header: header(charter.Head()), Request: request.Digest(auth.ForEnrol, id), Node: self.ID(),
		}),
	}
	founding := folder.Founding{Acts: []folder.FoundingAct{
		{Kind: auth.ActCharter, Data: wire.Marshal(genesis)},
		{Kind: auth.ActCharter, Data: wire.Marshal(put)},
		{Kind: auth.ActEnrol, Data: enrolment.Encode()},
		{Kind: auth.ActGossipEpoch, Data: wire.Marshal(auth.GossipEpoch{Epoch: 1, Hash: gossip})},
	}}
	return founding, id, rehearse(founding, ms)
}

func rehearse(founding folder.Founding, ms int64) error {
	state := consensus.NewState()
	for _, act := range founding.Acts {
		next, result := state.Apply(consensus.PutAct{Kind: act.Kind, Data: act.Data}, ms)
		if err := result.Err(); err != nil {
			return err
		}
		state = next
	}
	return nil
}

func readFounding(f *folder.Folder) ([]consensus.Entry, error) {
	founding, err := f.Founding()
	if err != nil || founding == nil {
		return nil, err
	}
	var out []consensus.Entry
	for _, act := range founding.Acts {
		out = append(out, consensus.PutAct{Kind: act.Kind, Data: act.Data})
	}
	return out, nil
}

package testnet

import (
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	mrand "math/rand/v2"
	"slices"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/folder"
)

// founderKeys is what joiners get from the first host beside the record.
type founderKeys struct {
	signer auth.Signer
	gossip []folder.GossipKey
}

// readFounder looks into the first host's folder while its agent is not there yet.
func readFounder(h *townHost) (founderKeys, error) {
	f, err := folder.Open(h.dir)
	if err != nil {
		return founderKeys{}, err
	}
	identity, err := f.Identity()
	keys, err2 := f.GossipKeys()
	return founderKeys{auth.NewSigner(identity.Key()), keys}, cmp.Or(err, err2, f.Close())
}

// enrolledBefore is how long ago prepared hosts were enrolled when they start: nobody calls them new.
const enrolledBefore = 5 * time.Minute

// prepare enrols more hosts without their asking: what so many join handshakes would bring about is agreed by the quorum
// (which takes and counts every enrolment) and written to their folders directly, in the same form. So many of them, the
// first, may be servers. Some time after that all start at the same moment, as after a power cut.
func (w *town) prepare(more, servers int) {
	w.Helper()
	var fresh []*townHost
	var keys []folder.Identity
	for range more {
		h := w.add()
		identity := folder.Identity{Fleet: w.fleet, Name: h.name, Seed: make([]byte, ed25519.SeedSize), HPKESeed: make([]byte, 32)}
		_, _ = rand.Read(identity.Seed)
		_, _ = rand.Read(identity.HPKESeed)
		h.id = identity.ID()
		fresh, keys = append(fresh, h), append(keys, identity)
	}
	w.enrolKeys(keys[:servers], true)
	w.enrolKeys(keys[servers:], false)
	state, _ := w.hosts[0].host.State()
	acts := state.Acts(0, int(state.Record.Length))
	w.allOf(fresh, func(i int, h *townHost) error { return h.writeFolder(keys[i], acts) })
	time.Sleep(enrolledBefore)
	w.allOf(fresh, func(_ int, h *townHost) error { return h.tryStart() })
}

// allOf does something for all hosts at once.
func (w *town) allOf(hosts []*townHost, do func(int, *townHost) error) {
	w.Helper()
	errs := make(chan error)
	for i, h := range hosts {
		go func() { errs <- do(i, h) }()
	}
	var first error
	for range hosts {
		first = cmp.Or(first, <-errs)
	}
	w.must(first)
}

// enrolKeys has the quorum take an enrolment of each of these keys, countersigned by the first host.
func (w *town) enrolKeys(keys []folder.Identity, server bool) {
	w.Helper()
	if len(keys) == 0 {
		return
	}
	founder := w.hosts[0]
	join := w.token(uint32(len(keys)), server)
	state, _ := founder.host.State()
	token, known := state.Token(join.Token)
	if !known {
		w.Fatal("the founder does not know the token")
	}
	header := func() auth.Header {
		return auth.Header{ID: newUUID(), Issued: time.Now().UnixMilli(), Charter: join.Head, Mode: auth.ByQuorum}
	}
	errs := make(chan error)
	for _, identity := range keys {
		go func() {
			self := auth.NewSigner(identity.Key())
			request := join.Signer().Sign(auth.ForEnrol, w.fleet, auth.EnrolRequest{
				Header: header(), Token: join.Token, Key: self.Public(), HPKE: fleet.Sum(identity.HPKESeed), Name: identity.Name,
			})
			counted := w.founder.signer.Sign(auth.ForCountersign, w.fleet, auth.Countersign{
				Header: header(), Request: request.Digest(auth.ForEnrol, w.fleet), Node: self.ID(),
			})
			errs <- founder.propose(consensus.PutAct{Kind: auth.ActEnrol, Data: auth.Enrolment{
				Token: token.Statement, Request: request, Countersign: counted,
			}.Encode()})
		}()
	}
	var first error
	for range keys {
		first = cmp.Or(first, <-errs)
	}
	w.must(first)
}

// writeFolder makes the folder that a join would have made, knowing the founder's address.
func (h *townHost) writeFolder(identity folder.Identity, acts []auth.Act) error {
	f, err := folder.Create(h.dir)
	if err != nil {
		return err
	}
	_, err = f.LoadRecord(identity.Fleet)
	heads := make([]fleet.ID, len(acts))
	var head fleet.ID
	for i, act := range acts {
		head = auth.NextHead(head, act)
		heads[i] = head
	}
	return cmp.Or(
		err, f.AppendActs(acts, heads), f.PutHost(folder.Host{Bind: h.addr.String()}), f.PutGossipKeys(h.town.founder.gossip),
		f.PutPeers(h.town.addressBook(h)), f.PutIdentity(identity), f.Close(),
	)
}

// addressBook is some of the addresses that a host would know from an earlier life, the founder's among them.
func (w *town) addressBook(of *townHost) []folder.Peer {
	known := []folder.Peer{{ID: w.hosts[0].id, Addrs: []string{w.hosts[0].addr.String()}}}
	others := slices.DeleteFunc(slices.Clone(w.hosts[1:]), func(h *townHost) bool { return h == of })
	mrand.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	for _, h := range others[:min(len(others), 15)] {
		known = append(known, folder.Peer{ID: h.id, Addrs: []string{h.addr.String()}})
	}
	return known
}

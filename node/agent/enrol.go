package agent

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// ServeJoin enrols the host at the other end of a stream of the join plane, and gives it the record.
func (a *Agent) ServeJoin(s Stream) {
	defer s.Close()
	if err := a.enrolPeer(s); err != nil {
		_ = s.WriteError(err)
	}
}

func (a *Agent) enrolPeer(s Stream) error {
	kind, body, err := s.ReadFrame()
	if err != nil {
		return err
	}
	var request auth.Envelope
	if err := wire.Unmarshal(body, &request); err != nil || kind != joinAsk {
		return fleet.Errorf(fleet.Invalid, "malformed join")
	}
	peeked, err := auth.Peek[auth.EnrolRequest](request)
	if err != nil {
		return err
	}
	if fleet.Sum(peeked.Key) != s.Peer() {
		return fleet.Errorf(fleet.Denied, "the join is signed for another node's key")
	}
	ctx, cancel := context.WithTimeout(s.Context(), writeTimeout)
	defer cancel()
	if err := a.enrol(ctx, request, peeked); err != nil {
		return err
	}
	return a.sendRecord(ctx, s, s.Peer())
}

// enrol brings an enrolment about: here on a server, else through one. A token that was made a moment ago may not have
// reached every server yet, but the leader knows it.
func (a *Agent) enrol(ctx context.Context, request auth.Envelope, peeked auth.EnrolRequest) error {
	if entry, err := a.record().Roster.Enrolled(fleet.Sum(peeked.Key)); err == nil && entry.Name == peeked.Name {
		return nil // the answer to its first try was lost
	}
	servers, last := a.servers(), fleet.Errorf(fleet.Unavailable, "no server is known here")
	if a.replica != nil {
		if s := a.quorum.Status(); s.Member {
			_, err := a.countersign(ctx, request, peeked)
			if fleet.KindOf(err) != fleet.NotFound || s.Leading || s.Leader.IsZero() {
				return err
			}
			others := slices.DeleteFunc(servers, func(id fleet.ID) bool { return id == a.self || id == s.Leader })
			servers = append([]fleet.ID{s.Leader}, others...) // it may be the very host that is replaced
		}
	}
	return a.enrolAt(ctx, servers, request, last)
}

// enrolAt asks server after server until one enrols. A refusal counts when nobody did: who answers at an address that is not
// its own any more is no server's word, and a host that takes another's place is often at its address.
func (a *Agent) enrolAt(ctx context.Context, servers []fleet.ID, request auth.Envelope, last error) error {
	var refused error
	for _, id := range servers {
		if _, err := a.record().Roster.Enrolled(id); err != nil {
			continue // the newest beacon names it still; it was removed, and its refusal is no answer
		}
		var result consensus.Result
		err := a.ask(ctx, id, askEnrol, request, &result)
		if err == nil {
			return result.Err()
		}
		if unknown := fleet.KindOf(err) == fleet.NotFound; !unknown && !retriable(err) {
			refused = cmp.Or(refused, err)
		} else if unknown || fleet.KindOf(last) != fleet.NotFound {
			last = err
		}
	}
	return cmp.Or(refused, last)
}

func (a *Agent) answerEnrol(ctx context.Context, body []byte) ([]byte, error) {
	var request auth.Envelope
	if err := errors.Join(wire.Unmarshal(body, &request), a.needReplica()); err != nil {
		return nil, err
	}
	peeked, err := auth.Peek[auth.EnrolRequest](request)
	if err != nil {
		return nil, err
	}
	result, err := a.countersign(ctx, request, peeked)
	return wire.Marshal(result), err
}

// countersign verifies a request and proposes the enrolment with this server's countersignature, which counts only
// once the quorum has counted the token's use.
func (a *Agent) countersign(ctx context.Context, request auth.Envelope, peeked auth.EnrolRequest) (consensus.Result, error) {
	state := a.replica.State()
	record := a.record()
	if record.Charter == nil {
		return consensus.Result{}, fleet.Errorf(fleet.Unavailable, "%s has no charter yet", a.cfg.Name)
	}
	token, ok := state.Token(peeked.Token)
	if !ok {
		return consensus.Result{}, fleet.Errorf(fleet.NotFound, "the fleet does not know this join string's token").
			Hinted("on a host of the fleet: muster token create")
	}
	now := a.now()
	if off := now.Sub(time.UnixMilli(peeked.Header.Issued)); off.Abs() > auth.MaxSkew {
		return consensus.Result{}, clockRefusal(off)
	}
	admitted, err := record.Charter.VerifyRequest(token.Statement, request, now)
	if err != nil {
		return consensus.Result{}, err
	}
	counter := a.signer.Sign(auth.ForCountersign, a.cfg.Fleet, auth.Countersign{
		Header:  auth.Header{Issued: now.UnixMilli(), Charter: record.Charter.Head(), Act: record.Act, Mode: auth.ByQuorum},
		Request: request.Digest(auth.ForEnrol, a.cfg.Fleet), Node: admitted.ID,
	})
	result, err := a.Propose(ctx, consensus.PutAct{Kind: auth.ActEnrol, Data: auth.Enrolment{
		Token: token.Statement, Request: request, Countersign: counter,
	}.Encode()})
	if err != nil {
		return result, err
	}
	return result, a.await(ctx, func(r auth.Record) bool { _, err := r.Roster.Enrolled(admitted.ID); return err == nil })
}

func clockRefusal(off time.Duration) error {
	where := "behind"
	if off < 0 {
		where = "ahead of"
	}
	return fleet.Errorf(fleet.Denied, "this host's clock is %s %s the fleet's", off.Abs().Round(time.Second), where).
		Hinted("set it, for example: timedatectl set-ntp true; then join again")
}

// await waits until this host's record says so.
func (a *Agent) await(ctx context.Context, holds func(auth.Record) bool) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds(a.record()) {
		select {
		case <-ctx.Done():
			return fleet.Errorf(fleet.Unavailable, "the enrolment was counted, but this host has not caught up with it").
				Hinted("join again with the same command: nothing is counted twice")
		case <-tick.C:
		}
	}
	return nil
}

// sendRecord gives a joiner the gossip key, some members' addresses, and the whole record.
func (a *Agent) sendRecord(ctx context.Context, s Stream, joiner fleet.ID) error {
	enrolled := func(r auth.Record) bool { _, err := r.Roster.Enrolled(joiner); return err == nil }
	if err := a.await(ctx, enrolled); err != nil {
		return err
	}
	record := a.record()
	a.mu.Lock()
	key, epoch := a.keys[record.Sending.Epoch], record.Sending.Epoch
	head := JoinHead{Length: record.Length, Epoch: epoch, Key: key[:], Time: a.now().UnixMilli()}
	for id, addrs := range a.hints {
		if len(head.Peers) < 16 && id != joiner {
			head.Peers = append(head.Peers, joinPeer(id, addrs))
		}
	}
	a.mu.Unlock()
	if err := s.WriteFrame(joinHead, wire.Marshal(head)); err != nil {
		return err
	}
	for at := uint64(0); at < record.Length; {
		acts, err := a.cfg.Folder.ReadActs(at, joinPage)
		if err != nil || len(acts) == 0 {
			return errors.Join(err, fleet.Errorf(fleet.Internal, "the record ends at act %d", at))
		}
		if err := s.WriteFrame(joinActs, wire.Marshal(actsBody{acts})); err != nil {
			return err
		}
		at += uint64(len(acts))
	}
	return s.WriteFrame(joinEnd, nil)
}

package quorum

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-fleet/muster/node/fleet"
)

// reads are the linearizable reads under way.
type reads struct {
	mu      sync.Mutex
	rounds  rounds
	waiting map[uint64]*round
	barrier uint64    // the term whose barrier has been applied here
	quick   []Replica // voters that answered the last round; of the running round alone
}

type round struct {
	done chan struct{}
	err  error
}

// Read returns nil when the machine, read here and now, shows every write acknowledged before Read was called. Only
// the leader can.
//
// Once per term a barrier brings the machine up to all that earlier leaders acknowledged. Then a majority of the voters
// must say that their term is still ours, asked after the read began: a later leader needs the vote of one of them,
// which it therefore got after the read began, so it had acknowledged nothing before. Raft's own VerifyLeader is not
// used: it counts answers of replicas without a vote, and answers that were sent before the read.
func (q *Quorum) Read(ctx context.Context) error {
	if q.raft.State() != raft.Leader {
		return q.notLeader()
	}
	r, err := q.joinRound()
	if err != nil {
		return err
	}
	select {
	case <-r.done:
		if err := halted(q.cfg.Machine); err != nil && r.err == nil {
			return fleet.Errorf(fleet.Unavailable, "this server leads and does not have the newest state: %w", err)
		}
		return r.err
	case <-ctx.Done():
		return fleet.Errorf(fleet.Unavailable, "the servers did not confirm the leader in time: %w", ctx.Err())
	}
}

func (q *Quorum) joinRound() (*round, error) {
	w := &q.reads
	w.mu.Lock()
	defer w.mu.Unlock()
	number, start := w.rounds.join()
	if start && !q.begin() {
		w.rounds.running = false
		return nil, closedError()
	}
	r := w.waiting[number]
	if r == nil {
		r = &round{done: make(chan struct{})}
		w.waiting[number] = r
	}
	if start {
		go q.serveRounds()
	}
	return r, nil
}

func (q *Quorum) serveRounds() {
	defer q.done()
	for again := true; again; {
		r := q.reads.begin()
		r.err = q.confirmTerm()
		close(r.done)
		again = q.reads.end()
	}
}

func (w *reads) begin() *round {
	w.mu.Lock()
	defer w.mu.Unlock()
	number := w.rounds.begin()
	r := w.waiting[number]
	delete(w.waiting, number)
	return r
}

func (w *reads) end() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rounds.end()
}

// confirmTerm is one round. It runs alone.
func (q *Quorum) confirmTerm() error {
	term := q.raft.CurrentTerm()
	if q.raft.State() != raft.Leader {
		return q.notLeader()
	}
	if q.reads.barrier != term {
		if err := q.raft.Barrier(0).Error(); err != nil {
			return q.failedRead(err)
		}
		if q.raft.CurrentTerm() != term {
			return q.notLeader()
		}
		q.reads.barrier = term
	}
	if err := q.askVoters(term); err != nil {
		return err
	}
	if q.raft.CurrentTerm() != term || q.raft.State() != raft.Leader {
		return q.notLeader()
	}
	return nil
}

func (q *Quorum) failedRead(err error) error {
	switch err {
	case raft.ErrNotLeader, raft.ErrLeadershipLost, raft.ErrLeadershipTransferInProgress:
		return q.notLeader()
	default:
		return fleet.Errorf(fleet.Unavailable, "the quorum does not answer: %w", err)
	}
}

// askVoters has a majority of the newest configuration's voters confirm the term. It asks as many as it needs, those first who
// answered last time; the others when one says no, or none speaks soon.
func (q *Quorum) askVoters(term uint64) error {
	voters, _ := members(q.configuration())
	ballot, others := openBallot(voters, q.self)
	if ballot.won() {
		return nil
	}
	if q.cfg.Confirm == nil {
		return fleet.Errorf(fleet.Internal, "quorum: Confirm must be given where there are several voters")
	}
	ctx, cancel := context.WithTimeout(q.running, q.cfg.Timeouts.Heartbeat)
	defer cancel()
	q.reads.quickFirst(others)
	answers := make(chan confirmed, len(others))
	ask := func(some []Replica) {
		for _, voter := range some {
			go func() { answers <- confirmed{voter, q.cfg.Confirm(ctx, voter.ID, voter.Incarnation, term)} }()
		}
	}
	enough := min(ballot.missing(), len(others))
	ask(others[:enough])
	rest := others[enough:]
	late := time.NewTimer(askRest)
	defer late.Stop()
	var last error
	for !ballot.won() {
		if ballot.lost() {
			return fleet.Errorf(fleet.Unavailable, "no majority of voters confirms that this server still leads: %w", last)
		}
		select {
		case answer := <-answers:
			ballot.count(answer.err == nil)
			if answer.err == nil {
				q.reads.quick = append(q.reads.quick, answer.voter)
				continue
			}
			last = answer.err
		case <-late.C:
		case <-ctx.Done(): // a Confirm that ignores its context must not hold reads up
			return fleet.Errorf(fleet.Unavailable, "no majority of voters confirms in time that this server still leads: %w", ctx.Err())
		}
		ask(rest)
		rest = nil
	}
	return nil
}

// askRest is when a round asks the voters that it did not need, because those that it did have not answered.
const askRest = 5 * time.Millisecond

// confirmed is a voter's answer.
type confirmed struct {
	voter Replica
	err   error
}

// quickFirst puts voters that answered the last round in front, and forgets who they were. A round alone calls it.
func (w *reads) quickFirst(voters []Replica) {
	slices.SortStableFunc(voters, func(a, b Replica) int {
		return cmp.Compare(boolRank(slices.Contains(w.quick, a)), boolRank(slices.Contains(w.quick, b)))
	})
	w.quick = w.quick[:0]
}

func boolRank(first bool) int {
	if first {
		return 0
	}
	return 1
}

// Term returns the replica's current term. It does not wait for raft's main loop.
func (q *Quorum) Term() uint64 { return q.raft.CurrentTerm() }

// ConfirmTerm answers another server's Confirm: nil if this replica is that incarnation and its term is still that one.
// It does not wait for raft's main loop; raft stores a new term before it promises anything in it.
func (q *Quorum) ConfirmTerm(incarnation, term uint64) error {
	if incarnation != q.self.Incarnation {
		return fleet.Errorf(fleet.Conflict, "this replica is incarnation %d, not %d", q.self.Incarnation, incarnation)
	}
	if now := q.raft.CurrentTerm(); now != term {
		return fleet.Errorf(fleet.Conflict, "the term here is %d, not %d", now, term)
	}
	return nil
}

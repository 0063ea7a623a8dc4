package quorum

// rounds orders linearizable reads: a read is served by a round that began after the read did, and one round serves all
// reads that began before it. It is a value; who holds it locks it.
type rounds struct {
	begun   uint64 // rounds begun so far
	wanted  uint64 // the round that the newest read waits for
	running bool
}

// join takes a read in and returns the round that serves it. When start is true the caller must begin that round.
func (r *rounds) join() (round uint64, start bool) {
	r.wanted = r.begun + 1
	start = !r.running
	r.running = true
	return r.wanted, start
}

// begin starts the next round and returns its number.
func (r *rounds) begin() uint64 {
	r.begun++
	return r.begun
}

// end closes the running round; when again is true the caller must begin the next.
func (r *rounds) end() (again bool) {
	again = r.wanted > r.begun
	r.running = again
	return again
}

// ballot counts which voters confirmed a term. Replicas that do not vote are not asked, and would not count.
type ballot struct {
	voters    int
	confirmed int
	refused   int
}

// openBallot begins a ballot among voters, the leader's own voice included: it counts if the leader votes.
func openBallot(voters []Replica, leader Replica) (b ballot, others []Replica) {
	for _, voter := range voters {
		if voter == leader {
			b.confirmed++
			continue
		}
		others = append(others, voter)
	}
	b.voters = len(voters)
	return b, others
}

// count takes one voter's answer in.
func (b *ballot) count(confirmed bool) {
	if confirmed {
		b.confirmed++
		return
	}
	b.refused++
}

func (b *ballot) won() bool  { return b.voters > 0 && b.confirmed > b.voters/2 }
func (b *ballot) lost() bool { return b.voters-b.refused <= b.voters/2 }

// missing returns how many voters must still confirm.
func (b *ballot) missing() int { return b.voters/2 + 1 - b.confirmed }

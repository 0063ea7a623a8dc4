package quorum

import (
	"slices"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// Action is what a Change does to one replica.
type Action uint8

// The actions.
const (
	Keep     Action = iota // nothing
	AddSpare               // begin to replicate to it
	Promote                // a spare gets a vote
	Demote                 // a voter becomes a spare
	Remove                 // it holds no state any more
)

// String returns the action's verb.
func (a Action) String() string {
	switch a {
	case AddSpare:
		return "add as spare"
	case Promote:
		return "promote to voter"
	case Demote:
		return "demote to spare"
	case Remove:
		return "remove"
	case Keep:
	}
	return "keep"
}

// Change is one step from one configuration to the next.
type Change struct {
	Do      Action
	Replica Replica
	Prev    uint64 // the configuration's index it was decided for; another one refuses it
}

// Server is a replica of the configuration as the leader sees it.
type Server struct {
	Replica
	Voter       bool
	LastContact time.Time // when it last answered the leader; zero where this node does not lead
	CaughtUp    bool      // its log is the leader's, but for the last moments; false where this node does not lead
}

// Candidate is a node that operators made eligible as a server, as roster and gossip know it.
type Candidate struct {
	ID          fleet.ID
	Incarnation uint64 // of its replica, as it says itself; zero if it has not said
	Alive       bool   // gossip does not call it dead or gone
	Zone        string // its tag "zone"; may be empty
	Drained     bool   // operators want it to have no vote, as long as another can
}

// Inputs are what NextChange decides from.
type Inputs struct {
	Now     time.Time
	Nodes   int         // enrolled in the fleet
	Self    Replica     // the leader
	Index   uint64      // of the configuration
	Members []Server    // of the configuration
	Servers []Candidate // every eligible node, dead ones too; who is missing is not eligible
	Demoted time.Time   // when a lost voter was last demoted
}

// The numbers of DESIGN.md section 7.
const (
	spareCount     = 2
	fewServers     = 3                // below this, one voter: two would be stopped by the loss of either
	manyNodes      = 20               // from here five voters
	lostAfter      = 30 * time.Second // out of contact, and dead in gossip
	replaceEvery   = time.Minute
	contactIsFresh = 5 * time.Second // 25 heartbeats
)

// Target returns how many voters a fleet should have.
func Target(servers, nodes int) int {
	switch {
	case servers < fewServers:
		return 1
	case nodes < manyNodes || servers < 5:
		return 3
	default:
		return 5
	}
}

// NextChange decides the next step towards the voters that the fleet should have, and says why. Keep means that all is
// well, or that nothing can be done now. It is asked again after each change, so it never promotes and demotes at once.
//
// No step makes the voters in contact fewer than a majority. The number of voters grows from odd to odd, as an even
// number survives no more losses than the odd one below. A lost voter keeps its vote until a spare can take it over:
// without one, its return is the best hope.
func NextChange(in Inputs) (Change, string) {
	v := newVoting(in)
	for _, rule := range []func() (Action, Replica, string){
		v.dropStale, v.dropIneligible, v.demoteLost, v.demoteDrained, v.promote, v.demoteSurplus, v.addSpare, v.removeSurplus,
	} {
		if do, replica, why := rule(); do != Keep {
			return Change{Do: do, Replica: replica, Prev: in.Index}, why
		}
	}
	return Change{}, ""
}

// voting is the inputs, sorted by what the rules ask.
type voting struct {
	Inputs
	servers map[fleet.ID]Candidate
	voters  []Server
	spares  []Server
	good    int // eligible voters
	target  int
}

func newVoting(in Inputs) *voting {
	v := &voting{Inputs: in, servers: map[fleet.ID]Candidate{}, target: Target(len(in.Servers), in.Nodes)}
	for _, server := range in.Servers {
		v.servers[server.ID] = server
	}
	for _, server := range in.Members {
		if !server.Voter {
			v.spares = append(v.spares, server)
			continue
		}
		v.voters = append(v.voters, server)
		if v.eligible(server) {
			v.good++
		}
	}
	return v
}

func (v *voting) eligible(s Server) bool {
	_, found := v.servers[s.ID]
	return found
}

// fresh reports whether a replica answers; the leader always does.
func (v *voting) fresh(s Server) bool {
	return s.Replica == v.Self || v.Now.Sub(s.LastContact) < contactIsFresh
}

// lost reports whether a replica is out of contact for long, and its node dead to everybody.
func (v *voting) lost(s Server) bool {
	return s.Replica != v.Self && v.Now.Sub(s.LastContact) >= lostAfter && !v.servers[s.ID].Alive
}

// stale reports whether the node has another replica now, so that this one never returns.
func (v *voting) stale(s Server) bool {
	node := v.servers[s.ID]
	return node.Alive && node.Incarnation != 0 && node.Incarnation != s.Incarnation && !v.fresh(s)
}

// spared reports whether a majority of the other voters is in contact, so that this one's vote can go.
func (v *voting) spared(without Server) bool {
	others, fresh := 0, 0
	for _, voter := range v.voters {
		if voter.Replica == without.Replica {
			continue
		}
		others++
		if v.fresh(voter) {
			fresh++
		}
	}
	return others > 0 && fresh > others/2
}

func (v *voting) dropStale() (Action, Replica, string) {
	for _, member := range v.Members {
		if v.stale(member) && (!member.Voter || v.spared(member)) {
			return Remove, member.Replica, "its node lost this replica and has a new one"
		}
	}
	return Keep, Replica{}, ""
}

func (v *voting) dropIneligible() (Action, Replica, string) {
	for _, member := range v.Members {
		if !v.eligible(member) && (!member.Voter || v.spared(member)) {
			return Remove, member.Replica, "its node is no longer a server"
		}
	}
	return Keep, Replica{}, ""
}

func (v *voting) demoteLost() (Action, Replica, string) {
	if len(v.promotable()) == 0 || !v.Demoted.IsZero() && v.Now.Sub(v.Demoted) < replaceEvery {
		return Keep, Replica{}, ""
	}
	for _, voter := range v.voters {
		if v.lost(voter) && v.spared(voter) {
			return Demote, voter.Replica, "it is out of contact, and a spare can take its place"
		}
	}
	return Keep, Replica{}, ""
}

// demoteDrained takes a vote from a drained node that does not lead, once a spare that is not drained can take it over. One that
// leads gives up the lead first: Relieved.
func (v *voting) demoteDrained() (Action, Replica, string) {
	if ready := v.promotable(); len(ready) == 0 || v.servers[ready[0].ID].Drained {
		return Keep, Replica{}, ""
	}
	for _, voter := range v.voters {
		if voter.Replica != v.Self && v.servers[voter.ID].Drained && v.spared(voter) {
			return Demote, voter.Replica, "its node is drained, and a spare can take its place"
		}
	}
	return Keep, Replica{}, ""
}

// Relieved reports whether a leader whose node is drained can give up the lead: another voter, in contact, is not drained.
func Relieved(in Inputs) bool {
	v := newVoting(in)
	if !v.servers[in.Self.ID].Drained {
		return false
	}
	for _, voter := range v.voters {
		if node, found := v.servers[voter.ID]; found && voter.Replica != v.Self && !node.Drained && v.fresh(voter) && voter.CaughtUp {
			return true
		}
	}
	return false
}

// promotable lists the spares that can take a vote, drained ones last.
func (v *voting) promotable() (ready []Server) {
	for _, spare := range v.spares {
		if node := v.servers[spare.ID]; node.Alive && spare.CaughtUp && v.fresh(spare) {
			ready = append(ready, spare)
		}
	}
	slices.SortStableFunc(ready, func(a, b Server) int { return v.drained(a) - v.drained(b) })
	return ready
}

// drained is 1 for a drained node, 0 for others.
func (v *voting) drained(s Server) int {
	if v.servers[s.ID].Drained {
		return 1
	}
	return 0
}

// undrained returns those that are not drained, or all where all are.
func (v *voting) undrained(servers []Server) []Server {
	if some := slices.DeleteFunc(slices.Clone(servers), func(s Server) bool { return v.drained(s) == 1 }); len(some) > 0 {
		return some
	}
	return servers
}

func (v *voting) promote() (Action, Replica, string) {
	ready := v.promotable()
	if v.good >= v.target || len(ready) == 0 || v.good%2 == 1 && len(ready) < 2 || !v.together() {
		return Keep, Replica{}, ""
	}
	return Promote, v.loneliest(v.undrained(ready), v.voters).Replica, "there are fewer voters than there should be"
}

// together reports whether all voters that are not lost have the leader's log. Raft refuses its vote to a replica that is
// none of the voters it knows: if the leader died while a voter had not heard of the last promotion, the two could not elect
// each other. A lost voter is not waited for: one was just demoted to make room, and another may be lost beside it.
func (v *voting) together() bool {
	for _, voter := range v.voters {
		if voter.Replica != v.Self && !v.lost(voter) && (!voter.CaughtUp || !v.fresh(voter)) {
			return false
		}
	}
	return true
}

func (v *voting) demoteSurplus() (Action, Replica, string) {
	if v.good <= v.target {
		return Keep, Replica{}, ""
	}
	var dead, alive []Server
	for _, voter := range v.voters {
		switch {
		case voter.Replica == v.Self || !v.spared(voter):
		case v.fresh(voter):
			alive = append(alive, voter)
		default:
			dead = append(dead, voter)
		}
	}
	for _, group := range [][]Server{dead, alive} {
		if len(group) > 0 {
			return Demote, v.mostCrowded(group, v.voters).Replica, "there are more voters than there should be"
		}
	}
	return Keep, Replica{}, ""
}

// sparesWanted counts the seats of spares, and those of voters that spares are to take.
func (v *voting) sparesWanted() int { return spareCount + max(0, v.target-v.good) }

func (v *voting) addSpare() (Action, Replica, string) {
	usable := 0
	member := map[fleet.ID]bool{}
	for _, spare := range v.spares {
		if !v.lost(spare) {
			usable++
		}
	}
	for _, server := range v.Members {
		member[server.ID] = true
	}
	var free []Server
	for _, node := range v.Servers {
		if node.Alive && node.Incarnation != 0 && !member[node.ID] {
			free = append(free, Server{Replica: Replica{ID: node.ID, Incarnation: node.Incarnation}})
		}
	}
	if usable >= v.sparesWanted() || len(free) == 0 {
		return Keep, Replica{}, ""
	}
	return AddSpare, v.loneliest(v.undrained(free), v.Members).Replica, "there are fewer spares than there should be"
}

func (v *voting) removeSurplus() (Action, Replica, string) {
	if len(v.spares) <= v.sparesWanted() {
		return Keep, Replica{}, ""
	}
	var lost []Server
	for _, spare := range v.spares {
		if v.lost(spare) {
			lost = append(lost, spare)
		}
	}
	if len(lost) == 0 {
		lost = v.spares
	}
	return Remove, v.mostCrowded(lost, v.Members).Replica, "there are more spares than there should be"
}

// loneliest chooses the replica whose zone has the fewest of a group; the lowest ID among equals.
func (v *voting) loneliest(choice, group []Server) Server {
	return v.choose(choice, group, func(a, b int) bool { return a < b }, -1)
}

// mostCrowded chooses the replica whose zone has the most of a group; the highest ID among equals.
func (v *voting) mostCrowded(choice, group []Server) Server {
	return v.choose(choice, group, func(a, b int) bool { return a > b }, 1)
}

func (v *voting) choose(choice, group []Server, better func(a, b int) bool, order int) Server {
	zones := map[string]int{}
	for _, member := range group {
		zones[v.servers[member.ID].Zone]++
	}
	crowd := func(s Server) int { return zones[v.servers[s.ID].Zone] }
	best := choice[0]
	for _, s := range choice[1:] {
		a, b := crowd(s), crowd(best)
		if better(a, b) || a == b && s.Compare(best.Replica) == order {
			best = s
		}
	}
	return best
}

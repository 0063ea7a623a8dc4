package node

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// How the members of a keyring keep its key.
const (
	// makeGap is how long each member leaves the one before it, in the order of makers, to make a new epoch: an election of a
	// leader and a write fit into it.
	makeGap = 5 * time.Second
	// makeAgain is how long a member whose epoch was not taken waits before it makes another, at most.
	makeAgain = time.Minute
	// settleFor is how long after its start a node makes no epoch: it does not know yet which members live.
	settleFor = 5 * time.Second
	// holdFirst is how many members hurry to hold a new epoch, and holdGap what each further one leaves the one before it:
	// three are enough, and a thousand are not to write at once.
	holdFirst = 4
	holdGap   = 500 * time.Millisecond
	// seedAgain is how long a member waits between questions for a seed that nobody seems to have, at most.
	seedAgain = time.Minute
	// dueAgain is how often a member looks whether time alone made an epoch due: an operator's key expired. While one waits to
	// be held it is lapseAgain, as it may wait too long.
	dueAgain   = 30 * time.Second
	lapseAgain = 5 * time.Second
	// hintGap is how soon after one bell the next makes this node ask: a flood of bells brings no flood of questions.
	hintGap = 250 * time.Millisecond
	// maxSeedHints is how many nodes that say that they hold a seed are remembered for each keyring.
	maxSeedHints = 8
)

// MaxSeedsAsked is how many seeds one question may ask for.
const MaxSeedsAsked = 64

// SeedName names one epoch's seed, the private key of a keyring. Two members may make the same epoch; then only one of the
// two is in the record, and Key says which. A seed is given, kept, opened with and dropped by its whole name, never by its
// key alone: a member of one keyring may write the public key of another into the record as its own epoch's, and must not
// be given that one's seed for it.
type SeedName struct {
	Life   fleet.UUID
	Number uint32
	Key    fleet.ID // SHA-256 of the public key
}

// Seed is a seed as a host keeps it, on its disk.
type Seed struct {
	Name    SeedName
	Keyring string
	For     fleet.ID // of one that was made here: KeepersDigest of whom it was to be sealed for; zero: somebody gave it
	Private []byte   // HPKE private key
}

// String hides the key: a Seed that is logged by mistake tells nothing.
func (s Seed) String() string { return "(the key of keyring " + s.Keyring + ")" }

// GoString is String.
func (s Seed) GoString() string { return s.String() }

// The events.
type (
	// SeedKept says that a seed is on disk that an operator handed over.
	SeedKept struct{ Seed SeedName }
	// SeedLost says that a seed which was on disk cannot be read any more.
	SeedLost struct{ Seed SeedName }
	// SeedsFetched answers FetchSeeds with those that came, are the record's, and are on disk now.
	SeedsFetched struct {
		From fleet.ID
		Life fleet.UUID
		Kept []SeedName
	}
	// EpochMade answers MakeEpoch.
	EpochMade struct {
		Life   fleet.UUID
		Kept   []SeedName // none or one: what is on disk, whether the quorum took it or not
		Failed bool       // it was not taken, or nobody knows
	}
	// HoldingTold answers TellHolding.
	HoldingTold struct {
		Life   fleet.UUID
		Failed bool
	}
)

// The effects.
type (
	// FetchSeeds asks a member for seeds. What comes counts when its public side is the record's. Answer: SeedsFetched.
	FetchSeeds struct {
		From    fleet.ID
		Keyring string
		Life    fleet.UUID
		Numbers []uint32
	}
	// MakeEpoch makes a keyring's next epoch: its seed is on disk before anybody hears of it. Where a seed that was made for
	// the same epoch and the same keepers lies there already, it is that one. Answer: EpochMade.
	MakeEpoch struct {
		Keyring string
		Life    fleet.UUID
		Number  uint32
		Need    uint8
		Keepers []auth.Keeper // for whom its seed is sealed beside the members
	}
	// TellHolding tells the fleet that this node holds an epoch's seed. Answer: HoldingTold.
	TellHolding struct {
		Keyring string
		Life    fleet.UUID
		Number  uint32
	}
	// DropSeed removes a seed that opens nothing: another member's epoch has its place, or it was given up before anything was
	// sealed to it.
	DropSeed struct{ Seed SeedName }
)

func (SeedKept) event()     {}
func (SeedLost) event()     {}
func (SeedsFetched) event() {}
func (EpochMade) event()    {}
func (HoldingTold) event()  {}

func (FetchSeeds) effect()  {}
func (MakeEpoch) effect()   {}
func (TellHolding) effect() {}
func (DropSeed) effect()    {}

// keyrings is what this node does for the keyrings that it is in.
type keyrings struct {
	head   fleet.ID          // of the record that rings follows from
	seeds  map[SeedName]bool // on disk
	rings  []*ring           // that this node is in, in the record's order
	wakeAt time.Duration     // boot time; 0: nothing waits
}

// ring is one of them.
type ring struct {
	name   string
	life   fleet.UUID
	epochs []SeedName // of the record, by number
	lacks  []SeedName // of them, those that are not here, the newest first
	used   bool       // the newest is

	fetching bool
	fetchAt  time.Duration // boot time
	hints    []fleet.ID    // who says that it holds one
	hintAt   time.Duration // when the next who says so is believed
	rung     uint32        // the epoch that a bell told of; 0: none
	tried    []fleet.ID    // in this round
	vain     int           // questions in a row that brought nothing

	making  bool
	makeFor uint32 // the epoch that makeAt is for; 0: none is due
	makeAt  time.Duration
	fails   int

	telling bool
	tellFor uint32 // the epoch that tellAt is for
	tellAt  time.Duration
}

func newKeyrings(seeds []SeedName) keyrings {
	k := keyrings{seeds: map[SeedName]bool{}}
	for _, s := range seeds {
		k.seeds[s] = true
	}
	return k
}

// dueKeyrings does what is due for the keyrings of this node.
func (n *Node) dueKeyrings(at auth.Instant) []Effect {
	k := &n.keyrings
	var out []Effect
	if k.head != n.record.Head {
		out = n.followKeyrings(at)
		k.head, k.wakeAt = n.record.Head, at.Boot
	}
	if k.wakeAt == 0 || at.Boot < k.wakeAt {
		return out
	}
	k.wakeAt = 0
	for _, r := range k.rings {
		more, next := n.tendRing(at, r)
		out = append(out, more...)
		k.wake(next)
	}
	return out
}

// wake has the keyrings looked at by then; 0: no need.
func (k *keyrings) wake(at time.Duration) {
	if at != 0 && (k.wakeAt == 0 || at < k.wakeAt) {
		k.wakeAt = at
	}
}

// followKeyrings brings rings up to the record.
func (n *Node) followKeyrings(at auth.Instant) []Effect {
	k := &n.keyrings
	before := k.rings
	k.rings = nil
	for _, of := range n.record.KeyringsOf(n.self) {
		i := slices.IndexFunc(before, func(r *ring) bool { return r.life == of.Life })
		r := &ring{name: of.Name, life: of.Life}
		if i >= 0 {
			r = before[i]
		}
		k.rings = append(k.rings, r)
		n.followRing(at, r, of)
	}
	return n.dropUseless()
}

// followRing takes what the record says of a keyring.
func (n *Node) followRing(at auth.Instant, r *ring, of *auth.Keyring) {
	last := r.newest()
	epochs := make([]SeedName, 0, len(of.Epochs))
	for i := range of.Epochs {
		e := &of.Epochs[i]
		if i < len(r.epochs) && r.epochs[i].Number == e.Number { // a number is given once
			epochs = append(epochs, r.epochs[i])
			continue
		}
		epochs = append(epochs, SeedName{of.Life, e.Number, e.KeyID()})
	}
	r.epochs = epochs
	newest := of.Newest()
	if used := newest.Used != 0; newest.Number != last || used && !r.used {
		n.seekSeeds(r, at.Boot+n.seedDelay(r, newest)) // everybody hears of it in the same moment
		r.used = used
	}
	n.setLacks(r)
}

// newest returns the number of the newest epoch; 0 before anything is known.
func (r *ring) newest() uint32 {
	if len(r.epochs) == 0 {
		return 0
	}
	return r.epochs[len(r.epochs)-1].Number
}

// seekSeeds begins a new round of questions at the given time, at the latest.
func (n *Node) seekSeeds(r *ring, when time.Duration) {
	if r.fetchAt == 0 || r.vain > 0 || when < r.fetchAt {
		r.fetchAt = when
	}
	r.vain, r.tried = 0, nil
	n.keyrings.wake(r.fetchAt)
}

func (n *Node) setLacks(r *ring) {
	r.lacks = r.lacks[:0]
	for _, s := range slices.Backward(r.epochs) {
		if !n.keyrings.seeds[s] {
			r.lacks = append(r.lacks, s)
		}
	}
}

// dropUseless forgets seeds of epochs that are not the record's and never will be.
func (n *Node) dropUseless() []Effect {
	var gone []SeedName
	for s := range n.keyrings.seeds {
		r := n.ringOf(s.Life)
		if r != nil && s.Number <= r.newest() && !slices.Contains(r.epochs, s) {
			gone = append(gone, s)
		}
	}
	slices.SortFunc(gone, func(a, b SeedName) int { // maps have no order
		return cmp.Or(bytes.Compare(a.Life[:], b.Life[:]), cmp.Compare(a.Number, b.Number), byID(a.Key, b.Key))
	})
	var out []Effect
	for _, s := range gone {
		delete(n.keyrings.seeds, s)
		out = append(out, DropSeed{s})
	}
	return out
}

// tendRing does what is due for one keyring, and says when it is to be looked at again; 0: when something happens.
func (n *Node) tendRing(at auth.Instant, r *ring) (out []Effect, next time.Duration) {
	of, ok := n.record.Keyrings.Get(r.name)
	if !ok || of.Life != r.life {
		return nil, 0
	}
	sooner := func(t time.Duration) {
		if t != 0 && (next == 0 || t < next) {
			next = t
		}
	}
	for _, tend := range []func(auth.Instant, *ring, *auth.Keyring) ([]Effect, time.Duration){n.fetchSeeds, n.makeEpoch, n.tellHolding} {
		effects, then := tend(at, r, of)
		out = append(out, effects...)
		sooner(then)
	}
	return out, next
}

// fetchSeeds asks one member at a time for what is missing here.
func (n *Node) fetchSeeds(at auth.Instant, r *ring, of *auth.Keyring) ([]Effect, time.Duration) {
	if len(r.lacks) == 0 || r.fetching {
		return nil, 0
	}
	if at.Boot < r.fetchAt {
		return nil, r.fetchAt
	}
	from, ok := n.seedHolder(r, of)
	if !ok { // all that live were asked, or none does
		r.tried = nil
		r.fetchAt = at.Boot + n.seedPause(r)
		return nil, r.fetchAt
	}
	ask := FetchSeeds{From: from, Keyring: r.name, Life: r.life}
	for _, s := range r.lacks[:min(len(r.lacks), MaxSeedsAsked)] {
		ask.Numbers = append(ask.Numbers, s.Number)
	}
	r.fetching = true
	r.tried = append(r.tried, from)
	return []Effect{ask}, 0
}

// seedPause is how long nobody is asked after r.vain questions in vain, a random part included: a whole keyring may wait
// for its first seed. While a new epoch waits to be held, it is short.
func (n *Node) seedPause(r *ring) time.Duration {
	pause := min(retryAfter<<min(r.vain, 6), seedAgain)
	if !r.used && r.lacksNewest() {
		pause = retryAfter
	}
	return pause/2 + time.Duration(n.random.Int64N(int64(pause)))
}

// seedHolder picks whom to ask for a seed: who says that it has it; by turns who the record says has the newest, who may not
// know yet that it was taken, and any member that lives and was not asked yet.
func (n *Node) seedHolder(r *ring, of *auth.Keyring) (fleet.ID, bool) {
	askable := func(id fleet.ID) bool {
		return id != n.self && n.seen[id].Status == fleet.Online && n.record.InKeyring(r.name, id)
	}
	for len(r.hints) > 0 {
		id := r.hints[0]
		r.hints = r.hints[1:]
		if askable(id) {
			return id, true
		}
	}
	var holders, others []fleet.ID
	if r.lacksNewest() {
		holders = slices.DeleteFunc(slices.Clone(of.Newest().Holders), func(id fleet.ID) bool { return !askable(id) })
	}
	if len(holders) == 0 || r.vain%2 == 1 {
		for _, id := range n.members() {
			if askable(id) && !contains(r.tried, id) {
				others = append(others, id)
			}
		}
	}
	for _, choice := range [][]fleet.ID{others, holders} {
		if len(choice) > 0 {
			return choice[n.random.IntN(len(choice))], true
		}
	}
	return fleet.ID{}, false
}

// lacksNewest reports whether the newest epoch's seed is missing here.
func (r *ring) lacksNewest() bool {
	return len(r.lacks) > 0 && r.lacks[0].Number == r.newest()
}

func (n *Node) seedsFetched(at auth.Instant, ev SeedsFetched) []Effect {
	for _, s := range ev.Kept {
		n.keepSeed(s)
	}
	r := n.ringOf(ev.Life)
	if r == nil {
		return nil
	}
	r.fetching = false
	if len(ev.Kept) == 0 {
		r.vain++
	} else {
		r.vain = 0
		r.tried = slices.DeleteFunc(r.tried, func(id fleet.ID) bool { return id == ev.From }) // it may have more
	}
	r.fetchAt = at.Boot + n.seedPause(r)/2
	n.keyrings.wake(at.Boot)
	return n.passSeedOn(at, r, ev.Kept)
}

// passSeedOn rings others of a large keyring when a bell brought the seed here; in a small one all were rung already.
func (n *Node) passSeedOn(at auth.Instant, r *ring, kept []SeedName) []Effect {
	if r.rung == 0 || !slices.ContainsFunc(kept, func(s SeedName) bool { return s.Number == r.rung }) {
		return nil
	}
	number := r.rung
	r.rung = 0
	if len(n.living(r.name)) <= directRing {
		return nil
	}
	return n.tellSeed(at, r, number)
}

// ringOf returns the keyring of that life if this node is in it.
func (n *Node) ringOf(life fleet.UUID) *ring {
	i := slices.IndexFunc(n.keyrings.rings, func(r *ring) bool { return r.life == life })
	if i < 0 {
		return nil
	}
	return n.keyrings.rings[i]
}

// keepSeed notes that a seed is on disk.
func (n *Node) keepSeed(s SeedName) {
	n.keyrings.seeds[s] = true
	if r := n.ringOf(s.Life); r != nil {
		n.setLacks(r)
	}
}

// seedKept takes in that an operator handed a seed over. The others of the keyring hear at once who has it.
func (n *Node) seedKept(at auth.Instant, s SeedName) []Effect {
	had := n.keyrings.seeds[s]
	n.keepSeed(s)
	n.keyrings.wake(at.Boot)
	if r := n.ringOf(s.Life); r != nil && !had {
		return n.tellSeed(at, r, s.Number)
	}
	return nil
}

// seedLost asks for a seed again.
func (n *Node) seedLost(at auth.Instant, s SeedName) {
	delete(n.keyrings.seeds, s)
	if r := n.ringOf(s.Life); r != nil {
		n.setLacks(r)
		n.seekSeeds(r, at.Boot)
	}
}

// tellSeed rings the other members of a keyring: a seed is to be had here.
func (n *Node) tellSeed(at auth.Instant, r *ring, number uint32) []Effect {
	bell := Bell{Kind: BellSeed, Statement: r.life, Act: uint64(number), Holders: []fleet.ID{n.self}}
	n.orders.first(bell) // its echo says nothing new here
	return n.ring(at, bell, n.living(r.name))
}

// seedRung hears that somebody has a seed. It costs one question at most, and none where nothing is missing.
func (n *Node) seedRung(at auth.Instant, b Bell) []Effect {
	r := n.ringOf(b.Statement)
	if r == nil || len(b.Holders) == 0 || !slices.ContainsFunc(r.lacks, func(s SeedName) bool { return uint64(s.Number) == b.Act }) {
		return nil
	}
	if len(r.hints) == maxSeedHints || contains(r.hints, b.Holders[0]) {
		return nil
	}
	r.hints = append(r.hints, b.Holders[0])
	r.rung = uint32(b.Act)
	r.tried = slices.DeleteFunc(r.tried, func(id fleet.ID) bool { return id == b.Holders[0] })
	r.fetchAt = min(r.fetchAt, max(at.Boot, r.hintAt))
	r.hintAt = at.Boot + hintGap
	n.keyrings.wake(r.fetchAt)
	return nil
}

// living lists the members of a keyring that gossip sees, and this node.
func (n *Node) living(name string) []fleet.ID {
	out := []fleet.ID{n.self}
	for _, id := range n.members() {
		if n.record.InKeyring(name, id) {
			out = append(out, id)
		}
	}
	return out
}

// rank is this node's place among the living members of a keyring for one epoch: each sees the same order, and every epoch
// has another.
func (n *Node) rank(r *ring, number uint32) int {
	place := func(id fleet.ID) []byte {
		var b bytes.Buffer
		b.Write(r.life[:])
		b.Write([]byte{byte(number >> 24), byte(number >> 16), byte(number >> 8), byte(number)})
		b.Write(id[:])
		sum := fleet.Sum(b.Bytes())
		return sum[:]
	}
	mine, before := place(n.self), 0
	for _, id := range n.living(r.name) {
		if bytes.Compare(place(id), mine) < 0 {
			before++
		}
	}
	return before
}

// makeEpoch makes the next epoch when one is due and those before this node in the order of makers had time to.
func (n *Node) makeEpoch(at auth.Instant, r *ring, of *auth.Keyring) ([]Effect, time.Duration) {
	if r.making {
		return nil, 0
	}
	newest := of.Newest()
	_, due := n.record.KeyringDue(r.name, n.Now(at).UnixMilli())
	if !due {
		r.makeFor = 0
		if newest.Used == 0 {
			return nil, at.Boot + lapseAgain
		}
		return nil, at.Boot + dueAgain
	}
	if number := newest.Number + 1; r.makeFor != number {
		r.makeFor, r.fails = number, 0
		r.makeAt = max(at.Boot, n.began+settleFor) + time.Duration(n.rank(r, number))*makeGap
	}
	if at.Boot < r.makeAt {
		return nil, r.makeAt
	}
	if n.behind() {
		return nil, at.Boot + retryAfter
	}
	r.making = true
	return []Effect{MakeEpoch{
		Keyring: r.name, Life: r.life, Number: r.makeFor,
		Need:    uint8(min(auth.MaxNeed, max(len(n.living(r.name)), n.record.LeastNeed(r.name, n.Now(at).UnixMilli())))),
		Keepers: n.record.EscrowFor(r.name, n.Now(at).UnixMilli()),
	}}, 0
}

func (n *Node) epochMade(at auth.Instant, ev EpochMade) []Effect {
	for _, s := range ev.Kept {
		n.keepSeed(s)
	}
	r := n.ringOf(ev.Life)
	if r == nil {
		return nil
	}
	r.making = false
	pause := makeGap // for the record to bring what was taken
	if ev.Failed {
		pause = min(makeGap<<min(r.fails, 4), makeAgain)
		r.fails++
	}
	r.makeAt = at.Boot + pause + time.Duration(n.random.Int64N(int64(retryAfter)))
	n.keyrings.wake(at.Boot)
	return n.dropUseless() // another's may have been taken meanwhile
}

// seedDelay is how long this node leaves the newest epoch's seed to others: while it waits for members to hold it, to those
// who hurry; later it is a random part of a second.
func (n *Node) seedDelay(r *ring, newest *auth.KeyEpoch) time.Duration {
	if newest.Used == 0 {
		return n.holdDelay(r, newest)
	}
	return time.Duration(n.random.Int64N(int64(n.record.Roster.Len())+1)) * time.Millisecond
}

// holdDelay is how long this node leaves others to hold a new epoch before it.
func (n *Node) holdDelay(r *ring, e *auth.KeyEpoch) time.Duration {
	return time.Duration(max(0, n.rank(r, e.Number)-holdFirst+1)) * holdGap
}

// tellHolding tells the fleet that the newest epoch is held here, as long as it waits for members to hold it.
func (n *Node) tellHolding(at auth.Instant, r *ring, of *auth.Keyring) ([]Effect, time.Duration) {
	e := of.Newest()
	if e.Used != 0 || r.telling || contains(e.Holders, n.self) {
		return nil, 0
	}
	if !n.keyrings.seeds[r.epochs[len(r.epochs)-1]] {
		return nil, 0
	}
	if r.tellFor != e.Number {
		r.tellFor, r.tellAt = e.Number, at.Boot+n.holdDelay(r, e)
	}
	if at.Boot < r.tellAt {
		return nil, r.tellAt
	}
	r.telling = true
	return []Effect{TellHolding{Keyring: r.name, Life: r.life, Number: e.Number}}, 0
}

func (n *Node) holdingTold(at auth.Instant, ev HoldingTold) {
	r := n.ringOf(ev.Life)
	if r == nil {
		return
	}
	r.telling = false
	r.tellAt = at.Boot + makeGap
	n.keyrings.wake(at.Boot)
}

// KeepersDigest names a list of those for whom a seed is sealed.
func KeepersDigest(keepers []auth.Keeper) fleet.ID {
	var b []byte
	for _, k := range keepers {
		key, name := fleet.Sum(k.Key), fleet.Sum([]byte(k.Operator))
		b = append(append(b, key[:]...), name[:]...)
	}
	return fleet.Sum(b)
}

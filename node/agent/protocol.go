package agent

import (
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Requests between members: one stream each, a frame there and a frame back (watch: many back). The table in serve.go
// says who may ask what.
const (
	askBeacon     byte = 1  // beaconBody → beaconBody
	askActs       byte = 2  // actsAsk → actsBody
	askOrder      byte = 3  // orderAsk → exec.Order
	askOrders     byte = 4  // ordersAsk → ordersBody
	askPropose    byte = 5  // encoded consensus.Entry → consensus.Result, or notLeader
	askRead       byte = 6  // auth.Envelope of node.Read → node.Answer, or notLeader
	askReport     byte = 7  // auth.Envelope of exec.Report → nothing
	askWatch      byte = 8  // auth.Envelope of node.Read → watchBody …
	askKey        byte = 9  // keyAsk → keyBody
	askReplica    byte = 10 // nothing → replicaBody
	askTerm       byte = 11 // termAsk → nothing
	askPutFacts   byte = 12 // auth.Envelope of factsBody → nothing
	askFacts      byte = 13 // nothing → factsList
	askEnrol      byte = 14 // auth.Envelope of auth.EnrolRequest → consensus.Result
	askCancel     byte = 15 // orderAsk → cancelBody, or notLeader
	askGrant      byte = 16 // orderAsk → grantBody, or notLeader
	askDocument   byte = 17 // documentAsk → auth.Envelope of exec.Publication
	askOutput     byte = 18 // on the bulk plane: output.go has it
	askDecisions  byte = 19 // auth.Envelope of node.Read → encoded decisions
	askNodeReport byte = 20 // auth.Envelope of node.Read → auth.Envelope of exec.Report
	askParams     byte = 21 // node.ParamsAsk → paramsBody, or notLeader
	askParamWatch byte = 22 // node.ParamsWatch → node.ParamsNews …
	askLane       byte = 23 // laneAsks … → laneAnswers …
	askSeed       byte = 24 // seedsAsk → seedsBody
	askHandOver   byte = 25 // auth.Envelope of node.HandOver → nothing
	askHPKE       byte = 26 // nothing → hpkeBody
	askHeld       byte = 27 // nothing → heldBody
	askNamed      byte = 30 // auth.Envelope of node.Read, as a node got it → namedBody
	askLevel      byte = 34 // nothing → levelBody
	askCheckup    byte = 33 // checkupAsk → checkupBody
	askPlight     byte = 35 // plightBody → nothing
	askPlights    byte = 36 // nothing → plightList
	done          byte = 0x40
	notLeader     byte = 0x41
)

// On the join plane.
const (
	joinAsk  byte = 1 // auth.Envelope of auth.EnrolRequest
	joinHead byte = 2 // JoinHead, when the enrolment was counted
	joinActs byte = 3 // actsBody, as many as it takes
	joinEnd  byte = 4
)

// Sizes of answers.
const (
	actsPage     = 256 << 10 // bytes of acts in one answer between members
	joinPage     = 8 << 10   // bytes of acts in one frame of the join plane
	ordersPage   = 16        // orders in one answer
	maxCommands  = 200       // commands in one list
	askTimeout   = 5 * time.Second
	writeTimeout = 15 * time.Second // of a write, leader changes included
)

type beaconBody struct {
	Act    uint64          // of the newest order that the sender has
	Beacon []auth.Envelope // none or one
}

type actsAsk struct{ From uint64 }

type actsBody struct{ Acts []auth.Act }

type orderAsk struct{ Command fleet.UUID }

type ordersAsk struct {
	Since uint64
	Known []fleet.UUID // need not come again unless they were cancelled
}

type ordersBody struct {
	Orders []node.Committed
	Next   uint64
}

type cancelBody struct {
	Cancel    []auth.Envelope // none or one
	RecordLen uint64
}

type grantBody struct{ Answer node.GrantAnswer }

type documentAsk struct{ Key fleet.ID }

type keyAsk struct{ Epoch uint32 }

type keyBody struct{ Key []byte }

type replicaBody struct{ Incarnation uint64 }

type termAsk struct{ Incarnation, Term uint64 }

type leaderBody struct{ Leader fleet.ID }

type watchBody struct {
	Info   []watchInfo
	Report []auth.Envelope
	Synced bool        // after what the server had when it was asked
	Moved  []movedInfo // none or one: the command as it stands now
}

// movedInfo is what may change of a command after it was committed.
type movedInfo struct {
	Taken     uint64 // consensus.State.Taken of the server
	Cancelled int64
	Cancels   []auth.Envelope
	Rollout   exec.Rollout
}

type watchInfo struct {
	Order     exec.Order
	Operator  string
	Act       uint64
	Committed int64
	Now       movedInfo
}

type factsBody struct {
	Header auth.Header
	Facts  fleet.Facts
}

type factsList struct{ Facts []auth.Envelope }

// JoinHead is what a joiner learns when it was enrolled; the record follows.
type JoinHead struct {
	Length uint64 // acts to come
	Epoch  uint32
	Key    []byte // gossip key of Epoch
	Peers  []JoinPeer
	Time   int64 // Unix milliseconds at the server
}

// JoinPeer is a member with addresses to try first.
type JoinPeer struct {
	ID    fleet.ID
	Addrs []string
}

func resultOf(v any) consensus.Result {
	r, ok := v.(consensus.Result)
	if !ok {
		return consensus.Result{Kind: fleet.Internal, Why: "the replica returned no result"}
	}
	return r
}

package node

import (
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Effect is something to do. The set is closed; the shell does each and decides nothing.
type Effect interface{ effect() }

// The effects.
type (
	// Ring sends a bell to members, once, without waiting.
	Ring struct {
		To   []fleet.ID
		Bell Bell
	}
	// ExchangeBeacons gives a peer our newest beacon and asks for its own. Answer: BeaconHeard or PeerSilent.
	ExchangeBeacons struct{ With fleet.ID }
	// FetchActs asks a peer for the record from a position on. Answer: ActsFetched.
	FetchActs struct {
		From     fleet.ID
		Position uint64
	}
	// FetchOrder asks a holder for one order. Answer: OrderFetched.
	FetchOrder struct {
		From    fleet.ID
		Command fleet.UUID
	}
	// FetchOrders asks a server for the orders that name this node. Answer: OrdersFetched.
	FetchOrders struct {
		From  fleet.ID
		Since uint64
		Known []fleet.UUID // orders behind Since that are here: they need not come again, unless they were cancelled
	}
	// FetchCancel asks the leader, who makes sure that it is one, whether a command was cancelled. Answer: CancelFetched.
	FetchCancel struct{ Command fleet.UUID }
	// KeepActs makes acts durable and Record the one that everybody on this host reads.
	KeepActs struct {
		Record auth.Record
		Acts   []auth.Act
	}
	// Outgrown says why this node does not follow the record any more: a newer version wrote it. Empty: it follows again.
	Outgrown struct{ Why string }
	// KeepFloor makes the clock's floor durable.
	KeepFloor struct{ Floor int64 }
	// KeepBeacon makes the newest beacon the one that is passed on, and Clock the one that this host judges by. A zero
	// Beacon: there is none that counts any more.
	KeepBeacon struct {
		Beacon   auth.Beacon
		Envelope auth.Envelope
		Clock    auth.Clock
	}
	// HoldOrder lets peers fetch the order from here.
	HoldOrder struct {
		Act     uint64 // where it was committed, as far as this host was told
		Command fleet.UUID
		Order   exec.Order
	}
	// StartRun starts a run: ledger first, then the process. Answer: RunStarted, then RunEnded; or RunNotStarted, or RunLate.
	// A ledger that refuses because it knows the command already answers with what it knows: RunStarted or RunEnded.
	StartRun struct {
		Command   exec.Command
		Digest    fleet.ID
		Documents [][]byte      // texts, in the order of Command.Documents
		By        time.Duration // boot time after which the ledger must not be written any more; 0: no limit
	}
	// KillRun notes a cancel in the ledger and kills the run if there is one. Answer: RunEnded.
	KillRun struct{ Command fleet.UUID }
	// RefuseRun notes in the ledger that this command never runs here. Answer: RefusalKept or RefusalLost.
	RefuseRun struct {
		Command fleet.UUID
		Digest  fleet.ID
		As      exec.Status // how it is told, also after a restart
		Reason  string
	}
	// SendReport gives a report to a server. Answer: ReportTaken or ReportLost.
	SendReport struct {
		To     fleet.ID
		Report exec.Report
	}
	// FetchDocuments asks a peer for publications by the digests of their texts, unless the host has them itself. Answer:
	// DocumentsFetched, one, with those that came.
	FetchDocuments struct {
		From    fleet.ID
		Command fleet.UUID
		Digests []fleet.ID
	}
	// KeepDocument lets this host find a publication again, and lets peers fetch it from here. An operator signed it.
	KeepDocument struct {
		Digest    fleet.ID
		Statement auth.Envelope
	}
	// AskGrant asks the leader for leave to start. Answer: GrantAnswered with the same Asked.
	AskGrant struct {
		Command fleet.UUID
		Asked   time.Duration
	}
	// AnswerGrant answers GrantAsked. Before Granted is sent, the shell makes sure that this host still leads and that the
	// newest state holds the grant; GrantedNow needs no more.
	AnswerGrant struct {
		Ticket  uint64
		Command fleet.UUID
		Node    fleet.ID
		Answer  GrantAnswer
	}
	// ProposeGrants has the quorum, led from here, agree on leave to start for nodes, as indices of the frozen set. Answer:
	// GrantsProposed.
	ProposeGrants struct {
		Command fleet.UUID
		Nodes   []uint32
	}
	// ProposeEndings brings endings to the leader. With an exec.EndFreed among them only this host itself may commit them,
	// and only while it leads in that term. Answer: EndingsProposed.
	ProposeEndings struct {
		Command fleet.UUID
		Ends    []exec.Ending
		Term    uint64
	}
	// AnswerReport answers ReportAsked.
	AnswerReport struct {
		Ticket uint64
		Report []exec.Report // none or one
	}
	// Decided is for the log that answers why this node did something about a command, or did not.
	Decided struct {
		Command  fleet.UUID
		Decision exec.Decision
	}
	// FetchGossipKey asks a peer for the key of an epoch, known by its hash.
	FetchGossipKey struct {
		From  fleet.ID
		Epoch auth.GossipEpoch
	}
	// DropPeer closes every stream with a node that was removed.
	DropPeer struct {
		Peer fleet.ID
		Why  string
	}
	// Warn tells the host's log something its owner should know.
	Warn struct{ Text string }
)

func (Ring) effect()            {}
func (ExchangeBeacons) effect() {}
func (FetchActs) effect()       {}
func (FetchOrder) effect()      {}
func (FetchOrders) effect()     {}
func (FetchCancel) effect()     {}
func (KeepActs) effect()        {}
func (KeepFloor) effect()       {}
func (Outgrown) effect()        {}
func (KeepBeacon) effect()      {}
func (HoldOrder) effect()       {}
func (StartRun) effect()        {}
func (KillRun) effect()         {}
func (RefuseRun) effect()       {}
func (SendReport) effect()      {}
func (FetchGossipKey) effect()  {}
func (DropPeer) effect()        {}
func (Warn) effect()            {}
func (FetchDocuments) effect()  {}
func (KeepDocument) effect()    {}
func (AskGrant) effect()        {}
func (AnswerGrant) effect()     {}
func (ProposeGrants) effect()   {}
func (ProposeEndings) effect()  {}
func (AnswerReport) effect()    {}
func (Decided) effect()         {}

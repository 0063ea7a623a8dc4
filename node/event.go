package node

import (
	"net/netip"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/config"
	"github.com/muster-fleet/muster/node/fleet"
)

// Event is something that happened. The set is closed.
type Event interface{ event() }

// The events.
type (
	// Tick says that time went on: the moment that Deadline asked for has come.
	Tick struct{}
	// ConsentSet says what the host's own root withholds from now on. What runs goes on.
	ConsentSet struct{ Consent config.Consent }
	// Gossiped brings gossip's whole picture of who is there.
	Gossiped struct{ Members []Sighting }
	// BellHeard brings a bell. It is a hint by nobody in particular.
	BellHeard struct{ Bell Bell }
	// BeaconHeard brings a beacon that a peer passed on, not verified yet. Hearsay: From is not proved.
	BeaconHeard struct {
		From     fleet.ID
		Envelope auth.Envelope
		Hearsay  bool
		Act      uint64 // of the newest order that From says it has; a hint
	}
	// BeaconMade is this server's own beacon, made by the shell that sees the quorum.
	BeaconMade struct {
		Beacon   auth.Beacon
		Envelope auth.Envelope
	}
	// PeerSilent says that an exchange with a peer came to nothing.
	PeerSilent struct{ Peer fleet.ID }
	// ActsFetched answers FetchActs. No acts and no failure: the peer has none either.
	ActsFetched struct {
		From   fleet.ID
		Acts   []auth.Act
		Failed bool
	}
	// OrderFetched answers FetchOrder.
	OrderFetched struct {
		From    fleet.ID
		Command fleet.UUID
		Order   exec.Order
		Failed  bool
	}
	// OrdersFetched answers FetchOrders. Next is where to go on.
	OrdersFetched struct {
		From   fleet.ID
		Orders []Committed
		Next   uint64
		Failed bool
	}
	// CancelFetched answers FetchCancel. No cancel and no failure: the leader knows of none.
	CancelFetched struct {
		Command   fleet.UUID
		Cancel    []auth.Envelope // none or one: the one that is for this node
		RecordLen uint64          // of the leader: who may order changes with the record
		Failed    bool
	}
	// OrderCommitted says that the quorum, led from here, took a command or its cancel.
	OrderCommitted struct{ Committed Committed }
	// RecordCommitted says that this replica applied an act of the record.
	RecordCommitted struct{ Act auth.Act }
	// RunStarted says that the run is behind its barrier and going.
	RunStarted struct {
		Command fleet.UUID
		At      int64
	}
	// RunNotStarted says that a run could not be started, and that the ledger knows nothing of it.
	RunNotStarted struct {
		Command fleet.UUID
		As      exec.Status // empty: Failed; or InvalidPlatform, Refused
		Why     string
	}
	// RunLate answers StartRun: its By had passed, and the ledger knows nothing of it.
	RunLate struct{ Command fleet.UUID }
	// RefusalKept answers RefuseRun: the ledger has it.
	RefusalKept struct{ Command fleet.UUID }
	// RefusalLost answers RefuseRun: the ledger cannot be written now.
	RefusalLost struct {
		Command fleet.UUID
		Why     string
	}
	// RunWrote brings the output so far of a run that goes on.
	RunWrote struct {
		Command        fleet.UUID
		Stdout, Stderr exec.Stream
		Steps          []exec.StepReport // of a document
	}
	// RunEnded brings the end of a run, or what the ledger says of one that ended earlier.
	RunEnded struct {
		Command        fleet.UUID
		Status         exec.Status
		ExitCode       int
		Signal         string
		Started, Ended int64
		Stdout, Stderr exec.Stream
		Detail         string
		Steps          []exec.StepReport // of a document
	}
	// ReportTaken says that a server keeps a report.
	ReportTaken struct {
		Command fleet.UUID
		Seq     uint32
		Server  fleet.ID
	}
	// DocumentsFetched answers FetchDocuments with those that came, nothing verified.
	DocumentsFetched struct {
		From       fleet.ID // this host itself: it had them
		Command    fleet.UUID
		Statements []auth.Envelope
	}
	// GrantAnswered answers AskGrant.
	GrantAnswered struct {
		Command fleet.UUID
		Asked   time.Duration
		Answer  GrantAnswer
	}
	// Office says whether the quorum is led from here, at the start and whenever that or the term changes.
	Office struct {
		Leading bool
		Term    uint64
	}
	// CommandChanged brings a paced command as it stands in this host's replica: all that may still spread at the start,
	// each as often as it changes.
	CommandChanged struct{ Command *consensus.Command }
	// GrantAsked brings a node's question to the core of the leader. Answer: AnswerGrant with the ticket.
	GrantAsked struct {
		Command fleet.UUID
		Node    fleet.ID
		Ticket  uint64 // not 0
	}
	// GrantsProposed answers ProposeGrants. Where it did not fail, CommandChanged came before.
	GrantsProposed struct {
		Command fleet.UUID
		Failed  bool // or nobody knows
	}
	// EndingsProposed answers ProposeEndings.
	EndingsProposed struct {
		Command fleet.UUID
		Failed  bool
	}
	// ReportKept says that this server keeps a node's report: of every report that it takes, and of those it has when a
	// paced command is new to it.
	ReportKept struct {
		Command fleet.UUID
		Node    fleet.ID
		Status  exec.Status
	}
	// ReportAsked asks for this node's own newest report of a command. Answer: AnswerReport with the ticket.
	ReportAsked struct {
		Command fleet.UUID
		Ticket  uint64
	}
	// DirectOrder brings an order that a person handed to this host while the quorum cannot take it.
	DirectOrder struct{ Order exec.Order }
	// ReportLost says that a server did not take it.
	ReportLost struct {
		Command fleet.UUID
		Seq     uint32
		Server  fleet.ID
	}
)

// Sighting is a member as gossip sees it.
type Sighting struct {
	ID       fleet.ID
	Addrs    []netip.AddrPort
	Via      []fleet.ID // of an outbound-only node, in place of addresses
	Seq      uint64     // of what it said of itself
	Status   fleet.Status
	LastSeen int64 // Unix milliseconds
}

// Committed is an order with its place.
type Committed struct {
	Act    uint64
	Order  exec.Order
	Cancel []auth.Envelope // none or one: for whoever gets this, or, of OrderCommitted, the newest
}

// GrantAnswer is what a node hears that asks for leave to start.
type GrantAnswer uint8

// The answers.
const (
	// GrantFailed: nobody could say. Ask again.
	GrantFailed GrantAnswer = iota
	// Granted: start within exec.StartBy of asking.
	Granted
	// GrantedNow is Granted by a grant that the quorum took from here after the question was asked: that alone proves that
	// this host led. On the wire it is Granted.
	GrantedNow
	// GrantWait: ask again when it is your turn.
	GrantWait
	// GrantStopped: nothing more of this command starts anywhere.
	GrantStopped
	// GrantCancelled: so it is, because it was cancelled. Fetch the cancel.
	GrantCancelled
	// GrantEnded: the servers say that the command has ended on this node. A node that knows nothing of it has lost its
	// memory, and must not start.
	GrantEnded
)

// String returns the answer for people.
func (a GrantAnswer) String() string {
	switch a {
	case Granted, GrantedNow:
		return "granted"
	case GrantWait:
		return "wait"
	case GrantStopped:
		return "stopped"
	case GrantCancelled:
		return "cancelled"
	case GrantEnded:
		return "ended"
	case GrantFailed:
	}
	return "no answer"
}

func (Tick) event()             {}
func (ConsentSet) event()       {}
func (Gossiped) event()         {}
func (BellHeard) event()        {}
func (BeaconHeard) event()      {}
func (BeaconMade) event()       {}
func (PeerSilent) event()       {}
func (ActsFetched) event()      {}
func (OrderFetched) event()     {}
func (OrdersFetched) event()    {}
func (CancelFetched) event()    {}
func (OrderCommitted) event()   {}
func (RecordCommitted) event()  {}
func (RunStarted) event()       {}
func (RunNotStarted) event()    {}
func (RefusalKept) event()      {}
func (RefusalLost) event()      {}
func (RunWrote) event()         {}
func (RunEnded) event()         {}
func (ReportTaken) event()      {}
func (ReportLost) event()       {}
func (RunLate) event()          {}
func (DocumentsFetched) event() {}
func (GrantAnswered) event()    {}
func (Office) event()           {}
func (CommandChanged) event()   {}
func (GrantAsked) event()       {}
func (GrantsProposed) event()   {}
func (EndingsProposed) event()  {}
func (ReportKept) event()       {}
func (ReportAsked) event()      {}
func (DirectOrder) event()      {}

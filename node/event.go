package node

import (
	"net/netip"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Event is something that happened. The set is closed.
type Event interface{ event() }

// The events.
type (
	// Tick says that time went on: the moment that Deadline asked for has come.
	Tick struct{}
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
		Cancel    []auth.Envelope // none or one
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
		Why     string
	}
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
	}
	// ReportTaken says that a server keeps a report.
	ReportTaken struct {
		Command fleet.UUID
		Seq     uint32
		Server  fleet.ID
	}
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
	Status   fleet.Status
	LastSeen int64 // Unix milliseconds
}

// Committed is an order with its place.
type Committed struct {
	Act    uint64
	Order  exec.Order
	Cancel []auth.Envelope // none or one
}

func (Tick) event()            {}
func (Gossiped) event()        {}
func (BellHeard) event()       {}
func (BeaconHeard) event()     {}
func (BeaconMade) event()      {}
func (PeerSilent) event()      {}
func (ActsFetched) event()     {}
func (OrderFetched) event()    {}
func (OrdersFetched) event()   {}
func (CancelFetched) event()   {}
func (OrderCommitted) event()  {}
func (RecordCommitted) event() {}
func (RunStarted) event()      {}
func (RunNotStarted) event()   {}
func (RefusalKept) event()     {}
func (RefusalLost) event()     {}
func (RunWrote) event()        {}
func (RunEnded) event()        {}
func (ReportTaken) event()     {}
func (ReportLost) event()      {}

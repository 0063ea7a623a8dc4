package exec

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// What a decision is about, in the order in which an order passes them.
const (
	DecidedBell      = "bell"      // heard, or told by a member
	DecidedFetch     = "fetch"     // of the order, its documents, its cancel
	DecidedSignature = "signature" // of the operator
	DecidedSet       = "set"       // this node is, or is not, among those that were signed
	DecidedTarget    = "target"    // by this node's own tags and facts
	DecidedPolicy    = "policy"
	DecidedConsent   = "consent" // of this host's own root, or of who drained it
	DecidedDocuments = "documents"
	DecidedTime      = "time" // expired, not valid yet, a clock that is not to be trusted
	DecidedGrant     = "grant"
	DecidedCancel    = "cancel"
	DecidedLedger    = "ledger"
	DecidedStart     = "start"
	DecidedStep      = "step"
	DecidedEnd       = "end"
	DecidedReport    = "report"
	DecidedOutput    = "output" // a copy of the full output that was asked for
	DecidedLost      = "lost"   // not a decision: here some may be missing, and Detail says why
)

// Limits of decisions.
const (
	MaxDecisionWhat   = 16  // bytes
	MaxDecisionDetail = 512 // bytes
	// MaxDecisions is how many of one command are shown: the first and the last halves of them.
	MaxDecisions = 500
	// MaxDecisionsSize bounds an encoded list of them, in bytes.
	MaxDecisionsSize = (MaxDecisions + 2) * (MaxDecisionWhat + MaxDecisionDetail + 24)
)

// Decision is one thing that a node decided about a command, and why.
type Decision struct {
	At     int64  // Unix milliseconds by the node's clock
	What   string // one of the words above
	Detail string // one line for people
}

// Hearsay reports whether the decision was made before the operator's signature was verified: any member can cause such
// ones, about commands that do not exist.
func (d Decision) Hearsay() bool {
	switch d.What {
	case DecidedBell, DecidedFetch, DecidedSignature:
		return true
	}
	return false
}

// Bounded returns the decision as it is kept and shown: valid text on one line, nothing that a terminal would act on, and
// within the limits.
func (d Decision) Bounded() Decision {
	d.What = clipText(d.What, MaxDecisionWhat)
	d.Detail = clipText(d.Detail, MaxDecisionDetail)
	return d
}

// Line returns the decision as one line for people.
func (d Decision) Line() string {
	d = d.Bounded()
	at := time.UnixMilli(d.At).UTC().Format("2006-01-02 15:04:05.000Z")
	return strings.TrimRight(at+"  "+d.What+strings.Repeat(" ", max(0, len(DecidedSignature)-len(d.What)))+"  "+d.Detail, " ")
}

// Check reports what is wrong with a decision that a peer sent, or nil.
func (d Decision) Check() error {
	if d != d.Bounded() {
		return fleet.Errorf(fleet.Invalid, "malformed decision")
	}
	return nil
}

// EncodeDecisions returns the wire form of a command's decisions; what MaxDecisions leaves out is said in its place.
func EncodeDecisions(all []Decision) []byte { return wire.Marshal(ShortDecisions(all)) }

// DecodeDecisions reads what EncodeDecisions wrote; the sender may be anybody.
func DecodeDecisions(data []byte) ([]Decision, error) {
	var out []Decision
	if len(data) > MaxDecisionsSize {
		return nil, fleet.Errorf(fleet.Exhausted, "%d bytes of decisions; at most %d", len(data), MaxDecisionsSize)
	}
	if err := wire.Unmarshal(data, &out); err != nil {
		return nil, err
	}
	for _, d := range out {
		if err := d.Check(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// ShortDecisions returns at most MaxDecisions of them: the first and the last, and between them how many are left out.
func ShortDecisions(all []Decision) []Decision {
	out := make([]Decision, 0, min(len(all), MaxDecisions+1))
	for i, d := range all {
		d = d.Bounded()
		switch from := len(all) - MaxDecisions/2; {
		case len(all) <= MaxDecisions || i < MaxDecisions/2 || i >= from:
			out = append(out, d)
		case i == MaxDecisions/2:
			out = append(out, Decision{At: d.At, What: DecidedLost, Detail: strconv.Itoa(from-i) + " decisions are left out here: the list is long"})
		}
	}
	return out
}

// clipText makes text printable and cuts it to a size, at a character.
func clipText(text string, most int) string {
	if len(text) > 2*most { // what is cut anyway need not be made printable
		text = text[:2*most]
	}
	text = string(Printable([]byte(strings.NewReplacer("\n", " ", "\t", " ").Replace(text))))
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}

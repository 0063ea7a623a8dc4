package consensus

import (
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// Entry is one thing to agree on. The set is closed.
type Entry interface{ kind() uint8 }

// The entries. Each carries what was signed, never a decision of the proposer's; PutGrants and PutEndings, which pace a
// command, are the exceptions: whatever they say, Apply keeps the bounds that the operator signed.
type (
	// PutAct takes one act into the record that every node keeps.
	PutAct struct {
		Kind auth.ActKind
		Data []byte
	}
	// PutToken makes a token usable.
	PutToken struct{ Statement auth.Envelope }
	// DeleteToken takes a token back.
	DeleteToken struct{ Statement auth.Envelope }
	// PutCommand gives a command its place in the order.
	PutCommand struct {
		Statement auth.Envelope
		Nodes     []fleet.ID
	}
	// PutCancel cancels a command.
	PutCancel struct{ Statement auth.Envelope }
	// PutRequest keeps a person's wish to become an operator until a root decides. It carries no right.
	PutRequest struct{ Request OperatorRequest }
	// PutDocument makes a text the next version of a document.
	PutDocument struct{ Statement auth.Envelope }
	// ChangeDocument sets a document's default version, or deletes versions.
	ChangeDocument struct{ Statement auth.Envelope }
	// PutGrants gives nodes of a paced command leave to start: all of them or none.
	PutGrants struct {
		Command fleet.UUID
		Nodes   []uint32 // places in the frozen set
	}
	// PutEndings notes what became of nodes of a paced command.
	PutEndings struct {
		Command fleet.UUID
		Ends    []exec.Ending
	}
	// PutParams takes a change of parameters: all of its operations or none.
	PutParams struct {
		Statement auth.Envelope // of params.Change, which has the hashes of
		Ops       [][]byte      // the encoded operations,
		Contents  [][]byte      // and, of those that put, the encoded contents in the same order
	}
	// ParamsDue lets time do what is due: give notice, and end what has expired. It says nothing; what is due follows from
	// the state and its time.
	ParamsDue struct{}
	// SetLevel raises the fleet's level by one. Only a leader that knows it of all who must read what comes then proposes it.
	SetLevel struct{ Level fleet.Level }
)

// OperatorRequest is what a person on another host asks for. Its hash is the code that is read out to the approver.
type OperatorRequest struct {
	Nonce  fleet.UUID
	Name   string
	Key    []byte // Ed25519 public key
	HPKE   []byte
	Node   fleet.ID // the host it was made on
	Issued int64    // Unix milliseconds
}

// Code returns the hash by which the request is approved.
func (r OperatorRequest) Code() fleet.ID { return fleet.Sum(wire.Marshal(r)) }

const (
	kindPutAct uint8 = iota + 1
	kindPutToken
	kindDeleteToken
	kindPutCommand
	kindPutCancel
	kindPutRequest
	kindPutDocument
	kindChangeDocument
	kindPutGrants
	kindPutEndings
	kindPutParams
	kindParamsDue
	kindSetLevel
	kindsEnd
)

func (PutAct) kind() uint8         { return kindPutAct }
func (PutToken) kind() uint8       { return kindPutToken }
func (DeleteToken) kind() uint8    { return kindDeleteToken }
func (PutCommand) kind() uint8     { return kindPutCommand }
func (PutCancel) kind() uint8      { return kindPutCancel }
func (PutRequest) kind() uint8     { return kindPutRequest }
func (PutDocument) kind() uint8    { return kindPutDocument }
func (ChangeDocument) kind() uint8 { return kindChangeDocument }
func (PutGrants) kind() uint8      { return kindPutGrants }
func (PutEndings) kind() uint8     { return kindPutEndings }
func (PutParams) kind() uint8      { return kindPutParams }
func (ParamsDue) kind() uint8      { return kindParamsDue }
func (SetLevel) kind() uint8       { return kindSetLevel }

// EntryVersion is the version that this code writes, the same for all kinds until one changes.
const EntryVersion uint8 = 1

// MaxEntry bounds the bytes of one encoded entry: a command for 10,000 nodes is the largest.
const MaxEntry = 512 << 10

// Encode returns {kind, version, array of leader's time in Unix milliseconds and the entry}.
func Encode(e Entry, now int64) []byte {
	body := wire.Marshal(struct {
		Time int64
		Body Entry
	}{now, e})
	return append([]byte{e.kind(), EntryVersion}, body...)
}

// Decode reads what Encode wrote. What it cannot read is refused, by every program alike: nothing that a level brought may come
// below that level, and no program goes on to a level that it does not know (State.Beyond). So a program that can read it
// refuses it below its level, too, before anything else, and leaves not even its time: see DESIGN.md.
func Decode(data []byte) (e Entry, now int64, err error) {
	if len(data) < 2 || len(data) > MaxEntry {
		return nil, 0, fleet.Errorf(fleet.Invalid, "entry of %d bytes", len(data))
	}
	if data[1] == 0 || data[0] == 0 {
		return nil, 0, fleet.Errorf(fleet.Invalid, "entry of kind %d and version %d, which are none", data[0], data[1])
	}
	if data[1] != EntryVersion {
		return nil, 0, fleet.Errorf(fleet.Invalid, "entry of version %d; this version reads %d", data[1], EntryVersion)
	}
	switch data[0] {
	case kindPutAct:
		return decode[PutAct](data[2:])
	case kindPutToken:
		return decode[PutToken](data[2:])
	case kindDeleteToken:
		return decode[DeleteToken](data[2:])
	case kindPutCommand:
		return decode[PutCommand](data[2:])
	case kindPutCancel:
		return decode[PutCancel](data[2:])
	case kindPutRequest:
		return decode[PutRequest](data[2:])
	case kindPutDocument:
		return decode[PutDocument](data[2:])
	case kindChangeDocument:
		return decode[ChangeDocument](data[2:])
	case kindPutGrants:
		return decode[PutGrants](data[2:])
	case kindPutEndings:
		return decode[PutEndings](data[2:])
	case kindPutParams:
		return decode[PutParams](data[2:])
	case kindParamsDue:
		return decode[ParamsDue](data[2:])
	case kindSetLevel:
		return decode[SetLevel](data[2:])
	}
	return nil, 0, fleet.Errorf(fleet.Invalid, "entry of kind %d is not understood by this version", data[0])
}

func decode[T Entry](data []byte) (Entry, int64, error) {
	var stamped struct {
		Time int64
		Body T
	}
	err := wire.Unmarshal(data, &stamped)
	return stamped.Body, stamped.Time, err
}

// Stamp returns an encoded entry with another time, as its leader stamps it. It reads no further than the time: Decode says
// whether the item is an entry at all.
func Stamp(item []byte, now int64) ([]byte, error) {
	const pair = 0x92 // msgpack's header of an array of two
	if len(item) < 4 || len(item) > MaxEntry || item[2] != pair {
		return nil, fleet.Errorf(fleet.Invalid, "entry of %d bytes without its time", len(item))
	}
	size := 1 // of the time
	switch b := item[3]; {
	case b <= 0x7f, b >= 0xe0:
	case b >= 0xcc && b <= 0xd3: // unsigned and signed, of 1, 2, 4 and 8 bytes
		size += 1 << ((b - 0xcc) % 4)
	default:
		return nil, fleet.Errorf(fleet.Invalid, "entry whose time is no number")
	}
	if len(item) < 3+size {
		return nil, fleet.Errorf(fleet.Invalid, "entry of %d bytes without its time", len(item))
	}
	out := append(make([]byte, 0, len(item)+9), item[:3]...)
	out = append(out, wire.Marshal(now)...)
	return append(out, item[3+size:]...), nil
}

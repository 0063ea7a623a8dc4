package consensus

import (
	"bufio"
	"encoding/binary"
	"io"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// A snapshot is a sequence of records {u32 length, u8 kind, canonical msgpack}, in this order: head, acts, tokens by
// ID, commands by act index, results by act index, requests. The same state gives the same bytes on every replica.
const (
	snapHead uint8 = iota + 1
	snapAct
	snapToken
	snapCommand
	snapResult
	snapRequest
	snapEnd
)

// SnapshotFormat is the version of that layout.
const SnapshotFormat = 1

type snapshotHead struct {
	Format uint8
	Act    uint64
	Time   int64
}

type snapshotToken struct {
	Statement auth.Envelope
	Used      uint32
	Deleted   bool
}

type snapshotCommand struct {
	Order     exec.Order
	Operator  string
	Act       uint64
	Committed int64
	Cancel    []auth.Envelope // none or one
	Cancelled int64
}

type snapshotResult struct {
	ID     fleet.UUID
	Result Result
}

// WriteSnapshot writes the state in canonical form.
func (s State) WriteSnapshot(w io.Writer) error {
	out := bufio.NewWriter(w)
	var failed error
	put := func(kind uint8, v any) {
		body := wire.Marshal(v)
		frame := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
		if _, err := out.Write(append(append(frame, kind), body...)); err != nil && failed == nil {
			failed = err
		}
	}
	put(snapHead, snapshotHead{SnapshotFormat, s.Act, s.Time})
	s.acts.Root().Walk(func(_ []byte, act auth.Act) bool {
		put(snapAct, act)
		return failed != nil
	})
	s.tokens.Root().Walk(func(_ []byte, t *Token) bool {
		put(snapToken, snapshotToken{t.Statement, t.Used, t.Deleted})
		return failed != nil
	})
	s.commands.Root().Walk(func(_ []byte, c *Command) bool {
		sc := snapshotCommand{Order: c.Order, Operator: c.Operator, Act: c.Act, Committed: c.Committed, Cancelled: c.Cancelled}
		if c.Cancel != nil {
			sc.Cancel = []auth.Envelope{*c.Cancel}
		}
		put(snapCommand, sc)
		return failed != nil
	})
	s.order.Root().Walk(func(_ []byte, id fleet.UUID) bool {
		r, _ := s.results.Get(id[:])
		put(snapResult, snapshotResult{id, r})
		return failed != nil
	})
	for _, r := range s.requests {
		put(snapRequest, r)
	}
	put(snapEnd, s.Record.Head)
	if failed == nil {
		failed = out.Flush()
	}
	return failed
}

// ReadSnapshot reads what WriteSnapshot wrote. The record is verified again from its genesis on.
func ReadSnapshot(r io.Reader) (State, error) {
	s := NewState()
	in := bufio.NewReader(r)
	var head snapshotHead
	for {
		var prefix [5]byte
		if _, err := io.ReadFull(in, prefix[:]); err != nil {
			return s, fleet.Errorf(fleet.Invalid, "snapshot is cut: %w", err)
		}
		size := binary.BigEndian.Uint32(prefix[:4])
		if size > 2*MaxEntry {
			return s, fleet.Errorf(fleet.Invalid, "snapshot has a record of %d bytes", size)
		}
		body := make([]byte, size)
		if _, err := io.ReadFull(in, body); err != nil {
			return s, fleet.Errorf(fleet.Invalid, "snapshot is cut: %w", err)
		}
		if prefix[4] == snapEnd {
			return s, s.finish(head, body)
		}
		if err := s.restore(prefix[4], body, &head); err != nil {
			return s, err
		}
	}
}

func (s *State) finish(head snapshotHead, body []byte) error {
	var recordHead fleet.ID
	if err := wire.Unmarshal(body, &recordHead); err != nil {
		return err
	}
	if head.Format != SnapshotFormat {
		return fleet.Errorf(fleet.Invalid, "snapshot of format %d; this version reads %d", head.Format, SnapshotFormat)
	}
	if recordHead != s.Record.Head {
		return fleet.Errorf(fleet.Invalid, "snapshot's record ends at %s, not at %s", s.Record.Head, recordHead)
	}
	s.Act, s.Time = head.Act, head.Time
	return nil
}

func (s *State) restore(kind uint8, body []byte, head *snapshotHead) error {
	switch kind {
	case snapHead:
		return wire.Unmarshal(body, head)
	case snapAct:
		var act auth.Act
		if err := wire.Unmarshal(body, &act); err != nil {
			return err
		}
		record, err := s.Record.Apply(act, fleet.ID{})
		s.acts, _, _ = s.acts.Insert(key64(s.Record.Length), act)
		s.Record = record
		return err
	case snapToken:
		var st snapshotToken
		if err := wire.Unmarshal(body, &st); err != nil {
			return err
		}
		t, err := auth.Peek[auth.Token](st.Statement)
		s.tokens, _, _ = s.tokens.Insert(t.Header.ID[:], &Token{Statement: st.Statement, Body: t, Used: st.Used, Deleted: st.Deleted})
		return err
	case snapCommand:
		var sc snapshotCommand
		if err := wire.Unmarshal(body, &sc); err != nil {
			return err
		}
		cmd, err := auth.Peek[exec.Command](sc.Order.Statement)
		c := &Command{Order: sc.Order, Body: cmd, Operator: sc.Operator, Act: sc.Act, Committed: sc.Committed, Cancelled: sc.Cancelled}
		if len(sc.Cancel) > 0 {
			c.Cancel = &sc.Cancel[0]
		}
		s.commands, _, _ = s.commands.Insert(key64(c.Act), c)
		s.byID, _, _ = s.byID.Insert(cmd.Header.ID[:], c.Act)
		return err
	case snapResult:
		var sr snapshotResult
		if err := wire.Unmarshal(body, &sr); err != nil {
			return err
		}
		s.results, _, _ = s.results.Insert(sr.ID[:], sr.Result)
		s.order, _, _ = s.order.Insert(key64(sr.Result.Act), sr.ID)
		return nil
	case snapRequest:
		var r OperatorRequest
		err := wire.Unmarshal(body, &r)
		s.requests = append(s.requests, r)
		return err
	}
	return fleet.Errorf(fleet.Invalid, "snapshot has a record of kind %d, not understood by this version", kind)
}

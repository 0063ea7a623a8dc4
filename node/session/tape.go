package session

import (
	"sync"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/session/cast"
)

// syncPace is how long what was recorded may wait for the disk, where the recording is not durable.
const syncPace = 100 * time.Millisecond

// tape is the recording of a session as its mode has it. One without a writer records nothing.
type tape struct {
	w       *cast.Writer // nil: none
	durable bool
	notice  func(text string) // tells the human
	spoiled func(why string)  // the session may not go on without it

	mu     sync.Mutex
	timer  *time.Timer // nil: nothing waits for the disk
	over   bool
	failed bool // and the human knows
}

// openTape begins the recording. Where it must not fail and does, that is the error; else the session goes on without.
func openTape(o order, path string, notice, spoiled func(string)) (*tape, error) {
	t := &tape{durable: o.Session.Record == node.RecordDurable, notice: notice, spoiled: spoiled}
	if o.Session.Record == node.RecordNone {
		if why := o.Session.Unrecorded; why != "" {
			notice("this session is not recorded: " + why)
		}
		return t, nil
	}
	s := o.Session
	w, err := cast.Create(path, o.header(), cast.Options{Input: s.Input, Auditors: s.Auditors})
	switch {
	case err == nil:
		t.w = w
	case t.durable:
		return nil, err
	default:
		notice("this session is not recorded: " + err.Error())
	}
	return t, nil
}

// header is what the recording begins with.
func (o order) header() cast.Header {
	s := o.Session
	h := cast.Header{Session: s.ID, Node: o.Node, NodeName: o.NodeName, Operator: s.Operator, By: s.By, User: s.User, Kind: s.Kind.String(),
		Argv: s.Argv, Reason: s.Reason, Start: time.UnixMilli(s.Opened)}
	for _, x := range s.Terminal {
		h.Terminal, h.Rows, h.Cols = x.Name, x.Rows, x.Cols
	}
	return h
}

// output records what the program wrote, and reports whether it may be shown.
func (t *tape) output(onError bool, p []byte) bool {
	if t.w == nil {
		return true
	}
	if onError {
		_ = t.w.ErrorOutput(p) // Flush and Sync say what is wrong, too
	} else {
		_ = t.w.Output(p)
	}
	return t.keep()
}

// keep brings what was recorded to where its mode wants it, and reports whether it is there or need not be.
func (t *tape) keep() bool {
	if t.durable {
		err := t.sync()
		if t.w.Gaps() {
			t.syncSoon()
		}
		return err == nil
	}
	t.heard(t.w.Flush())
	t.syncSoon()
	return true
}

// sync brings to the disk what was recorded, and says what it means if it cannot.
func (t *tape) sync() error {
	err := t.w.Sync()
	switch {
	case !t.durable:
		t.heard(err)
	case err != nil:
		t.spoiled("its recording, which is to be durable, cannot be written: " + err.Error())
	}
	return err
}

// input records what was typed, as far as it is to be.
func (t *tape) input(p []byte) {
	if t.w != nil {
		_ = t.w.Input(p) // the output that follows says what is wrong
	}
}

func (t *tape) resize(rows, cols uint16) {
	if t.w != nil {
		_ = t.w.Resize(rows, cols) // likewise
	}
}

func (t *tape) mark(text string) {
	if t.w != nil {
		_ = t.w.Mark(cast.MarkNotice, text) // likewise
	}
}

// heard tells the human once when the recording fails, and once when it goes on.
func (t *tape) heard(err error) {
	t.mu.Lock()
	was := t.failed
	t.failed = err != nil
	t.mu.Unlock()
	switch {
	case err != nil && !was:
		t.notice("the recording of this session fails, what you see is not kept: " + err.Error())
	case err == nil && was:
		t.notice("the recording of this session goes on")
	}
}

func (t *tape) syncSoon() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer == nil && !t.over {
		t.timer = time.AfterFunc(syncPace, t.syncNow)
	}
}

func (t *tape) syncNow() {
	t.mu.Lock()
	t.timer = nil
	t.mu.Unlock()
	_ = t.sync() // which has said what is wrong
	if t.w.Gaps() {
		t.syncSoon()
	}
}

// close ends the recording, and says what it came to.
func (t *tape) close(e cast.End) node.SessionRecording {
	if t.w == nil {
		return node.SessionRecording{}
	}
	t.mu.Lock()
	t.over = true
	if t.timer != nil {
		t.timer.Stop()
	}
	t.mu.Unlock()
	sum, err := t.w.Close(e)
	if err != nil {
		t.notice("the recording of this session is not whole: " + err.Error())
	}
	return node.SessionRecording{Bytes: sum.Bytes, Digest: sum.Digest, Left: sum.Missing + sum.Omitted}
}

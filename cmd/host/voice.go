package host

import (
	"context"
	"sync"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/folder"
)

// voice numbers what this host signs about itself, and hears whether somebody else signs with its key.
type voice struct {
	mu      sync.Mutex
	own     node.Voice
	strange uint64        // the highest sequence that somebody else told; 0: nobody did
	heard   chan struct{} // strange is another
	signed  sync.Mutex    // one sequence at a time; held while the disk is written, and mu is not
}

func newVoice(f *folder.Folder) *voice {
	return &voice{own: node.NewVoice(f.Told()), heard: make(chan struct{}, 1)}
}

// sequence returns the next number to sign, which is the folder's before anybody hears it. A disk that takes nothing leaves a
// few numbers to go on with.
func (h *Host) sequence(least uint64) (uint64, error) {
	v := h.voice
	v.signed.Lock()
	defer v.signed.Unlock()
	v.mu.Lock()
	next := v.own.Next(h.Agent.Now(), least)
	v.mu.Unlock()
	err := h.folder.PutTold(next)
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil {
		spare, ok := v.own.Spare(least)
		if !ok {
			return 0, err
		}
		h.opts.Log.Warn("cannot keep what gossip is told", "err", err)
		next = spare
	}
	v.own.Said(next, err == nil)
	return next, nil
}

// echo hears a sequence that was told under this host's key. It is called under gossip's locks.
func (v *voice) echo(sequence uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.own.Strange(sequence) || sequence <= v.strange {
		return
	}
	v.strange = sequence
	select {
	case v.heard <- struct{}{}:
	default:
	}
}

func (v *voice) highest() uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.strange
}

// quarantineAgain is how long the host waits until it tries again to write down that it does nothing any more.
const quarantineAgain = 5 * time.Second

// awaitClone returns true when somebody else turned out to use this host's key, and that was written down: from the next start on
// this host does nothing. It is false when ctx ends. A host that does nothing already keeps what it hears.
func (h *Host) awaitClone(ctx context.Context) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-h.voice.heard:
		}
		if h.idle == "" {
			h.opts.Log.Error(node.CloneText, "node", h.Name, "id", h.ID)
		}
		for !h.putQuarantine() {
			select {
			case <-ctx.Done():
				return false
			case <-time.After(quarantineAgain):
			}
		}
		if h.idle == "" {
			return true
		}
	}
}

// putQuarantine writes down what was heard; what was written before stays but for that.
func (h *Host) putQuarantine() bool {
	q, already := h.folder.Quarantine()
	if !already {
		q.Since = h.Agent.Now().UnixMilli()
	}
	q.Why, q.Seen = node.CloneText, max(q.Seen, h.voice.highest())
	err := h.folder.PutQuarantine(q)
	if err != nil {
		h.opts.Log.Error("it cannot be written down that this host does nothing any more", "err", err)
	}
	return err == nil
}

// quarantine reads whether this host does nothing any more, and says so to people; an operator may have said that it works
// again.
func (h *Host) quarantine(record auth.Record) (idle string) {
	q, is := h.folder.Quarantine()
	signed, said := h.folder.TakeReadmit()
	if !is {
		return ""
	}
	if said {
		err := h.readmit(record, signed, q.Seen)
		if err == nil {
			return ""
		}
		h.opts.Log.Error("this host is not readmitted", "err", err)
	}
	h.opts.Log.Error(node.CloneText, "node", h.Name, "since", time.UnixMilli(q.Since).UTC().Format(time.RFC3339))
	return node.CloneRefusal
}

// readmit ends the quarantine by an operator's word. What was told under this host's key until then counts as its own, also what
// nobody has let this host hear yet: sequences follow the clock, and a member that held one back would have it in quarantine again. A
// copy that lives on all the same is found out by what it tells next, and finds itself out by what this host tells.
func (h *Host) readmit(record auth.Record, signed auth.Envelope, seen uint64) error {
	now := h.opts.Clock().Wall
	op, err := record.JudgeReadmit(signed, h.ID, seen, now)
	if err != nil {
		return err
	}
	told, _ := h.folder.Told()
	if err := h.folder.PutTold(max(told, seen, uint64(max(0, now.UnixNano())))); err != nil {
		return err
	}
	if err := h.folder.EndQuarantine(); err != nil {
		return err
	}
	h.opts.Log.Warn("an operator has readmitted this host", "operator", op.Name)
	return nil
}

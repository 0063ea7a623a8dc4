package main

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

const (
	ownTitle = "muster record of a fleet, verified 1\n"
	// maxOwnAct bounds one act in the file, in bytes; the largest is a charter's entry.
	maxOwnAct = 32 << 10
	// tellAbove is how many acts are fetched without a word.
	tellAbove = 2_000
)

// ownRecord is the fleet's record as this person has verified it, from the fleet's ID in their key file on. It is kept from
// command to command, so that no agent can show an older one, and only what is new is fetched.
type ownRecord struct {
	app *app
	ask *api.Client

	mu     sync.Mutex
	path   string // empty: there is no place for it
	loaded bool
	fleet  fleet.ID
	chain  chain
	size   int64 // bytes of the file that hold
	seen   int64 // bytes of the file when it was read
}

// newOwnRecord makes one that asks c for what is new. Nothing is read yet.
func (a *app) newOwnRecord(c *api.Client) *ownRecord { return &ownRecord{app: a, ask: c} }

// kept returns what is on disk.
func (o *ownRecord) kept(of fleet.ID) (auth.Record, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	err := o.load(of)
	return o.chain.record, err
}

// load reads the file once. The caller holds o.mu.
func (o *ownRecord) load(of fleet.ID) (err error) {
	if o.loaded {
		return nil
	}
	o.fleet, o.path, o.chain = of, o.app.ownRecordPath(of), newChain()
	raw, err := o.app.readOwnFile(o.path)
	if err == nil {
		o.chain, o.size, err = replayOwn(raw, of)
	}
	if err != nil {
		return inFile(o.path, fleet.Errorf(fleet.KindOf(err), "%w", err).
			Hinted("it guards against hosts that show an older record; to begin anew by what the host says: rm '%s'", o.path))
	}
	o.seen, o.loaded = int64(len(raw)), true
	return nil
}

// Newest returns the record with all that the agent's had when this was called.
func (o *ownRecord) Newest(ctx context.Context) (auth.Record, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.loaded {
		who, err := o.app.readIdentity(o.app.identityPath())
		if err == nil {
			err = o.load(who.Fleet)
		}
		if err != nil {
			return auth.Record{}, err
		}
	}
	var fresh []auth.Act
	defer func() { o.keep(fresh) }()
	for told := false; ; {
		have := o.chain.record.Length
		answer, err := o.ask.Acts(ctx, have)
		if err != nil {
			return auth.Record{}, err
		}
		if !told && answer.Length > have+tellAbove {
			told = true
			o.app.say("fetching what the fleet has signed since: %d acts", answer.Length-have)
		}
		next, err := o.chain.goOn(answer, o.fleet, time.Now())
		if err != nil {
			return auth.Record{}, o.differs(err)
		}
		if next.record.Charter == nil {
			return auth.Record{}, fleet.Errorf(fleet.Unavailable, "the agent has no record of the fleet yet").Hinted("ask again in a moment, or another host")
		}
		o.chain, fresh = next, append(fresh, answer.Acts...)
		if o.chain.record.Length >= answer.Length {
			return o.chain.record, nil
		}
	}
}

// differs says what it means that an agent's record does not go on from the one that is kept.
func (o *ownRecord) differs(err error) error {
	out := fleet.Errorf(fleet.KindOf(err), "the record that the agent gives is not taken: %w", err)
	if o.size == 0 || fleet.KindOf(err) == fleet.Unavailable {
		return out
	}
	return out.Hinted("ask another host; after the fleet was restored from a backup, begin anew: rm '%s'", o.path)
}

// keep appends acts to the file, unless another command has meanwhile. The caller holds o.mu.
func (o *ownRecord) keep(fresh []auth.Act) {
	if len(fresh) == 0 || o.path == "" {
		return
	}
	err := o.write(fresh)
	if err != nil {
		o.app.say("the fleet's record cannot be kept in %s, so that an agent that shows an older one next time is not noticed: %s", o.path, err)
		o.path = ""
	}
}

func (o *ownRecord) write(fresh []auth.Act) error {
	who := o.app.keyOwner()
	return asOwner(who, func() error { return o.append(fresh, who) })
}

func (o *ownRecord) append(fresh []auth.Act, who owner) error {
	if err := makeDirs(filepath.Dir(o.path), who); err != nil {
		return err
	}
	f, err := os.OpenFile(o.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil || info.Size() != o.seen { // another command was faster, and has kept as much or will
		return err
	}
	raw := encodeOwn(fresh, o.size == 0)
	_, err = f.WriteAt(raw, o.size)
	if err == nil {
		err = f.Truncate(o.size + int64(len(raw))) // a crash had left more
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return errors.Join(err, f.Truncate(o.size))
	}
	o.size += int64(len(raw))
	o.seen = o.size
	return nil
}

func encodeOwn(acts []auth.Act, begin bool) []byte {
	var out []byte
	if begin {
		out = append(out, ownTitle...)
	}
	for _, act := range acts {
		raw := wire.Marshal(act)
		out = binary.BigEndian.AppendUint32(out, uint32(len(raw)))
		out = append(out, raw...)
	}
	return out
}

// replayOwn verifies what is kept. What a crash has cut at the end is left out.
func replayOwn(raw []byte, of fleet.ID) (chain, int64, error) {
	c := newChain()
	if len(raw) < len(ownTitle) && ownTitle[:len(raw)] == string(raw) {
		return c, 0, nil
	}
	if len(raw) < len(ownTitle) || string(raw[:len(ownTitle)]) != ownTitle {
		return c, 0, fleet.Errorf(fleet.Invalid, "it does not begin as the record of a fleet")
	}
	at := len(ownTitle)
	for len(raw)-at >= 4 {
		size := int(binary.BigEndian.Uint32(raw[at:]))
		if size > maxOwnAct {
			return c, 0, fleet.Errorf(fleet.Invalid, "it is damaged at byte %d: an act of %d bytes", at, size)
		}
		if len(raw)-at-4 < size {
			break
		}
		var act auth.Act
		err := wire.Unmarshal(raw[at+4:at+4+size], &act)
		if err == nil {
			c, err = c.take(act, of)
		}
		if err != nil {
			return c, 0, fleet.Errorf(fleet.Invalid, "it is damaged at byte %d: %w", at, err)
		}
		at += 4 + size
	}
	return c, int64(at), nil
}

func (a *app) readOwnFile(path string) (raw []byte, err error) {
	if path == "" {
		return nil, nil
	}
	err = asOwner(a.keyOwner(), func() error {
		raw, err = readOwn(path)
		return err
	})
	return raw, err
}

func readOwn(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fleet.Errorf(fleet.Denied, "%w", err)
	}
	defer f.Close()
	const most = auth.MaxRecord + auth.MaxCharterSize + auth.MaxNodes<<10
	raw, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && len(raw) > most {
		err = fleet.Errorf(fleet.Invalid, "it has more than %d bytes", most)
	}
	return raw, err
}

// ownRecordPath returns where a fleet's record is kept: it belongs to the person, as the key does. Empty: nowhere.
func (a *app) ownRecordPath(of fleet.ID) string {
	state := a.getenv("XDG_STATE_HOME")
	if caller, ok := a.sudoCaller(); ok {
		state = filepath.Join(caller.home, ".local", "state")
	} else if home := a.getenv("HOME"); state == "" && home != "" {
		state = filepath.Join(home, ".local", "state")
	}
	if !filepath.IsAbs(state) {
		return ""
	}
	return filepath.Join(state, "muster", of.Text(), "record")
}

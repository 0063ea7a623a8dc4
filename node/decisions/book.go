package decisions

import (
	"bufio"
	"cmp"
	"errors"
	"io"
	"os"
	"slices"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

// book is one file of records, oldest first, appended and never synced: what a crash tears off the end was never promised.
type book struct {
	path string
	f    *os.File
	size int64
	most int64 // bytes on the disk, those of a rewriting included
	pass int64 // bytes to let go by before a rewriting that failed is tried again
	why  error // it failed
}

// openBook opens or makes a file and returns what is in it: the highest sequence and how many bytes are damaged.
func openBook(path string, most int64) (b *book, seq uint64, bad int64, err error) {
	_ = os.Remove(path + newSuffix) // of a rewriting that was cut off
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, 0, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, 0, err
	}
	b = &book{path: path, f: f, size: info.Size(), most: most}
	err = b.each(func(x found) error {
		seq, bad = max(seq, x.record.seq), bad+x.damaged
		return nil
	})
	if err != nil {
		f.Close()
		return nil, 0, 0, err
	}
	return b, seq, bad, nil
}

const newSuffix = ".new"

// full is the size at which a book that may take so many bytes is rewritten, and kept what is left of it then: together no
// more than there may be.
func full(most int64) int64 { return most / 3 * 2 }

func kept(most int64) int64 { return most / 3 }

// gapRoom is how much of what is kept may say that something is missing.
func gapRoom(most int64) int64 { return kept(most) / 16 }

// each reads the file from its beginning.
func (b *book) each(each func(found) error) error {
	return scan(io.NewSectionReader(b.f, 0, b.size), each)
}

// append writes records, after making room for them. What it cannot write is lost, and the error says why.
func (b *book) append(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	if b.size+int64(len(data)) > full(b.most) {
		if b.pass -= int64(len(data)); b.pass > 0 {
			return b.why
		}
		if b.why = b.rewrite(); b.why != nil {
			b.pass = b.most / 64 // a rewriting reads it all: not again for every decision
			return b.why
		}
	}
	n, err := b.f.Write(data)
	b.size += int64(n)
	return err
}

// account is what a rewriting knows of one command.
type account struct {
	last uint64 // sequence of its newest decision
	size int64
	keep bool
	half int64 // bytes to keep of its beginning, and of its end; 0: all of it
	seen int64 // bytes passed so far
	cut  bool  // it was said that its middle is left out
}

// rewrite keeps the commands of which something was decided last, and drops the others whole.
func (b *book) rewrite() error {
	accounts := map[fleet.UUID]*account{}
	if err := b.each(func(x found) error {
		if x.damaged == 0 && !x.record.command.IsZero() {
			a := accounts[x.record.command]
			if a == nil {
				a = &account{}
				accounts[x.record.command] = a
			}
			a.last, a.size = max(a.last, x.record.seq), a.size+x.record.size()
		}
		return nil
	}); err != nil {
		return err
	}
	since := choose(accounts, kept(b.most)-gapRoom(b.most))
	out, err := os.OpenFile(b.path+newSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	size, err := b.copyTo(out, accounts, since)
	if err == nil {
		err = out.Sync() // or a loss of power could leave an empty file under the name
	}
	if err == nil {
		err = os.Rename(b.path+newSuffix, b.path)
	}
	if err != nil {
		out.Close()
		_ = os.Remove(b.path + newSuffix)
		return err
	}
	b.f.Close()
	b.f, b.size, b.pass = out, size, 0
	return nil
}

// choose marks the commands to keep, newest first, as many as fit, and returns the sequence from which on what is missing
// still matters. A command alone takes a quarter at most: its middle is left out.
func choose(accounts map[fleet.UUID]*account, room int64) (since uint64) {
	order := make([]*account, 0, len(accounts))
	for _, a := range accounts {
		order = append(order, a)
	}
	slices.SortFunc(order, func(a, b *account) int { return cmp.Compare(b.last, a.last) })
	most := room / 4
	for _, a := range order {
		if a.size > most {
			a.half = (most - int64(recordHead+maxBody)) / 2 // what says that the middle is missing has to fit as well
		}
		if room -= min(a.size, most); room < 0 {
			return since
		}
		a.keep, since = true, a.last
	}
	return 0
}

// copyTo writes what is kept, in order, and returns how many bytes that is.
func (b *book) copyTo(out *os.File, accounts map[fleet.UUID]*account, since uint64) (size int64, err error) {
	w := bufio.NewWriterSize(out, 64<<10)
	gaps := gapRoom(b.most)
	var buf []byte
	put := func(r record) error {
		buf = appendRecord(buf[:0], r)
		size += int64(len(buf))
		_, err := w.Write(buf)
		return err
	}
	say := func(r record) error {
		if gaps -= r.size(); gaps < 0 {
			return nil
		}
		return put(r)
	}
	last := record{}
	err = b.each(func(x found) error {
		if x.damaged > 0 {
			return say(missing(last, x).record)
		}
		r := x.record
		last = r
		a := accounts[r.command]
		switch {
		case a == nil && r.seq >= since:
			return say(r)
		case a == nil || !a.keep:
			return nil
		}
		a.seen += r.size()
		switch {
		case a.half == 0, a.seen <= a.half, a.size-a.seen < a.half:
			return put(r)
		case !a.cut:
			a.cut = true
			r.decision = exec.Decision{At: r.decision.At, What: exec.DecidedLost, Detail: "decisions that followed were dropped: the log is full"}
			return put(r)
		}
		return nil
	})
	return size, errors.Join(err, w.Flush())
}

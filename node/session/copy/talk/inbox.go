package talk

import (
	"github.com/muster-fleet/muster/node/fleet"
)

// Inbox holds a sender to the rules: it takes its messages in order and refuses what may not come now.
type Inbox struct {
	// Deep says that folders were asked for, Sources what may arrive at the top (nil: whatever comes).
	Deep    bool
	Sources []string
	// Resume says that files are named ahead.
	Resume bool

	named   uint64 // entries so far
	depth   int
	pending map[uint64]int64 // files without their content: N → size
	body    bool
	sized   bool  // the content may have no more than left
	left    int64 // bytes that may follow of a content that has a size
	ended   bool
}

// Take returns the number of what m is about, 0 where it has none. An error ends the copy.
func (b *Inbox) Take(m Message) (uint64, error) {
	if b.ended {
		return 0, errOutOfTurn
	}
	switch m := m.(type) {
	case Data:
		return 0, b.data(len(m))
	case Done:
		if !b.body || len(m.Why) > 1 {
			return 0, errOutOfTurn
		}
		b.body = false
		return 0, nil
	case Fatal, Skipped:
		return 0, nil
	case Elsewhere:
		if b.named > 0 || b.body || len(m.Paths) == 0 {
			return 0, errOutOfTurn
		}
		b.ended = true
		return 0, nil
	}
	if b.body {
		return 0, errOutOfTurn
	}
	switch m := m.(type) {
	case Folder:
		return b.folder(m)
	case File:
		return b.file(m)
	case Link:
		return b.link(m)
	case Leave:
		if b.depth == 0 {
			return 0, errOutOfTurn
		}
		b.depth--
		return 0, nil
	case Body:
		return m.N, b.begin(m)
	case End:
		if b.depth > 0 || len(b.pending) > 0 {
			return 0, errOutOfTurn
		}
		b.ended = true
		return 0, nil
	}
	return 0, errOutOfTurn
}

var errOutOfTurn = fleet.Errorf(fleet.Invalid, "the other end says something that has no place here")

func (b *Inbox) name(name string) (uint64, error) {
	if len(b.pending) > 0 && !b.Resume {
		return 0, errOutOfTurn
	}
	if err := CheckName(name); err != nil && (name != "" || b.depth > 0) {
		return 0, err
	}
	if b.depth == 0 && b.Sources != nil && !Expected(b.Sources, name) {
		return 0, fleet.Errorf(fleet.Denied, "the other end sends %q, which was not asked for", name)
	}
	b.named++
	return b.named, nil
}

func (b *Inbox) folder(m Folder) (uint64, error) {
	if !b.Deep {
		return 0, fleet.Errorf(fleet.Denied, "the other end sends a folder, which was not asked for")
	}
	if b.depth >= MaxDepth {
		return 0, fleet.Errorf(fleet.Exhausted, "folders are more than %d deep", MaxDepth)
	}
	n, err := b.name(m.Name)
	if err == nil {
		b.depth++
	}
	return n, err
}

func (b *Inbox) file(m File) (uint64, error) {
	if m.Name == "" || m.Size < 0 || len(b.pending) >= Window {
		return 0, errOutOfTurn
	}
	n, err := b.name(m.Name)
	if err != nil {
		return 0, err
	}
	if b.pending == nil {
		b.pending = map[uint64]int64{}
	}
	b.pending[n] = m.Size
	return n, nil
}

func (b *Inbox) link(m Link) (uint64, error) {
	if m.Name == "" {
		return 0, errOutOfTurn
	}
	if err := checkLink(m.To); err != nil {
		return 0, err
	}
	return b.name(m.Name)
}

func (b *Inbox) begin(m Body) error {
	size, known := b.pending[m.N]
	if !known || m.From < 0 || m.From > size {
		return errOutOfTurn
	}
	delete(b.pending, m.N)
	b.body, b.sized, b.left = true, size > 0, size-m.From
	return nil
}

func (b *Inbox) data(n int) error {
	if !b.body || n == 0 {
		return errOutOfTurn
	}
	if b.left -= int64(n); b.sized && b.left < 0 {
		return fleet.Errorf(fleet.Invalid, "the other end sends more of a file than it has")
	}
	return nil
}

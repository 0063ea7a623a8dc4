package consensus

import (
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// Beyond reports why a replica must stop before an entry, or nil: the fleet goes on to a level that this version does not know,
// and entries and acts that it cannot judge may follow. The error is fleet.Newer's. Nothing else stops a replica: what only a
// higher level may bring is refused by all below it.
func (s State) Beyond(e Entry) error {
	set, ok := e.(SetLevel)
	if !ok || s.checkLevel(set) != nil || set.Level <= fleet.LevelNewest {
		return nil
	}
	return fleet.Newer("the fleet went on to level %d, and this version supports %d at most", set.Level, fleet.LevelNewest)
}

// checkLevel reports why the level does not go there, whatever this version supports: it rises, by one at a time. Whoever leads
// can so stop programs at the level behind their newest alone, which a newer program knows, and at none that nobody ever writes.
func (s State) checkLevel(e SetLevel) error {
	switch {
	case s.Record.Charter == nil:
		return fleet.Errorf(fleet.Unavailable, "the fleet is not founded yet")
	case e.Level <= s.Level:
		return fleet.Errorf(fleet.Conflict, "the fleet is at level %d already", s.Level)
	case e.Level != s.Level+1:
		return fleet.Errorf(fleet.Conflict, "the fleet is at level %d, and levels rise one by one, not to %d", s.Level, e.Level)
	}
	return nil
}

// snapshotHead returns the head of the snapshot: of the first level without the level, as its programs write and read it.
func (s State) snapshotHead() any {
	if s.Level == fleet.LevelFirst {
		return snapshotHead{SnapshotFormat, s.Act, s.Time, s.Taken, s.params.lost, s.params.floor}
	}
	return snapshotHeadLevel{SnapshotFormatLevel, s.Act, s.Time, s.Taken, s.params.lost, s.params.floor, s.Level}
}

// readHead reads the head of either layout. Of what only a newer version can read the error is fleet.Newer's.
func readHead(body []byte) (snapshotHeadLevel, error) {
	const format = 1 // behind the header of an array of few items stands the format, a small number
	if len(body) <= format || body[format] == 0 || body[format] > 0x7f {
		return snapshotHeadLevel{}, fleet.Errorf(fleet.Invalid, "snapshot has no head")
	}
	switch body[format] {
	case SnapshotFormat:
		var h snapshotHead
		err := wire.Unmarshal(body, &h)
		return snapshotHeadLevel{h.Format, h.Act, h.Time, h.Taken, h.Lost, h.Floor, fleet.LevelFirst}, err
	case SnapshotFormatLevel:
		var h snapshotHeadLevel
		err := wire.Unmarshal(body, &h)
		switch {
		case err != nil:
		case h.Level <= fleet.LevelFirst:
			err = fleet.Errorf(fleet.Invalid, "snapshot of level %d in the layout of a higher one", h.Level)
		case h.Level > fleet.LevelNewest:
			err = fleet.Newer("snapshot of a fleet at level %d; this version supports %d at most", h.Level, fleet.LevelNewest)
		}
		return h, err
	}
	if body[format] < SnapshotFormat {
		return snapshotHeadLevel{}, fleet.Errorf(fleet.Invalid, "snapshot of format %d; this version reads %d and %d", body[format], SnapshotFormat, SnapshotFormatLevel)
	}
	return snapshotHeadLevel{}, fleet.Newer("snapshot of format %d; this version reads %d at most", body[format], SnapshotFormatLevel)
}

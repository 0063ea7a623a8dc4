package node

import (
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// MaxAuditors is to how many keys one recording is sealed at most.
const MaxAuditors = 32

// record fills in how a session is recorded, and for whom. Of copies and tunnels the bytes are not: what they were is in their
// records. Where auditors are named, nobody else is to read it; so if none of them can be found, it is not recorded at all.
func (o *SessionOrder) record(record auth.Record, now time.Time) {
	o.Record, o.Input = recordingOf(o.Kind, record.Settings)
	auditors, named := record.Auditors(now)
	switch {
	case !named:
		return
	case len(auditors) == 0:
		o.Unrecorded = "none of its auditors is an operator now (session.auditors)"
	case len(auditors) > MaxAuditors:
		o.Unrecorded = fleet.Errorf(fleet.Invalid, "it would have %d auditors, and may have %d (session.auditors)", len(auditors), MaxAuditors).Error()
	default:
		for _, op := range auditors {
			o.Auditors = append(o.Auditors, op.HPKE)
		}
		return
	}
	if o.Record == RecordBestEffort {
		o.Record, o.Input = RecordNone, false
	}
}

// recordable reports why a session that must be recorded cannot be, or nil.
func (o SessionOrder) recordable() error {
	if o.Record == RecordDurable && o.Unrecorded != "" {
		return fleet.Errorf(fleet.Denied, "the session is to be recorded, and %s", o.Unrecorded).Hinted("muster setting put session.auditors NAME,team:NAME")
	}
	return nil
}

func recordingOf(kind auth.SessionKind, settings auth.Settings) (SessionRecord, bool) {
	way, input := settings.SessionRecord()
	switch {
	case kind != auth.SessionShell && kind != auth.SessionExec:
		return RecordNone, false
	case way == auth.SessionRecordOff:
		return RecordNone, false
	case way == auth.SessionRecordDurable:
		return RecordDurable, input
	}
	return RecordBestEffort, input
}

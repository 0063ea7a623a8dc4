package auth

import (
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// LevelOfAct returns the level from which on a fleet may take an act. The replicated state asks before it takes one; the
// record itself takes whatever this program understands, for all that is in it was taken at its time.
func LevelOfAct(kind ActKind, data []byte) fleet.Level {
	switch kind {
	case ActSetting:
		return levelOfChange(data)
	case ActCharter, ActEnrol, ActNodeTags, ActNodeRemove, ActGossipEpoch, ActGroup, ActKeyring, ActKeyringEpoch, ActKeyringHolding:
	}
	return fleet.LevelFirst // also of what is no act at all, which the record refuses
}

// levelOfChange returns the level of the setting that a change names; nobody has verified it yet.
func levelOfChange(data []byte) fleet.Level {
	var e Envelope
	if wire.Unmarshal(data, &e) != nil {
		return fleet.LevelFirst
	}
	change, err := Peek[SettingChange](e)
	if err != nil {
		return fleet.LevelFirst
	}
	return LevelOfSetting(change.Name)
}

// LevelOfSetting returns the level from which on a setting can be put. A setting that is new belongs here.
func LevelOfSetting(name string) fleet.Level {
	switch name {
	case SettingReleaseKeys:
		return fleet.LevelReleases
	}
	return fleet.LevelFirst
}

// CheckLevel reports that a fleet's level is too low for a thing, or nil.
func CheckLevel(what string, need, have fleet.Level) error {
	if need <= have {
		return nil
	}
	return fleet.Errorf(fleet.Unavailable, "%s needs fleet level %d, and this fleet is at level %d", what, need, have).
		Hinted("upgrade the hosts that hold it back: muster quorum status names them")
}

package auth

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/muster-fleet/muster/node/fleet"
)

// Setting is one of the fleet's settings that is not at its default.
type Setting struct {
	Name    string
	Value   string // empty: the default again; such a one is only remembered
	Changed int64  // Unix milliseconds, leader's stamp
	By      string // operator's name
	Act     uint64 // act index of the change
}

// SettingChange sets a setting. Purpose ForSetting.
type SettingChange struct {
	Header Header
	Name   string
	Value  string // empty: the default
}

// The settings.
const (
	SettingOutputTo    = "output.to"    // where full output goes besides: syslog, a folder, s3://BUCKET/PREFIX
	SettingOutputKeep  = "output.keep"  // bytes of output that a node keeps of all runs: 512MiB, 4GiB
	SettingRecordsKeep = "records.keep" // how long servers keep commands and results: 12h, 30d

	SettingSessionIdle   = "session.idle"   // how long a session on a terminal may idle: 20m, 12h
	SettingSessionMost   = "session.most"   // how long a session lasts at most: 8h, 7d
	SettingSessionRecord = "session.record" // how nodes record sessions: best-effort, durable, off

	SettingSessionAuditors = "session.auditors" // who alone can read recordings: ann,team:security
	SettingSessionCopies   = "session.copies"   // which recordings servers keep copies of: sealed, all, off
	SettingSessionKeep     = "session.keep"     // how long recordings are kept: 30d
	SettingSessionTo       = "session.to"       // where recordings go besides: syslog, a folder, s3://BUCKET/PREFIX
)

// SettingNames lists them all, sorted.
var SettingNames = []string{
	SettingOutputKeep, SettingOutputTo, SettingRecordsKeep, SettingReleaseKeys, SettingSessionAuditors, SettingSessionCopies, SettingSessionIdle, SettingSessionKeep,
	SettingSessionMost, SettingSessionRecord, SettingSessionTo,
}

// ActionOfSetting returns what policy is asked for who sets a setting. Whose releases hosts install is no matter of retention:
// it decides whose program runs as root on every host, and has an action of its own, which setting.put does not give.
func ActionOfSetting(name string) Action {
	if name == SettingReleaseKeys {
		return ActTrustRelease
	}
	return ActPutSetting
}

// Bounds of settings.
const (
	MaxOutputTo    = 1 << 10 // bytes
	MinOutputKeep  = 1 << 20
	MaxOutputKeep  = 1 << 50
	MinRecordsKeep = time.Hour
	MaxRecordsKeep = 400 * 24 * time.Hour
	// DefaultRecordsKeep is SSM's.
	DefaultRecordsKeep = 30 * 24 * time.Hour
)

// CheckSetting reports why a setting cannot have that value, or nil. The empty value is every setting's default.
func CheckSetting(name, value string) error {
	if !slices.Contains(SettingNames, name) {
		return fleet.Errorf(fleet.Invalid, "no setting %q", shorten(name)).Hinted("the settings are %s", strings.Join(SettingNames, ", "))
	}
	if value == "" {
		return nil
	}
	switch name {
	case SettingOutputTo, SettingSessionTo:
		return CheckOutputTo(value)
	case SettingOutputKeep:
		_, err := parseSize(value)
		return err
	case SettingRecordsKeep, SettingSessionKeep:
		_, err := parseSpan(value, MinRecordsKeep, MaxRecordsKeep)
		return err
	case SettingSessionIdle, SettingSessionMost:
		_, err := parseSpan(value, MinSessionTime, MaxSessionTime)
		return err
	case SettingSessionRecord:
		return checkSessionRecord(value)
	case SettingSessionAuditors:
		return checkSessionAuditors(value)
	case SettingSessionCopies:
		return checkSessionCopies(value)
	case SettingReleaseKeys:
		return checkReleaseKeys(value)
	}
	return nil
}

func shorten(s string) string { return strings.ToValidUTF8(s[:min(len(s), 64)], "") }

// CheckOutputTo reports why full output cannot go there, or nil: "" (nowhere), syslog, an absolute folder, or
// s3://BUCKET/PREFIX.
func CheckOutputTo(to string) error {
	if len(to) > MaxOutputTo || !utf8.ValidString(to) || strings.ContainsFunc(to, func(r rune) bool { return r < 0x20 || 0x7f <= r && r < 0xa0 }) {
		return fleet.Errorf(fleet.Invalid, "a place for output is one line of at most %d bytes", MaxOutputTo)
	}
	rest, s3 := strings.CutPrefix(to, "s3://")
	switch {
	case to == "" || to == "syslog":
		return nil
	case s3:
		return checkBucket(to, rest)
	case strings.HasPrefix(to, "/") && to != "/" && !slices.Contains(strings.Split(to, "/"), ".."):
		return nil
	}
	return fleet.Errorf(fleet.Invalid, "output cannot go to %q", to).Hinted("give an absolute folder, syslog, or s3://BUCKET/PREFIX")
}

// checkBucket wants S3's names of buckets: 3 to 63 small letters, digits, dots and hyphens.
func checkBucket(to, rest string) error {
	bucket, _, _ := strings.Cut(rest, "/")
	if len(bucket) < 3 || len(bucket) > 63 || strings.Trim(bucket, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" {
		return fleet.Errorf(fleet.Invalid, "%q does not begin with s3:// and a bucket's name of 3 to 63 small letters, digits, dots and hyphens", to)
	}
	return nil
}

// parseSize reads 1048576, 512MiB, 4GiB. Decimal units would be read by some as binary ones, and are refused.
func parseSize(text string) (int64, error) {
	number, shift := text, 0
	for i, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if rest, ok := strings.CutSuffix(text, unit); ok {
			number, shift = rest, 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > MaxOutputKeep>>shift || n<<shift < MinOutputKeep {
		return 0, fleet.Errorf(fleet.Invalid, "%q is no size from 1MiB to 1024TiB", shorten(text)).Hinted("write 512MiB or 4GiB")
	}
	return n << shift, nil
}

// parseSpan reads 90m, 12h, 30d.
func parseSpan(text string, least, most time.Duration) (time.Duration, error) {
	var span time.Duration
	days, isDays := strings.CutSuffix(text, "d")
	n, err := strconv.ParseUint(days, 10, 16)
	switch {
	case isDays && err == nil:
		span = time.Duration(n) * 24 * time.Hour
	case !isDays:
		span, err = time.ParseDuration(text)
	}
	if err != nil || span < least || span > most {
		return 0, fleet.Errorf(fleet.Invalid, "%q is no time from %s to %dd", shorten(text), least, most/(24*time.Hour)).Hinted("write 12h or 30d")
	}
	return span, nil
}

// Settings is the fleet's settings: an immutable value.
type Settings struct {
	sorted []Setting // by name; those that were set back to the default included
}

// Get returns a setting's value; empty: the default.
func (s Settings) Get(name string) string { return s.find(name).Value }

func (s Settings) find(name string) Setting {
	if i, ok := slices.BinarySearchFunc(s.sorted, name, func(a Setting, n string) int { return strings.Compare(a.Name, n) }); ok {
		return s.sorted[i]
	}
	return Setting{Name: name}
}

// All lists the settings that are not at their default, by name.
func (s Settings) All() []Setting {
	return slices.DeleteFunc(slices.Clone(s.sorted), func(a Setting) bool { return a.Value == "" })
}

// OutputTo returns where full output goes besides; empty: nowhere.
func (s Settings) OutputTo() string { return s.Get(SettingOutputTo) }

// OutputKeep returns how many bytes of output a node keeps of all runs; 0: the default of the runner.
func (s Settings) OutputKeep() int64 {
	n, _ := parseSize(s.Get(SettingOutputKeep))
	return n
}

// RecordsKeep returns how long servers keep commands and results.
func (s Settings) RecordsKeep() time.Duration {
	if span, err := parseSpan(s.Get(SettingRecordsKeep), MinRecordsKeep, MaxRecordsKeep); err == nil {
		return span
	}
	return DefaultRecordsKeep
}

// put takes a change, unless its signer had not seen the setting's last one: see Groups.put.
func (s Settings) put(c SettingChange, new Setting) (Settings, error) {
	if last := s.find(c.Name).Act; c.Header.Act < last {
		return s, fleet.Errorf(fleet.Conflict, "setting %s was changed at act %d; this was signed at act %d", c.Name, last, c.Header.Act).
			Hinted("look at muster setting list, and repeat")
	}
	i, ok := slices.BinarySearchFunc(s.sorted, new.Name, func(a Setting, n string) int { return strings.Compare(a.Name, n) })
	sorted := slices.Clone(s.sorted)
	if ok {
		sorted[i] = new
	} else {
		sorted = slices.Insert(sorted, i, new)
	}
	return Settings{sorted}, nil
}

package exec

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// Status is where one node's run of a command stands. The names are SSM's where SSM has one.
type Status string

// The statuses.
const (
	Pending          Status = "Pending"          // known, not started
	InProgress       Status = "InProgress"       // started, no end yet
	Success          Status = "Success"          // ended with exit code 0
	Failed           Status = "Failed"           // ended otherwise, or could not be started
	TimedOut         Status = "TimedOut"         // stopped because its execution time was over
	Cancelled        Status = "Cancelled"        // stopped, or kept from starting, by a cancel
	DeliveryTimedOut Status = "DeliveryTimedOut" // can no longer start: its validity ended first
	Undeliverable    Status = "Undeliverable"    // the node can never be given it
	Unknown          Status = "Unknown"          // started, and nobody can say how it ended; may later become the truth
	Refused          Status = "Refused"          // the node will not run it, and says why
	Terminated       Status = "Terminated"       // never started because the order as a whole was stopped
	InvalidPlatform  Status = "InvalidPlatform"  // this host cannot do what was ordered
	Skipped          Status = "Skipped"          // of a step: not meant for this host, or the run ended before it; of a gate: not needed there
)

// Final reports whether the status can never change again. Unknown is not final: it alone may later become the truth.
func (s Status) Final() bool {
	switch s {
	case Success, Failed, TimedOut, Cancelled, DeliveryTimedOut, Undeliverable, Refused, Terminated, InvalidPlatform, Skipped:
		return true
	case Pending, InProgress, Unknown:
		return false
	}
	return false
}

// Limits of the ledger.
const (
	// MaxValidity is the longest time between an order's issue and its expiry. It bounds how long a cancel or a refusal
	// must be remembered when the order itself was never seen.
	MaxValidity = 30 * 24 * time.Hour
	// LedgerGrace is how long after its expiry a command stays in the ledger: a day, and the 5 minutes of skew that
	// count as normal. After it the horizon refuses the command instead.
	LedgerGrace = 24*time.Hour + 5*time.Minute
	// LedgerKeep is how long an ended run stays listed, so that it can be reported again to a new server.
	LedgerKeep = 7 * 24 * time.Hour
	// MaxReason is the most bytes of a reason or detail that the ledger keeps.
	MaxReason = 512
	// MaxRecord is the most bytes that one encoded record takes, so that a batch fits in one page of the disk.
	MaxRecord = 2048
)

// Record is one entry of a node's ledger.
//
//sumtype:decl
type Record interface {
	CommandID() fleet.UUID
	At() time.Time
	kind() byte
	body() any
}

// RefusedRecord says that the node will not run the command.
type RefusedRecord struct {
	Command fleet.UUID
	Digest  fleet.ID // of the command's signed body
	Reason  string
	Time    time.Time
	Status  Status // as which it was reported; empty: Refused
}

// StartedRecord is the at-most-once barrier: once it is on disk the command is never started again.
type StartedRecord struct {
	Command fleet.UUID
	Digest  fleet.ID // of the command's signed body
	Issued  time.Time
	Expires time.Time
	BootID  string // of the host at the start: nothing of another boot is still alive
	Time    time.Time
}

// OutputSum says what became of one output stream.
type OutputSum struct {
	Size   int64    // bytes that the run wrote
	Kept   int64    // bytes on disk: the first Kept of Size
	Digest fleet.ID // SHA-256 of the bytes kept; zero when nobody could tell
	Cut    bool     // not all that was written has been kept
}

// EndedRecord says how a run ended.
type EndedRecord struct {
	Command  fleet.UUID
	Status   Status
	ExitCode int // -1 when a signal ended it or nobody knows
	Signal   int // 0 when no signal ended it
	Stdout   OutputSum
	Stderr   OutputSum
	Detail   string
	Time     time.Time
}

// CancelledRecord says that the command was cancelled; it may come before the command itself.
type CancelledRecord struct {
	Command fleet.UUID
	Time    time.Time
}

// CommandID returns the command that the record is about.
func (r RefusedRecord) CommandID() fleet.UUID { return r.Command }

// CommandID returns the command that the record is about.
func (r StartedRecord) CommandID() fleet.UUID { return r.Command }

// CommandID returns the command that the record is about.
func (r EndedRecord) CommandID() fleet.UUID { return r.Command }

// CommandID returns the command that the record is about.
func (r CancelledRecord) CommandID() fleet.UUID { return r.Command }

// At returns when it happened.
func (r RefusedRecord) At() time.Time { return r.Time }

// At returns when it happened.
func (r StartedRecord) At() time.Time { return r.Time }

// At returns when it happened.
func (r EndedRecord) At() time.Time { return r.Time }

// At returns when it happened.
func (r CancelledRecord) At() time.Time { return r.Time }

// State is all that the ledger knows of one command. The records it points to are never changed.
type State struct {
	Command   fleet.UUID
	Refused   *RefusedRecord
	Started   *StartedRecord
	Ended     *EndedRecord
	Cancelled *CancelledRecord
}

// Status returns where the command stands on this node.
func (s State) Status() Status {
	switch {
	case s.Ended != nil:
		return s.Ended.Status
	case s.Started != nil:
		return InProgress
	case s.Cancelled != nil:
		return Cancelled
	case s.Refused != nil:
		return cmp.Or(s.Refused.Status, Refused)
	}
	return Pending
}

// changed returns when something last happened to the command.
func (s State) changed() time.Time {
	var last time.Time
	for _, r := range s.records() {
		if r.At().After(last) {
			last = r.At()
		}
	}
	return last
}

// records lists the state's records in an order that Fold accepts.
func (s State) records() []Record {
	var out []Record
	if s.Refused != nil {
		out = append(out, *s.Refused)
	}
	if s.Started != nil {
		out = append(out, *s.Started)
	}
	if s.Cancelled != nil {
		out = append(out, *s.Cancelled)
	}
	if s.Ended != nil {
		out = append(out, *s.Ended)
	}
	return out
}

// dispensable returns the time after which the ledger may forget the command: from then on its expiry alone keeps it
// from starting. A run without an end is never dispensable.
func (s State) dispensable() (time.Time, bool) {
	if s.Started == nil {
		return s.changed().Add(MaxValidity + LedgerGrace), true
	}
	if s.Ended == nil {
		return time.Time{}, false
	}
	expired := s.Started.Expires.Add(LedgerGrace)
	if kept := s.Ended.Time.Add(LedgerKeep); kept.After(expired) {
		return kept, true
	}
	return expired, true
}

// Ledger is what a node knows of the commands it started, refused or saw cancelled. It is a plain value: whoever keeps
// it writes the records to disk first and guards it against concurrent use.
type Ledger struct {
	created  time.Time
	horizon  time.Time
	commands map[fleet.UUID]State
}

// NewLedger returns an empty ledger made at created. Horizon is zero for a new one; a ledger that was pruned hands it on,
// so that a clock stepping back cannot make a forgotten command startable again.
func NewLedger(created, horizon time.Time) *Ledger {
	return &Ledger{created: created, horizon: horizon, commands: map[fleet.UUID]State{}}
}

// Created returns when the ledger was made; it answers for nothing issued earlier.
func (l *Ledger) Created() time.Time { return l.created }

// Horizon returns the expiry up to which commands may have been forgotten.
func (l *Ledger) Horizon() time.Time { return l.horizon }

// Len returns how many commands the ledger knows.
func (l *Ledger) Len() int { return len(l.commands) }

// Get returns what is known of a command.
func (l *Ledger) Get(command fleet.UUID) (State, bool) {
	s, ok := l.commands[command]
	s.Command = command
	return s, ok
}

// Since lists the commands to which something happened at or after t, oldest change first.
func (l *Ledger) Since(t time.Time) []State {
	var out []State
	for command, s := range l.commands {
		if s.Command = command; !s.changed().Before(t) {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b State) int {
		return cmp.Or(a.changed().Compare(b.changed()), strings.Compare(string(a.Command[:]), string(b.Command[:])))
	})
	return out
}

// Records lists what a compacted ledger must hold; folding it into NewLedger(Created, Horizon) gives an equal ledger.
func (l *Ledger) Records() []Record {
	var out []Record
	for _, s := range l.Since(time.Time{}) {
		out = append(out, s.records()...)
	}
	return out
}

// MayStart returns why a command must not be started, or nil.
func (l *Ledger) MayStart(command fleet.UUID, issued, expires time.Time) error {
	if s, ok := l.commands[command]; ok {
		if err := s.mayStart(command); err != nil {
			return err
		}
	}
	switch {
	case issued.Before(l.created):
		return fleet.Errorf(fleet.Denied, "command %s was issued before this node's ledger was made (%s)", command,
			l.created.UTC().Format(time.RFC3339)).Hinted("send the command again; a new ledger cannot tell whether an older one ran")
	case expires.Sub(issued) > MaxValidity:
		return fleet.Errorf(fleet.Invalid, "command %s is valid for longer than %d days", command, MaxValidity/(24*time.Hour))
	case !expires.After(l.horizon):
		return fleet.Errorf(fleet.Expired, "command %s expired before the oldest that this node's ledger remembers", command)
	}
	return nil
}

func (s State) mayStart(command fleet.UUID) error {
	switch {
	case s.Started != nil:
		return fleet.Errorf(fleet.Conflict, "command %s was already started on this node at %s", command,
			s.Started.Time.UTC().Format(time.RFC3339))
	case s.Cancelled != nil:
		return fleet.Errorf(fleet.Conflict, "command %s was cancelled", command)
	case s.Refused != nil:
		return fleet.Errorf(fleet.Conflict, "command %s was already refused: %s", command, s.Refused.Reason)
	}
	return nil
}

// Check returns why record cannot follow what the ledger holds, or nil. A ledger on disk that fails it is damaged.
func (l *Ledger) Check(record Record) error {
	s := l.commands[record.CommandID()]
	switch r := record.(type) {
	case RefusedRecord:
		if s.Started != nil {
			return fleet.Errorf(fleet.Conflict, "command %s cannot be refused: it was started", r.Command)
		}
	case StartedRecord:
		return s.mayStart(r.Command)
	case EndedRecord:
		if s.Started == nil {
			return fleet.Errorf(fleet.Conflict, "command %s cannot end: it was not started", r.Command)
		}
		if s.Ended != nil && s.Ended.Status != Unknown {
			return fleet.Errorf(fleet.Conflict, "command %s has already ended", r.Command)
		}
	case CancelledRecord:
	}
	return nil
}

// Fold adds a record that is on disk. A second refusal or cancel changes nothing; a record that cannot follow (see
// Check) is an error and changes nothing.
func (l *Ledger) Fold(record Record) error {
	if err := l.Check(record); err != nil {
		return err
	}
	s := l.commands[record.CommandID()]
	switch r := record.(type) {
	case RefusedRecord:
		if s.Refused == nil {
			s.Refused = &r
		}
	case StartedRecord:
		s.Started = &r
	case EndedRecord:
		s.Ended = &r
	case CancelledRecord:
		if s.Cancelled == nil {
			s.Cancelled = &r
		}
	}
	l.commands[record.CommandID()] = s
	return nil
}

// Prune forgets what can no longer matter at now and returns the commands forgotten. What is forgotten stays refused:
// the horizon moves along, and it never moves back.
func (l *Ledger) Prune(now time.Time) []fleet.UUID {
	var gone []fleet.UUID
	for command, s := range l.commands {
		if when, ok := s.dispensable(); ok && now.After(when) {
			gone = append(gone, command)
			delete(l.commands, command)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	if h := now.Add(-LedgerGrace); h.After(l.horizon) {
		l.horizon = h
	}
	slices.SortFunc(gone, func(a, b fleet.UUID) int { return strings.Compare(string(a[:]), string(b[:])) })
	return gone
}

// A record on disk: {u32 length of body, big endian; u8 kind; body in canonical msgpack; SHA-256}. The sum covers the sum
// of the record before, the length, the kind and the body, so that no record can be altered, moved or left out unseen.
const (
	recordHead = 5
	recordTail = sha256.Size

	kindRefused   = 1
	kindStarted   = 2
	kindEnded     = 3
	kindCancelled = 4
)

// AppendRecord appends the encoded record to dst. chain is the sum of the record before (of the ledger's header for the
// first); the record's own sum is returned.
func AppendRecord(dst []byte, chain fleet.ID, record Record) ([]byte, fleet.ID) {
	body := wire.Marshal(record.body())
	from := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(body)))
	dst = append(dst, record.kind())
	dst = append(dst, body...)
	sum := recordSum(chain, dst[from:])
	return append(dst, sum[:]...), sum
}

// DecodeRecord reads the record at the start of data and returns it, its sum, and how many bytes it took.
func DecodeRecord(data []byte, chain fleet.ID) (Record, fleet.ID, int, error) {
	if len(data) < recordHead+recordTail {
		return nil, chain, 0, fleet.Errorf(fleet.Invalid, "the record is cut short")
	}
	size := uint64(binary.BigEndian.Uint32(data))
	if size > MaxRecord || recordHead+size+recordTail > uint64(len(data)) {
		return nil, chain, 0, fleet.Errorf(fleet.Invalid, "the record claims %d bytes", size)
	}
	end := recordHead + int(size)
	sum := recordSum(chain, data[:end])
	if sum != fleet.ID(data[end:end+recordTail]) {
		return nil, chain, 0, fleet.Errorf(fleet.Invalid, "the record does not match its checksum")
	}
	record, err := decodeBody(data[4], data[recordHead:end])
	if err != nil {
		return nil, chain, 0, err
	}
	return record, sum, end + recordTail, nil
}

func recordSum(chain fleet.ID, headAndBody []byte) fleet.ID {
	h := sha256.New()
	h.Write(chain[:])
	h.Write(headAndBody)
	return fleet.ID(h.Sum(nil))
}

// The bodies, in the order of their fields. Times are nanoseconds since 1970, 0 for none.
type (
	refusedBody struct {
		Command [16]byte
		Digest  [32]byte
		Reason  string
		Time    int64
		Status  string
	}
	startedBody struct {
		Command [16]byte
		Digest  [32]byte
		Issued  int64
		Expires int64
		BootID  string
		Time    int64
	}
	outputBody struct {
		Size   int64
		Kept   int64
		Digest [32]byte
		Cut    bool
	}
	endedBody struct {
		Command  [16]byte
		Status   string
		ExitCode int
		Signal   int
		Stdout   outputBody
		Stderr   outputBody
		Detail   string
		Time     int64
	}
	cancelledBody struct {
		Command [16]byte
		Time    int64
	}
)

func (r RefusedRecord) kind() byte   { return kindRefused }
func (r StartedRecord) kind() byte   { return kindStarted }
func (r EndedRecord) kind() byte     { return kindEnded }
func (r CancelledRecord) kind() byte { return kindCancelled }

func (r RefusedRecord) body() any {
	return refusedBody{r.Command, r.Digest, clip(r.Reason), nanos(r.Time), string(r.Status)}
}

func (r StartedRecord) body() any {
	return startedBody{r.Command, r.Digest, nanos(r.Issued), nanos(r.Expires), clip(r.BootID), nanos(r.Time)}
}

func (r EndedRecord) body() any {
	return endedBody{r.Command, string(r.Status), r.ExitCode, r.Signal, r.Stdout.plain(), r.Stderr.plain(),
		clip(r.Detail), nanos(r.Time)}
}

func (r CancelledRecord) body() any { return cancelledBody{r.Command, nanos(r.Time)} }

func (o OutputSum) plain() outputBody { return outputBody{o.Size, o.Kept, o.Digest, o.Cut} }

func (b outputBody) sum() OutputSum { return OutputSum{b.Size, b.Kept, b.Digest, b.Cut} }

func decodeBody(kind byte, data []byte) (Record, error) {
	switch kind {
	case kindRefused:
		var b refusedBody
		err := wire.Unmarshal(data, &b)
		return RefusedRecord{b.Command, b.Digest, b.Reason, instant(b.Time), Status(b.Status)}, err
	case kindStarted:
		var b startedBody
		err := wire.Unmarshal(data, &b)
		return StartedRecord{b.Command, b.Digest, instant(b.Issued), instant(b.Expires), b.BootID, instant(b.Time)}, err
	case kindEnded:
		var b endedBody
		err := wire.Unmarshal(data, &b)
		return EndedRecord{b.Command, Status(b.Status), b.ExitCode, b.Signal, b.Stdout.sum(), b.Stderr.sum(), b.Detail,
			instant(b.Time)}, err
	case kindCancelled:
		var b cancelledBody
		err := wire.Unmarshal(data, &b)
		return CancelledRecord{b.Command, instant(b.Time)}, err
	}
	return nil, fleet.Errorf(fleet.Invalid, "record kind %d is not known to this version", kind)
}

// clip shortens s to MaxReason bytes of valid text.
func clip(s string) string {
	if len(s) > MaxReason {
		s = s[:MaxReason]
	}
	return strings.ToValidUTF8(s, "")
}

// nanos and instant are the wire form of times. What int64 nanoseconds cannot hold (before 1678, after 2261) is clamped.
func nanos(t time.Time) int64 {
	switch {
	case t.IsZero():
		return 0
	case t.Year() < 1700:
		return -1 << 62
	case t.Year() > 2200:
		return 1<<63 - 1
	}
	return t.UnixNano()
}

func instant(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

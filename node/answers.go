package node

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// What a host answers to people and tools that ask it.

// Status is what a host says of itself and of what it sees.
type Status struct {
	Version     string
	Fleet       fleet.ID
	FleetName   string
	Self        fleet.Member
	CharterHead fleet.ID
	CharterLen  uint64
	Act         uint64 // act index of the newest record entry here
	RecordLen   uint64
	Now         time.Time // the time that statements are judged by here
	ClockOff    time.Duration
	Online      int // members that gossip sees, self included
	Lost        int
	Left        int
	Quorum      QuorumStatus
	Observed    []netip.AddrPort // addresses at which peers see this host
	Outbound    bool             // nobody can dial this host
	Uplinks     []ServerStatus   // through whom it is reached then
	Agent       Usage
	Warnings    []string // what its owner should know, with the command that mends it
}

// Usage is what the agent's process takes of its host.
type Usage struct {
	RSS        uint64 // resident memory, bytes
	Goroutines int
	Files      int // open file descriptors
}

// QuorumStatus is who keeps the replicated state, as far as this host knows.
type QuorumStatus struct {
	Leader fleet.ID // zero: none known
	Term   uint64
	Voters []ServerStatus
	Spares []ServerStatus
	Danger string // what would stop writes, in one line; empty: one loss is survived
	// Outbound are those that may hold the state by their operators' word, and never do, for nobody can dial them.
	Outbound []ServerStatus
	// Replica is what this host's own replica has come to; zero where it keeps none. Only an answer about the quorum has
	// it: the digest of a large fleet takes a moment.
	Replica ReplicaStatus
	Level   LevelStatus // who holds it back only an answer about the quorum has
}

// ReplicaStatus names a replica's state. Replicas with the same Act have the same Digest.
type ReplicaStatus struct {
	Act    uint64
	Digest fleet.ID // consensus.State.Digest
}

// ServerStatus is one server of the quorum.
type ServerStatus struct {
	ID     fleet.ID
	Name   string
	Online bool
}

// Danger says in one line what would stop writes, or nothing when any one server may be lost.
func Danger(voters []ServerStatus) string {
	online := 0
	var missing []string
	for _, v := range voters {
		if v.Online {
			online++
		} else {
			missing = append(missing, v.Name)
		}
	}
	slices.Sort(missing)
	need := len(voters)/2 + 1
	seen := number(online) + " of " + plural(len(voters), "voter") + " can be seen"
	switch {
	case len(voters) == 0:
		return "no quorum is known: nothing can be written"
	case online < need:
		return seen + ": writes stop until " + number(need-online) + " more can be (missing: " + fleet.FoldNames(missing) + ")"
	case online > need:
		return ""
	case len(voters) == 1:
		return "1 voter: losing " + voters[0].Name + " stops writes"
	case len(missing) == 0:
		return plural(online, "voter") + ": losing one stops writes"
	}
	return seen + ": losing one more stops writes (missing: " + fleet.FoldNames(missing) + ")"
}

func number(n int) string {
	if n == 0 {
		return "none"
	}
	return strconv.Itoa(n)
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return strconv.Itoa(n) + " " + word + "s"
}

// CommandInfo is a committed command with what has become of it.
type CommandInfo struct {
	ID        fleet.UUID
	Body      exec.Command
	Operator  string
	Act       uint64
	Committed int64 // Unix milliseconds
	Cancelled int64 // 0: not
	Nodes     []fleet.ID
	Rollout   exec.Rollout // of a paced command; in a list without its nodes
	Cancels   []fleet.ID   // nodes on which it was cancelled one by one
	// Statement is the command as its operator signed it, one or none: whoever signs something after it takes it from there, and
	// not from Body, which anybody on the way can have changed. Only ReadCommand's answer has it.
	Statement []auth.Envelope
}

// DocumentInfo is a document as it is listed: of all its versions, or, among others, of the newest and the default one.
type DocumentInfo struct {
	Name     string
	Default  uint32            // the version that $DEFAULT is
	Last     uint32            // the highest number ever given
	Count    uint32            // versions that there are
	Versions []DocumentVersion // by number
}

// DocumentVersion is one version of a document without its text.
type DocumentVersion struct {
	Number      uint32
	VersionName string
	Digest      fleet.ID
	Publisher   string
	Time        int64 // Unix milliseconds
	Size        int64 // bytes of its text
}

// Update is one piece of news of a command that somebody watches.
type Update struct {
	Info    *CommandInfo   // first, and again when it was cancelled or its rollout went on; at most four times a second
	Report  *exec.Report   // a node's newest
	Signed  *auth.Envelope // Report as the node signed it, for who verifies it himself
	Servers int            // servers that answer this watch; set in every update
	Synced  bool           // once: all that the servers had when the watch began has been told
}

// ReadWhat says what is read.
type ReadWhat string

// What can be read at the servers, with an operator's signature.
const (
	ReadCommands  ReadWhat = "commands"
	ReadCommand   ReadWhat = "command" // Arg: its ID
	ReadTokens    ReadWhat = "tokens"
	ReadRequests  ReadWhat = "requests"
	ReadDocuments ReadWhat = "documents"
	ReadDocument  ReadWhat = "document" // Name: NAME, NAME:NUMBER, NAME:VERSIONNAME, NAME:$DEFAULT or NAME:$LATEST
)

// What can be read at a node, with an operator's signature. Each is read at the one node that Read.Node names.
const (
	ReadOutput ReadWhat = "output" // Arg: the command
	ReadWhy    ReadWhat = "why"    // Arg: the command
	ReadReport ReadWhat = "report" // Arg: the command

	ReadSessions  ReadWhat = "sessions"  // the newest first
	ReadSession   ReadWhat = "session"   // Arg: the session
	ReadRecording ReadWhat = "recording" // Arg: the session
	ReadWatch     ReadWhat = "watch"     // Arg: the session, as it goes on
	ReadCopies    ReadWhat = "copies"    // Arg: the session; zero: all of other nodes' sessions whose recordings the node keeps copies of
	ReadCopy      ReadWhat = "copy"      // Arg: the session, Name: its node's ID in full

	ReadSessionDocument ReadWhat = "session-document" // Name: as of ReadDocument
)

// Read is the body of a signed request to read. Whoever answers verifies it himself. Servers may read all that servers are
// asked for, so that one that passes such a request on to others gains nothing; a node may not, so what is for it names it,
// and no other node answers.
type Read struct {
	Header auth.Header
	What   ReadWhat
	Arg    fleet.UUID
	Name   string   // at most 1 KiB
	Node   fleet.ID // the node that is to answer; zero: the servers
}

// atNode reports whether a single node answers, not the servers.
func (w ReadWhat) atNode() bool {
	switch w {
	case ReadOutput, ReadWhy, ReadReport, ReadSessions, ReadSession, ReadRecording, ReadWatch, ReadCopies, ReadCopy, ReadSessionDocument:
		return true
	}
	return false
}

// ReadLife is how long a signed read is good for.
const ReadLife = 2 * time.Minute

// OpenNodeRead is OpenRead at a node, self, that is asked for what: it answers only what was signed for it alone.
func OpenNodeRead(record auth.Record, e auth.Envelope, self fleet.ID, what ReadWhat, now time.Time) (Read, error) {
	read, err := OpenRead(record, e, now)
	switch {
	case err != nil:
		return read, err
	case read.What != what:
		return read, fleet.Errorf(fleet.Invalid, "the request to read %q is none for %q", read.What, what)
	case read.Node != self:
		return read, fleet.Errorf(fleet.Denied, "the request to read was signed for another node")
	}
	return read, nil
}

// OpenRead verifies a signed request to read and asks policy. Whoever answers for the servers refuses what OpenNodeRead is
// for: lookUp by What, a watch by wanting ReadCommand.
func OpenRead(record auth.Record, e auth.Envelope, now time.Time) (Read, error) {
	body, op, err := auth.OpenOrder(record.Charter, e, auth.ForRequest, now, func(r Read) auth.Header { return r.Header })
	if err != nil {
		return body, err
	}
	if err := body.checkLife(); err != nil {
		return body, err
	}
	if body.What.atNode() == body.Node.IsZero() {
		return body, fleet.Errorf(fleet.Invalid, "a signed read of %q names a node, or none, where it must not", body.What)
	}
	return body, mayRead(record, op)
}

// MayRead reports why policy does not let an operator, who proved the key by, read of the fleet, or nil.
func MayRead(record auth.Record, by fleet.ID, now time.Time) error {
	op, err := record.Charter.Current(by, now)
	if err != nil {
		return err
	}
	return mayRead(record, op)
}

func mayRead(record auth.Record, op auth.Operator) error {
	_, err := record.Charter.Policy().Decide(auth.Ask{
		Principal: op.AsPrincipal(), Action: auth.ActRead,
		Resource: auth.Resource{Type: "Fleet", Name: record.Charter.Name()},
	})
	return err
}

// checkLife judges what holds for every signed read.
func (r Read) checkLife() error {
	if len(r.Name) > 1<<10 {
		return fleet.Errorf(fleet.Invalid, "a name of %d bytes", len(r.Name))
	}
	if r.Header.Expires == 0 || r.Header.Expires-r.Header.Issued > ReadLife.Milliseconds() {
		return fleet.Errorf(fleet.Invalid, "a signed read lives %s at most", ReadLife)
	}
	return nil
}

// Answer is what a server answers to a Read. Only the part that was asked for is set.
type Answer struct {
	Commands  []CommandInfo
	Tokens    []TokenInfo
	Requests  []consensus.OperatorRequest
	Documents []DocumentInfo
	Version   uint32 // of Text, of the one document
	Text      []byte
}

// TokenInfo is a token without its secret, which nobody keeps.
type TokenInfo struct {
	ID       fleet.UUID
	Operator string
	Used     uint32
	Body     auth.Token
}

// InfoOf returns a committed command as it is shown.
func InfoOf(c *consensus.Command) CommandInfo {
	return CommandInfo{
		ID: c.ID(), Body: c.Body, Operator: c.Operator, Act: c.Act, Committed: c.Committed,
		Cancelled: c.Cancelled, Nodes: c.Order.Nodes, Rollout: c.Rollout, Cancels: CancelledNodes(c.Cancels),
		Statement: []auth.Envelope{c.Order.Statement},
	}
}

// Thin leaves out of a command what its statement says: with both, a large one for ten thousand nodes would not fit in an answer.
func (c CommandInfo) Thin() CommandInfo {
	if len(c.Statement) > 0 {
		c.Body = exec.Command{}
	}
	return c
}

// Full puts in again what Thin left out. Nobody has verified it.
func (c CommandInfo) Full() (CommandInfo, error) {
	var err error
	if len(c.Statement) > 0 {
		c.Body, err = auth.Peek[exec.Command](c.Statement[0])
	}
	return c, err
}

// CancelledNodes lists the nodes that cancels of single nodes name.
func CancelledNodes(cancels []auth.Envelope) (out []fleet.ID) {
	for _, e := range cancels {
		if c, err := auth.Peek[exec.Cancel](e); err == nil {
			out = append(out, c.Nodes...)
		}
	}
	return exec.SortIDs(out)
}

// maxListed is how many bytes of a document's values a list shows of each command.
const maxListed = 1 << 10

// ListOf returns a committed command as a list has it, without what is large.
func ListOf(c *consensus.Command) CommandInfo {
	info := InfoOf(c)
	run := &info.Body.Run
	if len(run.Script) > 0 {
		run.Argv = []string{run.Text()}
	}
	run.Stdin, run.Script = nil, nil
	size := 0
	for _, v := range run.Values {
		size += len(v.Name) + len(v.Value)
	}
	if size > maxListed {
		run.Values = nil
	}
	info.Nodes, info.Cancels, info.Rollout.Nodes, info.Statement = nil, nil, nil, nil
	return info
}

// DocumentInfoOf returns a document with all its versions.
func DocumentInfoOf(d *consensus.Document) DocumentInfo {
	info := DocumentInfo{Name: d.Name, Default: d.Default, Last: d.Last, Count: uint32(len(d.Versions))}
	for _, v := range d.Versions {
		info.Versions = append(info.Versions, versionOf(v))
	}
	return info
}

// DocumentLine returns a document with its default and its newest version.
func DocumentLine(d *consensus.Document) DocumentInfo {
	info := DocumentInfo{Name: d.Name, Default: d.Default, Last: d.Last, Count: uint32(len(d.Versions))}
	if v, ok := d.Version(d.Default); ok && v.Number != d.Latest().Number {
		info.Versions = append(info.Versions, versionOf(v))
	}
	info.Versions = append(info.Versions, versionOf(d.Latest()))
	return info
}

func versionOf(v consensus.Version) DocumentVersion {
	out := DocumentVersion{Number: v.Number, VersionName: v.VersionName, Digest: v.Digest, Publisher: v.Publisher, Time: v.Time}
	if p, err := auth.Peek[exec.Publication](v.Statement); err == nil {
		out.Size = int64(len(p.Text))
	}
	return out
}

// ReadText finds the version of a document that is named as ReadDocument has it.
func ReadText(s consensus.State, name string) (d *consensus.Document, number uint32, text []byte, err error) {
	name, selector, _ := strings.Cut(name, ":")
	d, ok := s.Document(name)
	if !ok {
		return nil, 0, nil, fleet.Errorf(fleet.NotFound, "no document %s", name).Hinted("muster doc list")
	}
	v, err := FindVersion(d, selector)
	if err != nil {
		return nil, 0, nil, err
	}
	p, err := auth.Peek[exec.Publication](v.Statement)
	return d, v.Number, p.Text, err
}

// FindVersion returns the version that a selector means: a number, a version's name, $LATEST, $DEFAULT or nothing, which
// is $DEFAULT too.
func FindVersion(d *consensus.Document, selector string) (consensus.Version, error) {
	v, ok := pickVersion(d, selector)
	if !ok {
		return v, fleet.Errorf(fleet.NotFound, "document %s has no version %s", d.Name, cmp.Or(selector, "$DEFAULT")).
			Hinted("muster doc history %s", d.Name)
	}
	return v, nil
}

func pickVersion(d *consensus.Document, selector string) (consensus.Version, bool) {
	switch selector {
	case "", "$DEFAULT":
		return d.Version(d.Default)
	case "$LATEST":
		return d.Latest(), true
	}
	if number, err := strconv.ParseUint(selector, 10, 32); err == nil {
		return d.Version(uint32(number))
	}
	return d.Named(selector)
}

// SameAddresses warns of members online that claim one address: every Vagrant box has 10.0.2.15. Such hosts are told
// apart by their keys, but whoever dials that address reaches only one of them.
func SameAddresses(sightings []Sighting, name func(fleet.ID) string) []string {
	claims := map[netip.AddrPort][]string{}
	for _, s := range sightings {
		if s.Status != fleet.Online { // who left may have passed its address on
			continue
		}
		for i, addr := range s.Addrs {
			if !slices.Contains(s.Addrs[:i], addr) {
				claims[addr] = append(claims[addr], name(s.ID))
			}
		}
	}
	var out []string
	for addr, names := range claims {
		if len(names) > 1 {
			slices.Sort(names)
			out = append(out, fleet.FoldNames(names)+" all say that they are at "+addr.String()+
				": give each an address of its own (muster agent --advertise IP:PORT)")
		}
	}
	slices.Sort(out)
	return out
}

// Clock returns the clock by which statements are judged.
func (n *Node) Clock() auth.Clock { return n.clock }

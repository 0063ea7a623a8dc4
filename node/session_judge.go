package node

import (
	"slices"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/config"
	"github.com/muster-fleet/muster/node/fleet"
)

// DefaultSessionUser is the account of sessions that name none: an unprivileged one, which agents that run as root make.
// It is not called as the group that the local API lets in.
const DefaultSessionUser = "muster-user"

// rootName is how policy calls every account that is root, whatever the host calls it.
const rootName = "root"

// SessionHost is what judging a session takes of the host.
type SessionHost struct {
	Self     fleet.ID
	User     string   // account of sessions that name none: DefaultSessionUser, or the agent's own where it is not root
	Roots    []string // names of accounts whose user ID is 0
	ClockOff bool     // this host's clock cannot be trusted: Clock.Suspect
	Limits   SessionLimits
	Consent  config.Consent // what the host's own root withholds
}

// JudgeSession decides whether the operator at the other end of a connection, whose key is by, may have a session here
// now. It is judged by the record that this node has, so it needs no quorum; an Unavailable error says that the signer had
// seen a newer one: catch up, then ask again.
//
// A host whose clock is off judges no time of the statement. What makes it fresh is then the connection: its handshake
// proved, just now, that by is the key that signed.
func JudgeSession(e auth.Envelope, record auth.Record, by fleet.ID, host SessionHost, now time.Time) (SessionOrder, error) {
	return JudgeSessionBy(e, nil, record, by, host, now)
}

// JudgeSessionBy is JudgeSession of a session that may be by a document. published has the publication that SessionNeeds names,
// among others or none; without it the answer is NotFound.
func JudgeSessionBy(e auth.Envelope, published []auth.Envelope, record auth.Record, by fleet.ID, host SessionHost, now time.Time) (SessionOrder, error) {
	s, op, err := openSession(e, record, by, host, now)
	if err != nil {
		return SessionOrder{}, err
	}
	if err := s.Check(); err != nil {
		return SessionOrder{}, err
	}
	made, err := host.make(s, published, record)
	if err != nil {
		return SessionOrder{}, err
	}
	o := host.order(made.as, record, now)
	made.mark(&o)
	o.By, o.Operator = e.Key, op.Name
	o.Rule, err = maySession(o.State(), op, record, host)
	if err == nil { // last: whoever policy does not let in learns nothing of the host
		err = host.withheld(o, record)
	}
	if err != nil {
		return SessionOrder{}, err
	}
	return o, o.recordable()
}

// withheld reports why a session that policy permits is not opened here, or nil.
func (host SessionHost) withheld(o SessionOrder, record auth.Record) error {
	own := host.Consent
	switch n, err := record.Roster.Enrolled(host.Self); {
	case err != nil:
		return err
	case own.Paused != "":
		return fleet.Errorf(fleet.Denied, "%s", own.Paused)
	case own.NoShell != "" && runsAnything(o):
		return fleet.Errorf(fleet.Denied, "%s", own.NoShell)
	case o.Reason == "" && fleet.DrainOf(n.Tags) != "": // with one it is what the node was drained for, and on record
		return fleet.Errorf(fleet.Denied, "%s", fleet.DrainOf(n.Tags)).Hinted("muster node undrain %s; or say what for: --reason TEXT", n.Name)
	}
	return nil
}

// openSession verifies the statement of a session for this host.
func openSession(e auth.Envelope, record auth.Record, by fleet.ID, host SessionHost, now time.Time) (s auth.Session, op auth.Operator, err error) {
	switch {
	case len(e.Body) > auth.MaxSession:
		return s, op, fleet.Errorf(fleet.Exhausted, "session of %d bytes; at most %d", len(e.Body), auth.MaxSession)
	case e.Key != by:
		return s, op, fleet.Errorf(fleet.Denied, "the session was signed by key %s, but the connection is that of key %s", e.Key, by)
	}
	s, op, err = openHere(e, auth.ForSession, record, !host.ClockOff, now, func(s auth.Session) auth.Header { return s.Header })
	if err == nil && s.Node != host.Self {
		err = fleet.Errorf(fleet.Denied, "the session was signed for another node")
	}
	return s, op, err
}

// openHere verifies an order of a current operator that came straight to this node, whose record must reach what the
// signer had seen. timed: its time is judged.
func openHere[T any](e auth.Envelope, purpose auth.Purpose, record auth.Record, timed bool, now time.Time, header func(T) auth.Header) (body T, op auth.Operator, err error) {
	if claimed, err := auth.Peek[T](e); err == nil {
		if err := reaches(record, header(claimed)); err != nil {
			return body, op, err
		}
	}
	if op, err = record.Charter.Current(e.Key, now); err != nil {
		return body, op, err
	}
	body, err = auth.Open[T](e, purpose, record.Charter.Fleet(), op.Key)
	if err == nil && timed {
		err = header(body).CheckTime(now)
	}
	return body, op, err
}

// reaches reports why a record cannot judge what was signed under a header, or nil. Nobody has verified the header: this
// costs a fetch at most. Without it, somebody whose rights came a moment ago would be refused.
func reaches(record auth.Record, h auth.Header) error {
	switch {
	case record.Charter == nil:
		return fleet.Errorf(fleet.Unavailable, "this node has no charter yet")
	case !record.Charter.Knows(h.Charter):
		return fleet.Errorf(fleet.Unavailable, "it was signed under charter %s, which this node has not got", h.Charter)
	case record.Act < h.Act:
		return fleet.Errorf(fleet.Unavailable, "it was signed at act %d; this node knows the record up to act %d", h.Act, record.Act)
	}
	return nil
}

// order resolves what a session leaves to the host.
func (host SessionHost) order(s auth.Session, record auth.Record, now time.Time) SessionOrder {
	o := SessionOrder{
		ID: s.Header.ID, Kind: s.Kind, User: s.User, Argv: s.Argv, Terminal: s.Terminal, Env: s.Env, Forward: s.Forward, Reason: s.Reason,
		Shell: s.Shell(), Opened: now.UnixMilli(), Expires: s.Header.Expires, Listen: s.Listen, Paths: s.Paths, Put: s.Put, Deep: s.Deep,
	}
	if o.User == "" && s.Kind != auth.SessionForward {
		o.User = host.User
	}
	SessionLimitsOf(record.Settings, host.Limits).times(&o, s)
	o.record(record, now)
	return o
}

// runsAnything reports whether a session lets the operator run what he likes: a shell, a program of his choosing (an argv may be a
// shell's), files that he puts where they are run.
func runsAnything(o SessionOrder) bool {
	switch o.Kind {
	case auth.SessionShell:
		return true
	case auth.SessionExec:
		return o.Shell || len(o.Document) == 0
	case auth.SessionCopy:
		return o.Put
	case auth.SessionForward:
	}
	return false
}

// maySession asks policy about a session on this host, and returns the rule that permits.
func maySession(s SessionState, op auth.Operator, record auth.Record, host SessionHost) (rule string, err error) {
	n, err := record.Roster.Enrolled(host.Self)
	if err != nil {
		return "", err
	}
	for _, ask := range sessionAsks(s, host.Roots) {
		ask.Principal, ask.Action, ask.Document = op.AsPrincipal(), auth.ActSession, auth.NameOfDocument(s.Document)
		ask.Resource = auth.Resource{Type: "Node", Name: n.Name, Tags: n.Tags}
		if rule, err = record.Charter.Policy().Decide(ask); err != nil {
			return "", err
		}
	}
	return rule, nil
}

// What policy is asked about listening on a node. It is no kind forward: whoever may connect from a node may not therefore
// open ports of it. And whoever may listen where any account could, may not therefore take ports that are root's, or let in
// other hosts.
const (
	askListen = "listen"
	askExpose = "expose"
)

// sessionAsks lists what policy must permit, all of it: each place of a tunnel and each path of a copy; and an account that is
// root by another name under both names. There is always something to ask.
func sessionAsks(s SessionState, roots []string) []auth.Ask {
	ask := auth.Ask{Kind: s.Kind.String(), User: s.User, Shell: s.Shell, Terminal: s.Terminal}
	asks := append(tunnelAsks(s), pathAsks(s, ask)...)
	if len(asks) == 0 {
		asks = append(asks, ask)
	}
	if s.User == rootName || !slices.Contains(roots, s.User) {
		return asks
	}
	for _, ask := range slices.Clone(asks) {
		ask.User = rootName
		asks = append(asks, ask)
	}
	return asks
}

func tunnelAsks(s SessionState) (asks []auth.Ask) {
	if s.Kind != auth.SessionForward {
		return nil
	}
	for _, to := range s.Forward {
		asks = append(asks, auth.Ask{Kind: s.Kind.String(), To: to})
	}
	for _, at := range s.Listen {
		ask := auth.Ask{Kind: askListen, Listen: at}
		if auth.Exposes(at) {
			ask.Kind = askExpose
		}
		asks = append(asks, ask)
	}
	return asks
}

func pathAsks(s SessionState, ask auth.Ask) (asks []auth.Ask) {
	if s.Kind != auth.SessionCopy {
		return nil
	}
	for _, path := range s.Paths {
		ask.Path, ask.Put = path, s.Put
		asks = append(asks, ask)
	}
	return asks
}

// SessionStands reports why a session that runs may not go on, or nil: its operator was removed, or a rule that permitted
// is gone. Ask again whenever the record grew, and now and then for operators whose keys expire. An Unavailable error is no
// word against it.
func SessionStands(s SessionState, record auth.Record, host SessionHost, now time.Time) error {
	op, err := record.Charter.Current(s.By, now)
	if err != nil {
		return err
	}
	_, err = maySession(s, op, record, host)
	return err
}

// JudgeAttach reports why whoever has key by may not go on with a session (attach to it, or have it connect to a place;
// see SessionState.MayDial), or nil. The session of another key is as unknown as one that there is not.
func JudgeAttach(s SessionState, by fleet.ID, record auth.Record, host SessionHost, now time.Time) error {
	if s.By != by {
		return NoSession(s.ID)
	}
	return SessionStands(s, record, host, now)
}

// NoSession is the answer about a session that there is not.
func NoSession(id fleet.UUID) error {
	return fleet.Errorf(fleet.NotFound, "no session %s on this node", id).Hinted("muster session list")
}

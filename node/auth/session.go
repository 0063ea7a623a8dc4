package auth

import (
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/muster-fleet/muster/node/fleet"
)

// Session is an operator's order to one node to let him in, now: purpose ForSession. It needs no quorum; the node judges it
// by the record that it has. A session is his whose key signed it, on connections that this same key opened.
type Session struct {
	Header Header // Mode: Direct. ID: the session's. Expires: the last moment at which it may be opened
	Node   fleet.ID
	Kind   SessionKind
	User   string // account on the node; empty: the node's default for sessions
	// Argv is what SessionExec runs: one element is a shell line (sh -c), several an argv, no shell. Empty for the others.
	Argv     []string
	Terminal []Terminal // none or one: what is run gets a terminal of that kind and size. SessionShell has one
	Env      []string   // K=V
	// Forward is what SessionForward may connect to from the node, each HOST:PORT.
	Forward []string
	Reason  string // for those who read the record of it
	Idle    int64  // milliseconds without input or output before it ends; 0: the node's own limit, which is never exceeded
	Most    int64  // milliseconds that it lasts at most; 0: the node's own limit, which is never exceeded
	// Listen is where SessionForward listens on the node, each ADDRESS:PORT as CanonicalListen has it: who connects there comes
	// out at the operator's end. Such a session has Forward, Listen or both.
	Listen []string
	// Paths are what SessionCopy may touch on the node, each with what is below it, as CanonicalPath has them: the sources; or, with
	// Put, the destination. Links lead no further: where a path leads by one must be signed as well.
	Paths []string
	Put   bool // the node writes
	Deep  bool // folders are copied with what is in them
	// Document says what the session is, in place of Argv and Forward. None or one.
	Document []SessionDocument
}

// Terminal is a terminal as a program sees it.
type Terminal struct {
	Name string // TERM
	Rows uint16
	Cols uint16
}

// SessionKind says what a session is for.
type SessionKind uint8

// The kinds of sessions.
const (
	SessionShell   SessionKind = 1 // the account's login shell
	SessionExec    SessionKind = 2 // one program
	SessionForward SessionKind = 3 // connections from the node to elsewhere, or to the node and from there to the operator's end
	SessionCopy    SessionKind = 4 // files of the node, as the account may read and write them
)

// SessionKinds lists them all.
var SessionKinds = []SessionKind{SessionShell, SessionExec, SessionForward, SessionCopy}

// String returns the kind's name, as context.kind of policy has it.
func (k SessionKind) String() string {
	switch k {
	case SessionShell:
		return "shell"
	case SessionExec:
		return "exec"
	case SessionForward:
		return "forward"
	case SessionCopy:
		return "copy"
	}
	return "unknown"
}

// Limits of a session's statement.
const (
	MaxSession         = 128 << 10        // bytes of its signed body
	MaxSessionLife     = 15 * time.Minute // from Issued to Expires: it may be opened once, by the key that signed it alone
	DefaultSessionLife = 10 * time.Minute // more than MaxSkew, so that no healthy clock finds it expired
	MaxSessionTime     = 30 * 24 * time.Hour
	MaxSessionArgs     = 64 << 10 // bytes of Argv in all
	MaxSessionEnv      = 32 << 10 // bytes of Env in all
	MaxSessionEnvs     = 64       // entries of Env
	MaxForwards        = 32       // places and listeners of a tunnel, together
	MaxPaths           = 256      // of a copy
	MaxPathsSize       = 64 << 10 // bytes of them in all
	MaxReason          = 1 << 10  // bytes
	MaxUser            = 64       // bytes of an account's name
	MaxTerminalName    = 64       // bytes
	MaxTerminalSize    = 10_000   // rows and columns
)

// SessionKill is an order to one node to end a session: purpose ForSessionKill.
type SessionKill struct {
	Header  Header
	Node    fleet.ID
	Session fleet.UUID
	Reason  string // for the one whose session it is; one line of at most MaxReason bytes
}

// Shell reports whether the operator writes shell lines: the context.shell of policy.
func (s Session) Shell() bool {
	return s.Kind == SessionShell || s.Kind == SessionExec && len(s.Argv) == 1
}

// Check reports what is wrong with a session on the face of it, or nil. It does not judge whether its time is over.
func (s Session) Check() error {
	for _, check := range []func(Session) error{
		Session.checkHeader, Session.checkDocument, Session.checkKind, Session.checkArgv, Session.checkEnv, Session.checkUser, Session.checkTerminal, Session.checkForward, Session.checkPaths, Session.checkRest,
	} {
		if err := check(s); err != nil {
			return err
		}
	}
	return nil
}

func (s Session) checkHeader() error {
	if err := s.Header.checkLife("a session", MaxSessionLife); err != nil {
		return err
	}
	if s.Node.IsZero() {
		return fleet.Errorf(fleet.Invalid, "a session is for one node, and names none")
	}
	return nil
}

// checkLife judges the header of an order that goes straight to a node.
func (h Header) checkLife(what string, most time.Duration) error {
	life := h.Expires - h.Issued // in milliseconds: as a Duration, five centuries wrap to an instant
	switch {
	case h.ID.IsZero():
		return fleet.Errorf(fleet.Invalid, "%s without an ID", what)
	case h.Mode != Direct:
		return fleet.Errorf(fleet.Invalid, "%s goes straight to its node, not by mode %d", what, h.Mode)
	case !isTime(h.Issued) || !isTime(h.Expires) || life <= 0 || life > most.Milliseconds():
		return fleet.Errorf(fleet.Invalid, "what is signed for %s is good for %s at most", what, most)
	}
	return nil
}

func (s Session) checkKind() error {
	var bad bool
	tunnels, copies := len(s.Forward)+len(s.Listen) > 0, len(s.Paths) > 0 || s.Put || s.Deep
	switch s.Kind {
	case SessionShell:
		bad = tunnels || copies || len(s.Argv) > 0 || len(s.Terminal) == 0
	case SessionExec:
		bad = tunnels || copies
	case SessionForward:
		bad = copies || len(s.Argv)+len(s.Env)+len(s.Terminal)+len(s.User) > 0
	case SessionCopy:
		bad = tunnels || len(s.Argv)+len(s.Env)+len(s.Terminal) > 0
	default:
		return fleet.Errorf(fleet.Invalid, "sessions of kind %d are not understood by this version", s.Kind)
	}
	if bad {
		return fleet.Errorf(fleet.Invalid, "a session of kind %s has what only another kind has, or lacks a terminal", s.Kind)
	}
	return nil
}

func (s Session) checkArgv() error {
	if s.Kind == SessionExec && len(s.Document) == 0 && (len(s.Argv) == 0 || strings.TrimSpace(s.Argv[0]) == "") {
		return fleet.Errorf(fleet.Invalid, "nothing to run").Hinted("muster exec NODE -- COMMAND")
	}
	size := 0
	for _, arg := range s.Argv {
		size += len(arg) + 1
		if strings.ContainsRune(arg, 0) {
			return fleet.Errorf(fleet.Invalid, "arguments cannot hold a zero byte")
		}
	}
	if size > MaxSessionArgs {
		return fleet.Errorf(fleet.Exhausted, "%d bytes of arguments; at most %d", size, MaxSessionArgs).Hinted("give it by standard input, or muster cp")
	}
	return nil
}

func (s Session) checkEnv() error {
	if len(s.Env) > MaxSessionEnvs {
		return fleet.Errorf(fleet.Exhausted, "%d variables of the environment; at most %d", len(s.Env), MaxSessionEnvs)
	}
	size := 0
	for _, kv := range s.Env {
		size += len(kv) + 1
		if k, _, ok := strings.Cut(kv, "="); !ok || k == "" || strings.ContainsAny(k, "\n\r") || strings.ContainsRune(kv, 0) {
			return fleet.Errorf(fleet.Invalid, "--env %q is not K=V", shorten(k)) // a value may be a secret
		}
	}
	if size > MaxSessionEnv {
		return fleet.Errorf(fleet.Exhausted, "%d bytes of environment; at most %d", size, MaxSessionEnv)
	}
	return nil
}

func (s Session) checkUser() error {
	if s.User == "" {
		return nil
	}
	return CheckUser(s.User)
}

// CheckUser reports why name cannot be the account of a session, or nil. A number is refused: policy goes by names, and
// 0 is root.
func CheckUser(name string) error {
	const first = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
	switch {
	case name == "" || len(name) > MaxUser || strings.IndexByte(first, name[0]) < 0 || strings.Trim(name, first+".@$-") != "":
		return fleet.Errorf(fleet.Invalid, "%q is no account: 1 to %d letters, digits and _ . @ $ -", shorten(name), MaxUser)
	case strings.Trim(name, "0123456789") == "":
		return fleet.Errorf(fleet.Invalid, "account %s is a number: policy goes by names", name).Hinted("give the account's name: --user NAME")
	}
	return nil
}

func (s Session) checkTerminal() error {
	if len(s.Terminal) > 1 {
		return fleet.Errorf(fleet.Invalid, "a session has one terminal at most")
	}
	for _, t := range s.Terminal {
		if len(t.Name) > MaxTerminalName || strings.ContainsFunc(t.Name, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }) {
			return fleet.Errorf(fleet.Invalid, "%q is no kind of terminal", shorten(t.Name)).Hinted("TERM=xterm muster shell …")
		}
		if t.Rows > MaxTerminalSize || t.Cols > MaxTerminalSize {
			return fleet.Errorf(fleet.Invalid, "a terminal of %d rows and %d columns; at most %d of each", t.Rows, t.Cols, MaxTerminalSize)
		}
	}
	return nil
}

func (s Session) checkForward() error {
	if n := len(s.Forward) + len(s.Listen); s.Kind == SessionForward && len(s.Document) == 0 && (n == 0 || n > MaxForwards) {
		return fleet.Errorf(fleet.Invalid, "a tunnel leads to 1 to %d places, not %d", MaxForwards, n).Hinted("muster forward NODE LOCAL:HOST:PORT")
	}
	for i, at := range s.Listen {
		canonical, err := CanonicalListen(at)
		if err != nil {
			return err
		}
		if canonical != at {
			return fleet.Errorf(fleet.Invalid, "%s is not in canonical form, which is %s", shorten(at), canonical)
		}
		if slices.Contains(s.Listen[:i], at) && !anyPort(at) {
			return fleet.Errorf(fleet.Invalid, "the node cannot listen at %s twice", at)
		}
	}
	for _, to := range s.Forward {
		canonical, err := CanonicalPlace(to)
		if err != nil {
			return err
		}
		if canonical != to {
			return fleet.Errorf(fleet.Invalid, "%s is not in canonical form, which is %s", shorten(to), canonical)
		}
	}
	return nil
}

func (s Session) checkPaths() error {
	if s.Kind != SessionCopy {
		return nil
	}
	if n := len(s.Paths); n == 0 || n > MaxPaths {
		return fleet.Errorf(fleet.Invalid, "a copy has 1 to %d paths on the node, not %d", MaxPaths, n).
			Hinted("muster cp NODE:PATH… TO")
	}
	size := 0
	for _, path := range s.Paths {
		size += len(path) + 1
		canonical, err := CanonicalPath(path)
		if err != nil {
			return err
		}
		if canonical != path {
			return fleet.Errorf(fleet.Invalid, "%s is not in canonical form, which is %s", shorten(path), shorten(canonical))
		}
	}
	if size > MaxPathsSize {
		return fleet.Errorf(fleet.Exhausted, "%d bytes of paths; at most %d", size, MaxPathsSize).Hinted("name the folder that they are in, or a pattern")
	}
	return nil
}

func (s Session) checkRest() error {
	if err := checkReason(s.Reason); err != nil {
		return err
	}
	for _, ms := range []int64{s.Idle, s.Most} {
		if ms < 0 || ms > MaxSessionTime.Milliseconds() {
			return fleet.Errorf(fleet.Invalid, "a session idles or lasts at most %d days", MaxSessionTime/(24*time.Hour)).Hinted("0: what the node allows")
		}
	}
	return nil
}

// checkReason wants one line of UTF-8 without control characters.
func checkReason(text string) error {
	if len(text) > MaxReason || !utf8.ValidString(text) || strings.ContainsFunc(text, isControl) {
		return fleet.Errorf(fleet.Invalid, "--reason is one line of at most %d bytes", MaxReason)
	}
	return nil
}

func isControl(r rune) bool { return unicode.IsControl(r) || r == 0x2028 || r == 0x2029 }

// Check reports what is wrong with a kill on the face of it, or nil.
func (k SessionKill) Check() error {
	if err := k.Header.checkLife("the end of a session", MaxSessionLife); err != nil {
		return err
	}
	if k.Node.IsZero() || k.Session.IsZero() {
		return fleet.Errorf(fleet.Invalid, "it names no node, or no session")
	}
	return checkReason(k.Reason)
}

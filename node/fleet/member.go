package fleet

import (
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Status is what the fleet knows of a member's life. The names are SSM's where SSM has one.
type Status string

// Statuses of a member.
const (
	Online         Status = "Online"
	ConnectionLost Status = "ConnectionLost"
	Left           Status = "Left" // it said goodbye; it is still enrolled
)

// Role is what a member holds of the replicated state.
type Role string

// Roles of a member.
const (
	Plain Role = "node"   // holds no replicated state
	Spare Role = "spare"  // replicates, does not vote
	Voter Role = "voter"  // replicates and votes
	Lead  Role = "leader" // the voter that orders writes now
)

// Facts is what a node says of itself. Only the node itself decides by them; elsewhere they are hints.
type Facts struct {
	OS        string // ID of os-release: "debian"
	OSVersion string // VERSION_ID of os-release: "12"
	Arch      string // GOARCH: "amd64"
	Version   string // of muster
	BootID    string // changes at every boot of the host
}

// Member is a node as others see it: its roster entry joined with gossip's view and the facts it reported.
type Member struct {
	ID       ID
	Name     string
	Addrs    []netip.AddrPort // where it can be dialled; none on an outbound-only node
	Via      []ID             // of an outbound-only node: the members through which it is reached, at most two
	Status   Status
	LastSeen time.Time // when somebody last heard of it; zero if never
	Facts    Facts
	Role     Role
	Server   bool              // an operator made it eligible to hold replicated state
	Tags     map[string]string // operator-signed, from the roster
	Plight   string            // what it says that it does not do now, for people; empty: it does all of its work
}

// Names are ^[a-z0-9][a-z0-9.-]{0,62}$, keys of tags ^[a-zA-Z0-9][a-zA-Z0-9_./:-]{0,127}$. As regular expressions the two
// took a seventh of the start of the program, which every run of a command waits for.
const (
	maxName   = 63
	maxTagKey = 128
)

func isName(s string) bool { return has(s, maxName, false, ".-") }

func isTagKey(s string) bool { return has(s, maxTagKey, true, "_./:-") }

// has reports whether s is 1 to most letters (capital ones where allowed), digits and marks, and no mark first.
func has(s string, most int, capitals bool, marks string) bool {
	if s == "" || len(s) > most {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', capitals && 'A' <= c && c <= 'Z':
		case i > 0 && strings.IndexByte(marks, c) >= 0:
		default:
			return false
		}
	}
	return true
}

// Limits of tags; 50 tags, 128 and 256 characters are SSM's.
const (
	MaxTags     = 50
	MaxTagValue = 256
)

// CheckName reports why name cannot name a node, operator or fleet, or nil.
func CheckName(name string) error {
	if !isName(name) {
		return Errorf(Invalid, "%q is not a name: 1 to 63 of a-z, 0-9, dot and hyphen, a letter or digit first", name)
	}
	return nil
}

// CheckTags reports why tags cannot be a node's tags, or nil.
func CheckTags(tags map[string]string) error {
	if len(tags) > MaxTags {
		return Errorf(Exhausted, "%d tags; a node has at most %d", len(tags), MaxTags)
	}
	for k, v := range tags {
		if !isTagKey(k) {
			return Errorf(Invalid, "%q is not a tag's key: 1 to 128 of letters, digits and _ . / : -", k)
		}
		if len(v) > MaxTagValue {
			return Errorf(Invalid, "the value of tag %q is longer than %d bytes", k, MaxTagValue)
		}
		if !utf8.ValidString(v) || strings.ContainsFunc(v, unseen) {
			return Errorf(Invalid, "the value of tag %q, %+q, has control characters, or others that nobody sees", k, v)
		}
	}
	return nil
}

// unseen reports whether a character does not show, or does something to the text around it: what hides in a tag must
// not tell two nodes apart, and no tag may move a terminal's cursor or turn the direction of what follows. The classes
// are those that exec.Printable writes out, and the variation selectors.
func unseen(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

package document

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/muster-fleet/muster/exec/steps"
	"github.com/muster-fleet/muster/node/fleet"
)

// Rooms whose names may stand in double braces.
const (
	storeRoom  = "ssm:"
	secureRoom = "ssm-secure:"
)

// StoreRef is a reference to a parameter of the store: {{ ssm:NAME }}, {{ ssm:NAME:SELECTOR }}, and ssm-secure for secrets.
type StoreRef struct {
	Name     string // canonical: "/a" is "a"
	Selector string // a version's number or a label; empty: the newest
	Secure   bool
}

// String returns the reference as it stands between braces.
func (r StoreRef) String() string {
	text := storeRoom
	if r.Secure {
		text = secureRoom
	}
	text += r.Name
	if r.Selector != "" {
		text += ":" + r.Selector
	}
	return text
}

func (r StoreRef) braced() string { return "{{ " + r.String() + " }}" }

// isStorePath reports whether a name has the characters and slashes that SSM's parameters have. The store itself knows more
// about names (depth, what is reserved); what cannot be there is not found there.
func isStorePath(name string) bool {
	path, rooted := strings.CutPrefix(name, "/")
	parts := strings.Split(path, "/")
	return len(name) <= maxStoreName && (rooted || len(parts) == 1) && !slices.ContainsFunc(parts, func(p string) bool { return !isStoreWord(p) })
}

func isStoreWord(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !letter(r) && !strings.ContainsRune("_.-", r) })
}

// isStoreSelector reports whether a text may be a version's number or a label.
func isStoreSelector(s string) bool {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return isStoreWord(s) && len(s) <= maxStoreLabel
	}
	return len(s) <= maxStoreVersion && strings.Trim(s, "0123456789") == ""
}

// The most bytes of a parameter's name and of a label (SSM's), and of a version's number.
const (
	maxStoreName    = 1011
	maxStoreLabel   = 100
	maxStoreVersion = 10
)

// ParseStoreRef reads what stands between the braces: ssm:NAME[:SELECTOR] or ssm-secure:NAME[:SELECTOR].
func ParseStoreRef(text string) (StoreRef, error) {
	var r StoreRef
	rest, ok := strings.CutPrefix(text, storeRoom)
	if !ok {
		rest, r.Secure = strings.CutPrefix(text, secureRoom)
	}
	if !ok && !r.Secure {
		return r, fleet.Errorf(fleet.Invalid, "{{ %s }} names no parameter of the store", clip(text)).Hinted("{{ ssm:NAME }}, {{ ssm-secure:NAME }}")
	}
	var given bool
	r.Name, r.Selector, given = strings.Cut(rest, ":")
	if !isStorePath(r.Name) || given && !isStoreSelector(r.Selector) {
		return r, fleet.Errorf(fleet.Invalid, "{{ %s }}: %q is no parameter", clip(text), clip(rest)).
			Hinted("NAME, NAME:VERSION or NAME:LABEL; a name with / in it begins with one")
	}
	if strings.LastIndexByte(r.Name, '/') == 0 {
		r.Name = r.Name[1:]
	}
	return r, nil
}

// wholeRef returns the reference to the store if a text is one and nothing else. ok is true also of one that is malformed.
func wholeRef(text string) (r StoreRef, ok bool, err error) {
	name, alone := whole(text)
	if !alone || !isStoreName(name) {
		return r, false, nil
	}
	r, err = ParseStoreRef(name)
	return r, true, err
}

func isStoreName(name string) bool {
	return strings.HasPrefix(name, storeRoom) || strings.HasPrefix(name, secureRoom)
}

// MentionsStore reports whether a reference to the store stands anywhere in a text.
func MentionsStore(text string) bool {
	return slices.ContainsFunc(refs(text), func(r ref) bool { return isStoreName(r.name) })
}

// Pinned is a version of a parameter as a command has it.
type Pinned struct {
	Name     string
	Selector string
	List     bool   // a StringList: its items, with commas between them
	Secret   bool   // its value is not known here
	Value    string // of a plain one
}

// Store is what documents, values and environments are bound to: the parameters that were pinned. The secrets among them
// are counted from 1, in their order; a plan refers to them by these numbers. A nil Store has none.
type Store struct {
	all []Pinned
	// marker begins the word that stands for a secret while a plan is made. Nobody who writes documents, values or
	// parameters can know it.
	marker string
}

// markerSize is how many bytes of a marker tell one from another.
const markerSize = 16

// NewStore returns a store of what was pinned. salt is something that nobody knew who wrote a document or a parameter of
// it: the ID of a command.
func NewStore(all []Pinned, salt string) *Store {
	sum := sha256.Sum256([]byte("muster secret\x00" + salt))
	return &Store{all: all, marker: "secret" + hex.EncodeToString(sum[:markerSize]) + "n"}
}

// find returns what was pinned for a reference; index counts secrets from 1.
func (s *Store) find(r StoreRef) (p Pinned, index int, err error) {
	if s != nil {
		for _, p := range s.all {
			if p.Secret {
				index++
			}
			if p.Name != r.Name || p.Selector != r.Selector {
				continue
			}
			if p.Secret != r.Secure {
				return p, 0, wrongRoom(r)
			}
			return p, index, nil
		}
	}
	return p, 0, fleet.Errorf(fleet.Invalid, "%s is not among the parameters that were pinned", r.braced())
}

func wrongRoom(r StoreRef) error {
	other := StoreRef{r.Name, r.Selector, !r.Secure}
	if r.Secure {
		return fleet.Errorf(fleet.Invalid, "%s: the parameter is no secret", r.braced()).Hinted("write %s", other.braced())
	}
	return fleet.Errorf(fleet.Denied, "%s: the parameter is a secret", r.braced()).Hinted("write %s", other.braced())
}

// text returns the value of a reference; of a secret, the word that stands for it.
func (s *Store) text(r StoreRef) (string, error) {
	p, index, err := s.find(r)
	switch {
	case err != nil:
		return "", err
	case p.Secret:
		return s.word(index), nil
	case strings.ContainsRune(p.Value, 0) || !utf8.ValidString(p.Value):
		return "", fleet.Errorf(fleet.Invalid, "the value of %s is no text", r.braced())
	}
	return p.Value, nil
}

// Environment puts parameters into the values of NAME=VALUE entries, once; of several entries of one name the last counts.
// Those with a secret in them come as their parts.
func (s *Store) Environment(env []string) (plain []string, secret []steps.Filled, err error) {
	all := make([]string, 0, len(env))
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		value, err := s.fill(value)
		if err != nil {
			return nil, nil, fleet.Errorf(fleet.KindOf(err), "environment variable %s: %w", clip(name), err)
		}
		all = append(all, name+"="+value)
	}
	return s.split(all)
}

// fill puts parameters into a text.
func (s *Store) fill(text string) (string, error) {
	if s.hides(text) {
		return "", errMarker
	}
	var out strings.Builder
	at := 0
	for _, found := range refs(text) {
		if !isStoreName(found.name) {
			continue
		}
		r, err := ParseStoreRef(found.name)
		if err != nil {
			return "", err
		}
		value, err := s.text(r)
		if err != nil {
			return "", err
		}
		out.WriteString(text[at:found.start])
		out.WriteString(value)
		at = found.end
	}
	out.WriteString(text[at:])
	return out.String(), nil
}

// EnvironmentRefs returns the references in the values of NAME=VALUE entries, each once.
func EnvironmentRefs(env []string) ([]StoreRef, error) {
	var out []StoreRef
	for _, entry := range env {
		_, value, _ := strings.Cut(entry, "=")
		found, err := textRefs(value)
		if err != nil {
			return nil, err
		}
		out = join(out, found)
	}
	return out, nil
}

// textRefs returns the references to the store in a text.
func textRefs(text string) ([]StoreRef, error) {
	var out []StoreRef
	for _, found := range refs(text) {
		if !isStoreName(found.name) {
			continue
		}
		r, err := ParseStoreRef(found.name)
		if err != nil {
			return nil, err
		}
		out = join(out, []StoreRef{r})
	}
	return out, nil
}

// join appends the references that are not there yet.
func join(out, more []StoreRef) []StoreRef {
	for _, r := range more {
		if !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	return out
}

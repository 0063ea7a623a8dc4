package shape

import (
	"time"

	"github.com/muster-fleet/muster/node/auth"
)

// Group is a saved target.
type Group struct {
	Name    string    `json:"name"`
	Target  string    `json:"target"`
	Changed time.Time `json:"changed,omitzero"`
	By      string    `json:"by"`
	Act     uint64    `json:"act"`
}

// Setting is one of the fleet's settings. An empty value is the default.
type Setting struct {
	Name    string    `json:"name"`
	Value   string    `json:"value"`
	Changed time.Time `json:"changed,omitzero"`
	By      string    `json:"by"`
	Act     uint64    `json:"act"`
}

// OfGroups returns the shape of all.
func OfGroups(all []auth.Group) []Group {
	out := make([]Group, 0, len(all))
	for _, g := range all {
		out = append(out, Group{g.Name, g.Target, At(g.Changed), g.By, g.Act})
	}
	return out
}

// Groups returns what OfGroups was given.
func Groups(all []Group) []auth.Group {
	out := make([]auth.Group, 0, len(all))
	for _, g := range all {
		out = append(out, auth.Group{Name: g.Name, Target: g.Target, Changed: Milli(g.Changed), By: g.By, Act: g.Act})
	}
	return out
}

// OfSettings returns the shape of all.
func OfSettings(all []auth.Setting) []Setting {
	out := make([]Setting, 0, len(all))
	for _, s := range all {
		out = append(out, Setting{s.Name, s.Value, At(s.Changed), s.By, s.Act})
	}
	return out
}

// Settings returns what OfSettings was given.
func Settings(all []Setting) []auth.Setting {
	out := make([]auth.Setting, 0, len(all))
	for _, s := range all {
		out = append(out, auth.Setting{Name: s.Name, Value: s.Value, Changed: Milli(s.Changed), By: s.By, Act: s.Act})
	}
	return out
}

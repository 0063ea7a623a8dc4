package config

import (
	"fmt"

	"github.com/muster-fleet/muster/node/fleet"
)

// Value is what counts for one key.
type Value struct {
	Name   string
	Text   string // as it was given; empty: Key.Without says what holds
	Origin Origin
}

// Config is what counts on one host: one valid value for every key, immutable. The zero Config is Defaults().
type Config struct {
	values map[string]Value
}

// Defaults is the configuration where nobody says anything.
func Defaults() Config {
	c, _ := Resolve(nil)
	return c
}

// Resolve decides which of what was given counts, whatever its order. Everything that is wrong is a problem, also where
// something else takes precedence; on a problem the Config holds the rest.
func Resolve(given []Given) (Config, []Problem) {
	var problems []Problem
	best := map[string]Value{}
	for _, g := range given {
		k, ok := Find(g.Name)
		err := error(nil)
		if !ok {
			err = noKey(g.Name)
		} else if g.Origin.Source != Folder { // who wrote that checked it, and is newer or older than this
			err = k.Check(g.Text)
		}
		if err != nil {
			problems = append(problems, problemAt(g.Origin.String(), 0, err))
			continue
		}
		if had, ok := best[g.Name]; g.Text != "" && (!ok || g.Origin.Source < had.Origin.Source) {
			best[g.Name] = Value(g)
		}
	}
	preset := Preset(best[KeyPreset].Text)
	for _, k := range Keys() {
		if _, ok := best[k.Name]; ok {
			continue
		}
		if text, ok := k.Presets[preset]; ok {
			best[k.Name] = Value{k.Name, text, Origin{Source: ByPreset, Where: "preset " + string(preset)}}
			continue
		}
		best[k.Name] = Value{k.Name, k.Default, Origin{Source: Default}}
	}
	if shell := best[KeyShell]; shell.Text == "false" && best[KeyUpgrades].Origin.Source == Default {
		// An upgrade runs whatever the fleet takes for a release: who refuses a shell has not agreed to that by saying nothing.
		best[KeyUpgrades] = Value{KeyUpgrades, "false", Origin{Source: Default, Where: shell.said()}}
	}
	return Config{best}, problems
}

// Error returns the problems as one error, nil if there are none: the first, and how many more.
func Error(problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	first := problems[0]
	more := ""
	if len(problems) > 1 {
		more = fmt.Sprintf(" (and %d more)", len(problems)-1)
	}
	e := fleet.Errorf(fleet.Invalid, "%s: %s%s", first.Where, first.What, more)
	if first.Hint != "" && len(problems) == 1 {
		return e.Hinted("%s", first.Hint)
	}
	return e.Hinted("muster config check")
}

// All lists the values, in the order of Keys.
func (c Config) All() []Value {
	out := make([]Value, 0, len(c.values))
	for _, k := range Keys() {
		out = append(out, c.Get(k.Name))
	}
	return out
}

// Get returns what counts for a key.
func (c Config) Get(name string) Value {
	if c.values == nil {
		c = Defaults()
	}
	return c.values[name]
}

// Changed compares two configurations: what a running agent takes, and what only its next start does.
func Changed(old, new Config) (live, later []Value) {
	for _, k := range Keys() {
		v := new.Get(k.Name)
		switch {
		case old.Get(k.Name).Text == v.Text:
		case k.Live:
			live = append(live, v)
		default:
			later = append(later, v)
		}
	}
	return live, later
}

// Running returns what a running agent has after a reload: what is live of new, the rest of old.
func Running(old, new Config) Config {
	values := map[string]Value{}
	for _, k := range Keys() {
		values[k.Name] = old.Get(k.Name)
		if k.Live {
			values[k.Name] = new.Get(k.Name)
		}
	}
	return Config{values}
}

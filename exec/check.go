package exec

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Check reports what is wrong with a command on the face of it, or nil.
func (c Command) Check() error {
	for _, check := range []func(Command) error{
		Command.checkRun, Command.checkTimes, Command.checkDocuments, Command.checkPace, Command.checkAfter, Command.checkWords, Command.checkParams,
	} {
		if err := check(c); err != nil {
			return err
		}
	}
	return nil
}

func (c Command) checkRun() error {
	switch {
	case c.Header.ID.IsZero():
		return fleet.Errorf(fleet.Invalid, "command without an ID")
	case len(c.Documents) > 0 && len(c.Run.Argv)+len(c.Run.Script) > 0:
		return fleet.Errorf(fleet.Invalid, "a command runs a document or a program, not both")
	case len(c.Documents) == 0 && len(c.Run.Script) == 0 && (len(c.Run.Argv) == 0 || strings.TrimSpace(c.Run.Argv[0]) == ""):
		return fleet.Errorf(fleet.Invalid, "nothing to run").Hinted("muster run --target … -- COMMAND")
	case c.Count == 0 || c.Count > MaxTargets:
		return fleet.Errorf(fleet.Invalid, "a command is for 1 to %d nodes, not %d", MaxTargets, c.Count)
	}
	return nil
}

func (c Command) checkTimes() error {
	life := c.Header.Expires - c.Header.Issued // in milliseconds: as a Duration, five centuries wrap to an instant
	switch {
	case c.Header.Issued < 0 || c.Header.Expires > auth.MaxTime || life <= 0 || life > MaxExpires.Milliseconds():
		return fleet.Errorf(fleet.Invalid, "--expires must be above 0 and at most %s, not %d s", MaxExpires, life/1000)
	case c.Run.Timeout <= 0 || c.Run.Timeout > MaxTimeout.Milliseconds():
		return fleet.Errorf(fleet.Invalid, "--timeout must be above 0 and at most %s, not %d s", MaxTimeout, c.Run.Timeout/1000)
	}
	switch c.Header.Mode {
	case auth.ByQuorum:
		return nil
	case auth.Direct:
		if life > MaxDirect.Milliseconds() {
			return fleet.Errorf(fleet.Invalid, "with --direct, --expires must be at most %s, not %d s", MaxDirect, life/1000)
		}
		if !c.Pace.isZero() || !c.After.IsZero() {
			return fleet.Errorf(fleet.Invalid, "limits across the fleet need the quorum: --direct goes without them")
		}
		return nil
	}
	return fleet.Errorf(fleet.Invalid, "commands of mode %d are not understood by this version", c.Header.Mode)
}

func (c Command) checkDocuments() error {
	if len(c.Documents) > MaxDocuments {
		return fleet.Errorf(fleet.Invalid, "a command runs at most %d documents, not %d", MaxDocuments, len(c.Documents))
	}
	for i, d := range c.Documents {
		switch {
		case !isDocumentName(d.Name, 3) || d.Version == 0 || d.Digest.IsZero():
			return fleet.Errorf(fleet.Invalid, "document %q is not pinned to a version", clip(d.Name))
		case slices.ContainsFunc(c.Documents[:i], func(o DocumentRef) bool { return o.Name == d.Name }):
			return fleet.Errorf(fleet.Invalid, "document %s is named twice", d.Name)
		}
	}
	if len(c.Run.Values) > MaxValues || len(c.Documents) == 0 && len(c.Run.Values) > 0 {
		return fleet.Errorf(fleet.Invalid, "%d values for parameters; a document takes at most %d, a plain command none", len(c.Run.Values), MaxValues)
	}
	for i, v := range c.Run.Values {
		if v.Name == "" || len(v.Name) > MaxValueName {
			return fleet.Errorf(fleet.Invalid, "a parameter's name has 1 to %d bytes", MaxValueName)
		}
		if i > 0 && c.Run.Values[i-1].Name >= v.Name {
			return fleet.Errorf(fleet.Invalid, "the values for parameters are not sorted, or one is given twice")
		}
	}
	return nil
}

func (p Pace) isZero() bool {
	return !p.Limited && p.Concurrency == 0 && p.Errors == 0 && !p.Strict && len(p.Waves) == 0 && len(p.Gates) == 0 && p.OnStop.IsZero()
}

func (c Command) checkPace() error {
	p := c.Pace
	switch {
	case p.isZero():
		return nil
	case !p.Limited:
		return fleet.Errorf(fleet.Invalid, "a pace without limits")
	case p.Concurrency > MaxTargets || p.Errors > MaxTargets:
		return fleet.Errorf(fleet.Invalid, "limits are numbers of nodes, at most %d", MaxTargets)
	case len(p.Waves) > MaxWaves:
		return fleet.Errorf(fleet.Invalid, "%d waves; at most %d", len(p.Waves), MaxWaves).Hinted("--canary with fewer steps")
	}
	var before uint32
	for _, n := range p.Waves {
		if n <= before {
			return fleet.Errorf(fleet.Invalid, "each wave must have more nodes than the one before it").Hinted("--canary 1,5%%,100%%")
		}
		before = n
	}
	if len(p.Waves) > 0 && before != c.Count {
		return fleet.Errorf(fleet.Invalid, "the waves end at %d nodes, the command is for %d", before, c.Count)
	}
	return c.checkLinks()
}

func (c Command) checkLinks() error {
	p := c.Pace
	if len(p.Gates) > 0 && len(p.Gates) != len(p.Waves)-1 {
		return fleet.Errorf(fleet.Invalid, "%d gates for %d waves; one stands between each two", len(p.Gates), len(p.Waves)).Hinted("--gate needs --canary")
	}
	named := map[fleet.UUID]bool{c.Header.ID: true}
	for _, id := range p.Gates {
		if id.IsZero() || named[id] {
			return fleet.Errorf(fleet.Invalid, "each gate is a command of its own")
		}
		named[id] = true
	}
	if named[p.OnStop] {
		return fleet.Errorf(fleet.Invalid, "what is run on a stop is a command of its own")
	}
	return nil
}

func (c Command) checkAfter() error {
	switch a := c.After; {
	case a.IsZero():
		return nil
	case a.Command.IsZero() || a.Command == c.Header.ID || a.Wave >= MaxWaves:
		return fleet.Errorf(fleet.Invalid, "it waits for what cannot be")
	case !c.Pace.Limited || len(c.Pace.Waves)+len(c.Pace.Gates) > 0 || !c.Pace.OnStop.IsZero():
		return fleet.Errorf(fleet.Invalid, "a gate, and what is run on a stop, is limited, in one wave, and has no gates of its own")
	}
	return nil
}

// checkWords reports what is wrong with the texts that a command carries, or nil.
func (c Command) checkWords() error {
	for _, kv := range c.Run.Env {
		if k, _, ok := strings.Cut(kv, "="); !ok || k == "" || strings.ContainsAny(k, "\x00\n") {
			return fleet.Errorf(fleet.Invalid, "--env %q is not K=V", kv)
		}
	}
	for _, arg := range slices.Concat(c.Run.Argv, c.Run.Env, []string{c.Run.Dir, c.Run.User}) {
		if strings.ContainsRune(arg, 0) {
			return fleet.Errorf(fleet.Invalid, "arguments cannot hold a zero byte")
		}
	}
	if len(c.Comment) > MaxComment || !oneLine(c.Comment) {
		return fleet.Errorf(fleet.Invalid, "--comment is one line of at most %d bytes", MaxComment)
	}
	return auth.CheckOutputTo(c.OutputTo)
}

// oneLine reports whether text is UTF-8 without control characters. It names them by number: replicas must judge alike,
// whatever version of Unicode they were built with.
func oneLine(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || 0x7f <= r && r < 0xa0 || r == 0x2028 || r == 0x2029 })
}

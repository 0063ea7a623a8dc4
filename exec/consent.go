package exec

import (
	"cmp"

	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node/config"
	"github.com/muster-fleet/muster/node/fleet"
)

// Withheld decides once more about a command that Judge permitted: by what this host's own root withholds, and by whether
// operators have drained the node. tags are the roster's. What documents do is asked of WithheldDocuments.
func (v Verdict) Withheld(own config.Consent, tags map[string]string) Verdict {
	if v.Status != Pending {
		return v
	}
	drained := fleet.DrainOf(tags)
	switch why := withheldArgv(v.Command, own); {
	case why != "":
		return v.withhold(why)
	case drained != "" && !fleet.MeansDrained(v.Command.Target):
		return v.withhold(drained)
	}
	return v
}

// WithheldDocuments decides once more about a command that JudgeDocuments permitted: by what its documents do.
func (v Verdict) WithheldDocuments(own config.Consent) Verdict {
	if why := v.reach.withheld(own); v.Status == Pending && why != "" {
		return v.withhold(why)
	}
	return v
}

// WithheldInTurn says why a command that was permitted, and has waited for its turn since, does not begin; empty: it may. own is
// what the host's root withholds by now, texts are those of the command's documents.
func WithheldInTurn(cmd Command, texts [][]byte, own config.Consent) string {
	why := withheldArgv(cmd, own)
	if why != "" || own == (config.Consent{}) {
		return why
	}
	reach := reachOf(cmd.Run)
	for _, text := range texts {
		d, err := document.Parse(text)
		if err != nil {
			return err.Error()
		}
		reach.add(d)
	}
	return reach.withheld(own)
}

// withheldArgv says why a command is withheld whatever its documents do, or because it has none.
func withheldArgv(cmd Command, own config.Consent) string {
	if own.Paused == "" && len(cmd.Documents) == 0 { // an argv may be a shell's
		return own.NoShell
	}
	return own.Paused
}

// reach is what a command can do beyond what the texts of its documents say.
type reach struct {
	raw      bool // a document is a shell by another name, or is bent into one
	upgrades bool // a document replaces muster here
	unseen   bool // a document runs one from a file: nobody has judged what that does
}

// reachOf is that of a command whose documents nobody has looked at yet.
func reachOf(r Run) reach { return reach{raw: r.bends()} }

// add counts a document in. One that another runs may be handed a script by that one, so each counts by itself.
func (r *reach) add(d *document.Document) {
	r.raw = r.raw || d.RawShell()
	r.upgrades = r.upgrades || d.Upgrades()
	r.unseen = r.unseen || d.RunsUnseen()
}

// withheld says why a host whose root withholds something does not do that.
func (r reach) withheld(own config.Consent) string {
	switch why := cmp.Or(own.NoShell, own.NoUpgrades); {
	case r.raw && own.NoShell != "":
		return own.NoShell
	case r.upgrades && own.NoUpgrades != "":
		return own.NoUpgrades
	case r.unseen && why != "":
		return why + "; this document runs another one from a file, which nobody has judged"
	}
	return ""
}

// withhold refuses what an operator may do elsewhere, but not on this host.
func (v Verdict) withhold(why string) Verdict {
	v.Consent = true
	return v.no(Refused, fleet.Errorf(fleet.Denied, "%s", why))
}

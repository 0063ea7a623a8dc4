package exec

import (
	"time"

	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// needDocuments names the texts that a permitted command needs from elsewhere, or refuses one that can never be here.
func (v Verdict) needDocuments() Verdict {
	for _, ref := range v.Command.Documents {
		_, here := builtIn(ref)
		switch {
		case here:
		case reservedName(ref.Name):
			return v.no(Refused, fleet.Errorf(fleet.Denied, "document %s is built into muster, and this host's version has another text", ref.Name).
				Hinted("upgrade muster, here or where the command was signed"))
		default:
			v.Documents = append(v.Documents, ref.Key())
		}
	}
	return v
}

// builtIn returns the text that ref pins, if this binary has it.
func builtIn(ref DocumentRef) ([]byte, bool) {
	if !reservedName(ref.Name) {
		return nil, false
	}
	for _, d := range document.BuiltIn() {
		if d.Name == ref.Name && document.Digest(d.Text) == ref.Digest {
			return d.Text, true
		}
	}
	return nil, false
}

// OpenPublication verifies a publication as whoever keeps or fetches one does: an operator who stands, or stood when it
// was signed, made it. The key is DocumentRef.Key of what it publishes. It does not ask policy.
func OpenPublication(c *auth.Charter, e auth.Envelope) (Publication, fleet.ID, error) {
	p, op, err := openPublication(c, e)
	if err == nil {
		_, err = c.Standing(op.ID(), p.Header.Issued)
	}
	return p, p.Ref(1).Key(), err
}

// MayPublish reports why a publication does not count now, or nil: it is not what an operator signed, its signer has been
// removed, or policy does not let him publish under that name. An Unavailable error says that the record may be too old to
// tell.
func MayPublish(record auth.Record, e auth.Envelope) error {
	p, op, err := openPublication(record.Charter, e)
	if err != nil {
		return err
	}
	if !record.Charter.Knows(p.Header.Charter) {
		return fleet.Errorf(fleet.Unavailable, "document %s was signed under charter %s, which is not known here", p.Name, p.Header.Charter)
	}
	return signed{p, op}.may(record)
}

// openPublication verifies that somebody who is or was an operator signed a publication; not whether it counts.
func openPublication(c *auth.Charter, e auth.Envelope) (Publication, auth.Operator, error) {
	if c == nil {
		return Publication{}, auth.Operator{}, fleet.Errorf(fleet.Unavailable, "this node has no charter yet")
	}
	if len(e.Body) > MaxPublication {
		return Publication{}, auth.Operator{}, fleet.Errorf(fleet.Exhausted, "publication of %d bytes; at most %d", len(e.Body), MaxPublication)
	}
	op, err := c.Standing(e.Key, 0)
	if err != nil {
		return Publication{}, op, err
	}
	p, err := auth.Open[Publication](e, auth.ForDocument, c.Fleet(), op.Key)
	if err == nil {
		err = p.CheckFace()
	}
	return p, op, err
}

// JudgeDocuments decides once more about a command that Judge permitted, when the texts of its documents are here.
// statements are the publications that v.Documents names, in any order. It returns the texts in the order of
// Command.Documents, those built in included. An Unavailable error says that a text is missing, or is not what somebody
// signed: fetch it from elsewhere, or catch up. Every refusal is a verdict. To be called for every command with
// Documents, also when v.Documents is empty: a document can be a shell by another name.
func JudgeDocuments(v Verdict, statements []auth.Envelope, record auth.Record, self fleet.Member, now time.Time) (Verdict, [][]byte, error) {
	published, err := openAll(statements, record.Charter)
	if err != nil {
		return v, nil, err
	}
	var texts [][]byte
	v.reach = reachOf(v.Command.Run)
	for _, ref := range v.Command.Documents {
		text, ok := builtIn(ref)
		if !ok {
			p, ok := published[ref.Key()]
			if !ok {
				return v, nil, fleet.Errorf(fleet.Unavailable, "document %s is not here", ref.Name)
			}
			if err := p.may(record); err != nil {
				return v.no(Refused, err), nil, nil
			}
			text = p.body.Text
		}
		d, err := document.Parse(text)
		if err != nil {
			return v.no(Refused, fleet.Errorf(fleet.Invalid, "document %s: %w", ref.Name, err)), nil, nil
		}
		v.reach.add(d)
		texts = append(texts, text)
	}
	return v.mayRunDocument(record, self, now), texts, nil
}

// bends reports whether the run gives a document more than values: a variable such as PATH or LD_PRELOAD, a folder in which
// ./check is something else, or input that it may read a script from. Who may do that may do anything, so it counts as raw
// shell.
func (r Run) bends() bool { return len(r.Env) > 0 || len(r.Stdin) > 0 || r.Dir != "" }

// signed is a publication with who signed it.
type signed struct {
	body Publication
	by   auth.Operator
}

func openAll(statements []auth.Envelope, c *auth.Charter) (map[fleet.ID]signed, error) {
	out := make(map[fleet.ID]signed, len(statements))
	for _, e := range statements {
		p, op, err := openPublication(c, e)
		if err != nil {
			return nil, fleet.Errorf(fleet.Unavailable, "a document that was fetched is not what an operator signed: %w", err)
		}
		if !c.Knows(p.Header.Charter) {
			return nil, fleet.Errorf(fleet.Unavailable, "document %s was signed under charter %s, which this node has not got", p.Name, p.Header.Charter)
		}
		out[p.Ref(1).Key()] = signed{p, op}
	}
	return out, nil
}

// may reports why the publication does not count here: its signer had no right to it, or has been removed.
func (s signed) may(record auth.Record) error {
	if _, err := record.Charter.Standing(s.by.ID(), s.body.Header.Issued); err != nil {
		return err
	}
	_, err := record.Charter.Policy().Decide(auth.Ask{
		Principal: s.by.AsPrincipal(), Action: auth.ActPutDocument, Resource: auth.Resource{Type: "Document", Name: s.body.Name},
	})
	return err
}

// mayRunDocument asks policy about the run as Judge did, now that it is known whether the documents are a shell.
func (v Verdict) mayRunDocument(record auth.Record, self fleet.Member, now time.Time) Verdict {
	op, err := record.Charter.Current(v.Signer, now)
	if err != nil {
		return v.no(Refused, err)
	}
	n, err := record.Roster.Enrolled(self.ID)
	if err != nil {
		return v.no(Refused, err)
	}
	ask := askRun(v.Command, op, n)
	ask.Shell = v.reach.raw
	rule, err := record.Charter.Policy().Decide(ask)
	if err != nil {
		return v.no(Refused, err)
	}
	if err := MayUseParams(v.Command, op, record.Charter.Policy()); err != nil {
		return v.no(Refused, err)
	}
	v.Rule = clip(rule)
	return v
}

// askRun is the question to policy whether op may run cmd on a node.
func askRun(cmd Command, op auth.Operator, n *auth.Node) auth.Ask {
	return auth.Ask{
		Principal: op.AsPrincipal(), Action: auth.ActRun, User: cmd.Run.User, Shell: cmd.Run.Shell(),
		Document: cmd.Document(), Direct: cmd.Header.Mode == auth.Direct, OutputTo: cmd.OutputTo,
		Resource: auth.Resource{Type: "Node", Name: n.Name, Tags: n.Tags},
	}
}

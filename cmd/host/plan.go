package host

import (
	"strconv"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/exec/steps"
	"github.com/muster-fleet/muster/node/fleet"
)

// planOf returns what this host does for a command. texts are those of its documents, in their order.
func planOf(cmd exec.Command, texts [][]byte) (steps.Plan, error) {
	store := cmd.Store()
	if len(cmd.Documents) == 0 {
		return steps.Plan{Steps: []steps.Step{{Argv: cmd.Run.Argv, Script: cmd.Run.Script}}}, nil
	}
	pinned, err := parseAll(cmd.Documents, texts)
	if err != nil {
		return steps.Plan{}, err
	}
	name := cmd.Documents[0].Name
	main := pinned[name].doc.Bind(store)
	args := make([]document.Argument, len(cmd.Run.Values))
	for i, v := range cmd.Run.Values {
		args[i] = document.Argument(v)
	}
	values, err := main.Complete(args)
	if err != nil {
		return steps.Plan{}, fleet.Errorf(fleet.KindOf(err), "document %s: %w", name, err)
	}
	plan, err := main.Plan(values, document.Host{Platform: document.Linux}, pinned.find)
	if err != nil {
		return steps.Plan{}, fleet.Errorf(fleet.KindOf(err), "document %s: %w", name, err)
	}
	return plan, nil
}

// pins are the documents of a command by name: it pins one version of each.
type pins map[string]pin

type pin struct {
	version uint32
	doc     *document.Document
}

// parseAll checks the texts once more against what was signed: nothing else may become a plan.
func parseAll(refs []exec.DocumentRef, texts [][]byte) (pins, error) {
	if len(texts) != len(refs) {
		return nil, fleet.Errorf(fleet.Internal, "%d texts of %d documents", len(texts), len(refs))
	}
	out := pins{}
	for i, ref := range refs {
		if document.Digest(texts[i]) != ref.Digest {
			return nil, fleet.Errorf(fleet.Denied, "the text of document %s is not the one that was signed", ref.Name)
		}
		doc, err := document.Parse(texts[i])
		if err != nil {
			return nil, fleet.Errorf(fleet.KindOf(err), "document %s: %w", ref.Name, err)
		}
		out[ref.Name] = pin{ref.Version, doc}
	}
	return out, nil
}

// find is what a plan asks for documents that others run. A version by name, or none, is the one that was pinned when the
// command was signed.
func (p pins) find(name, version string) (*document.Document, bool) {
	found, ok := p[name]
	if n, err := strconv.ParseUint(version, 10, 32); ok && err == nil && uint32(n) != found.version {
		return nil, false
	}
	return found.doc, ok
}

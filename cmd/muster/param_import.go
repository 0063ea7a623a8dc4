package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/params"
)

func newParamImportCommand(a *app) *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use: "import FILE", Short: "Put the parameters of a file, in one act", Args: exactly(1, "one FILE, or - for standard input"),
		Long: `Put the parameters of a file, all or none, in one act. What is there already as the file has it stays as it is; what is there
and differs needs --overwrite. --dry-run shows what would change, and sends nothing.

The file is what muster param export writes, or what aws ssm get-parameters-by-path prints. Secrets in the clear are sealed
for you, recovery and --readers; sealed ones are opened with your key, or --recovery-key, and sealed anew for the readers
that the file names. One act takes up to 100 parameters and 128 KB of values.`,
		Example: `  muster param import params.json --dry-run
  muster param import params.json --overwrite
  aws ssm get-parameters-by-path --path /app --recursive --with-decryption | muster param import - --readers 'tag.role=web'`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.importParams(cmd.Context(), f, args[0]) },
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.overwrite, "overwrite", false, "make next versions of parameters that are there and differ")
	flags.BoolVar(&f.dryRun, "dry-run", false, "show what would change, and send nothing")
	flags.StringArrayVar(&f.readers, "readers", nil, "who can read the secrets, beside you and recovery, in the place of those that the file names; may be repeated")
	flags.BoolVar(&f.sameReaders, "same-readers", false, "where the file names none: the readers that a secret has, also where another operator has named them")
	flags.StringVar(&f.recoveryKey, "recovery-key", "", "open sealed secrets with the fleet's recovery key in this file")
	completeReaders(a, cmd, "readers")
	return cmd
}

type importFlags struct {
	overwrite   bool
	dryRun      bool
	readers     []string
	sameReaders bool
	recoveryKey string
}

// awsParameters is what aws ssm get-parameters and get-parameters-by-path print.
type awsParameters struct {
	Parameters []struct {
		Name     string
		Type     string
		Value    string
		DataType string
	}
}

// readImport reads a file of parameters.
func readImport(raw []byte) (exported, error) {
	var probe map[string]json.RawMessage
	if err := json.Unmarshal(raw, &probe); err != nil {
		return exported{}, fleet.Errorf(fleet.Invalid, "it is no JSON document: %w", err).Hinted("muster param export shows the form")
	}
	if _, aws := probe["Parameters"]; aws {
		return readAWS(raw)
	}
	var doc exported
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil {
		return doc, fleet.Errorf(fleet.Invalid, "it is no file of parameters: %w", err).Hinted("muster param export shows the form")
	}
	if doc.Format != exportFormat {
		return doc, fleet.Errorf(fleet.Invalid, "it is of form %d (muster_parameters); this version reads %d", doc.Format, exportFormat)
	}
	return doc, nil
}

func readAWS(raw []byte) (exported, error) {
	var in awsParameters
	if err := json.Unmarshal(raw, &in); err != nil {
		return exported{}, fleet.Errorf(fleet.Invalid, "it is no list of Systems Manager's parameters: %w", err)
	}
	out := exported{Format: exportFormat}
	for _, p := range in.Parameters {
		out.Parameters = append(out.Parameters, exportedParam{Name: p.Name, Type: p.Type, Value: &p.Value, DataType: p.DataType})
	}
	return out, nil
}

func (a *app) importParams(ctx context.Context, f importFlags, path string) error {
	var raw []byte
	var err error
	if path == fromStdin {
		raw, err = readTo(maxImport, a.stdin, "standard input")
	} else {
		raw, err = readFileTo(maxImport, "the file", path)
	}
	if err != nil {
		return err
	}
	doc, err := readImport(raw)
	if err != nil {
		return fleet.Errorf(fleet.KindOf(err), "%s: %w", path, err)
	}
	c, err := a.openDesk(ctx)
	if err != nil {
		return err
	}
	if f.recoveryKey != "" {
		if c.recovery, err = a.readRecoveryKey(f.recoveryKey); err != nil {
			return err
		}
	}
	wishes, err := c.importWishes(ctx, doc, f)
	if err != nil {
		return err
	}
	return c.importAll(ctx, f, wishes)
}

// importWishes makes a wish of each parameter of a file.
func (c *cabinet) importWishes(ctx context.Context, doc exported, f importFlags) ([]wish, error) {
	switch {
	case len(doc.Parameters) == 0:
		return nil, fleet.Errorf(fleet.Invalid, "there is no parameter in it")
	case len(doc.Parameters) > params.MaxOps:
		return nil, fleet.Errorf(fleet.Exhausted, "%d parameters; one act takes at most %d", len(doc.Parameters), params.MaxOps).
			Hinted("muster param export --path for parts, and one import for each")
	}
	var given []readerSpec
	if len(f.readers) > 0 && !f.dryRun {
		var err error
		if given, err = c.readReaders(ctx, f.readers, false); err != nil {
			return nil, err
		}
	}
	var out []wish
	seen := map[string]bool{}
	for _, p := range doc.Parameters {
		w, err := c.importWish(ctx, doc, p)
		if err != nil {
			return nil, fleet.Errorf(fleet.KindOf(err), "%s: %w", p.Name, err)
		}
		if seen[w.name] {
			return nil, fleet.Errorf(fleet.Invalid, "%s is there twice", w.name)
		}
		seen[w.name] = true
		w.sameReaders = f.sameReaders
		if given != nil && *w.typ == params.SecureString {
			w.readers = given
		}
		out = append(out, w)
	}
	return out, nil
}

func (c *cabinet) importWish(ctx context.Context, doc exported, p exportedParam) (wish, error) {
	name, err := params.CanonicalName(p.Name)
	if err != nil {
		return wish{}, err
	}
	typ, err := params.ParseType(p.Type)
	if err != nil {
		return wish{}, err
	}
	policies, err := params.ParsePolicies(string(p.Policies))
	if err != nil {
		return wish{}, err
	}
	dataType := p.DataType
	if dataType == "" {
		dataType = params.DataText
	}
	w := wish{name: name, typ: &typ, dataType: &dataType, description: &p.Description, pattern: &p.Pattern, tags: p.Tags, overwrite: true}
	if p.Tier == params.Advanced.String() {
		w.tier = p.Tier
	}
	w.policies = func(time.Time, []params.Policy) ([]params.Policy, error) { return policies, nil }
	switch {
	case p.Value != nil:
		w.value = []byte(*p.Value)
	case p.Sealed != nil:
		w.value, err = c.openExported(ctx, doc, name, *p.Sealed)
	default:
		err = fleet.Errorf(fleet.Invalid, "it has no value")
	}
	if err != nil || typ != params.SecureString {
		return w, err
	}
	w.readers, err = c.importReaders(p.Readers)
	return w, err
}

// importReaders reads the readers that a file names; none: those of a new secret.
func (c *cabinet) importReaders(words []string) ([]readerSpec, error) {
	var out []readerSpec
	for _, word := range words {
		kind, name, _ := strings.Cut(word, ":")
		switch kind {
		case "recovery":
			out = append(out, readerSpec{kind: params.ByRecovery})
		case "operator":
			out = append(out, readerSpec{params.ByOperator, name})
		case "keyring":
			out = append(out, readerSpec{params.ByKeyring, name})
		default:
			return nil, fleet.Errorf(fleet.Invalid, "%q is no reader", word).Hinted("keyring:NAME, operator:NAME or recovery")
		}
	}
	return out, nil
}

// openExported opens a secret out of a file, which may be of another fleet.
func (c *cabinet) openExported(ctx context.Context, doc exported, name string, s exportedSecret) ([]byte, error) {
	content, err := params.DecodeContent(s.Content)
	if err != nil || len(content.Sealed) != 1 {
		return nil, fleet.Errorf(fleet.Invalid, "what is sealed is damaged")
	}
	in, err := fleet.ParseID(doc.Fleet)
	if err != nil {
		return nil, fleet.Errorf(fleet.Invalid, "the file does not say of which fleet it is: %w", err)
	}
	v := paramVersion{put: params.Put{Name: name, Born: s.Born, Version: s.Version, Type: params.SecureString}}
	if err := wire.Unmarshal(s.Readers, &v.put.Readers); err != nil {
		return nil, fleet.Errorf(fleet.Invalid, "what is sealed is damaged")
	}
	return c.openIn(ctx, in, v, content.Sealed[0])
}

// imported says what becomes of one parameter.
type imported struct {
	Name    string `json:"name"`
	Action  string `json:"action"` // create, update or keep
	Version uint32 `json:"version"`
	Diff    string `json:"diff,omitempty"`
}

func (c *cabinet) importAll(ctx context.Context, f importFlags, wishes []wish) error {
	var names []string
	for _, w := range wishes {
		names = append(names, w.name)
	}
	var done []imported
	err := c.change(ctx, names, func(h auth.Header, now shelfOf) ([]draft, error) {
		var out []draft
		var refused []string
		done = nil
		for _, w := range wishes {
			d, did, err := c.importOne(ctx, h, w, now[w.name], f.dryRun)
			if err != nil {
				return nil, err
			}
			if did.Action == "update" && !f.overwrite && !f.dryRun {
				refused = append(refused, w.name)
			}
			done = append(done, did)
			if did.Action != "keep" {
				out = append(out, d)
			}
		}
		if len(refused) > 0 {
			return nil, fleet.Errorf(fleet.Conflict, "%s: there already, with other values (ParameterAlreadyExists)", strings.Join(refused, ", ")).
				Hinted("--dry-run shows what differs, --overwrite makes next versions")
		}
		if f.dryRun {
			return nil, nil
		}
		return out, nil
	})
	if err != nil {
		return err
	}
	return c.app.showImport(done, f.dryRun)
}

// importOne compares a wish with what is there, and makes a draft of it where it differs.
func (c *cabinet) importOne(ctx context.Context, h auth.Header, w wish, before *paramVersion, dryRun bool) (draft, imported, error) {
	did := imported{Name: w.name, Action: "create", Version: 1}
	old := valued{}
	if before != nil {
		did.Action, did.Version = "update", before.item.Newest+1
		v, err := c.one(ctx, params.Selector{Name: w.name, Version: before.put.Version}, true)
		if err != nil {
			return draft{}, did, err
		}
		old.paramVersion = v
		if old.value, err = c.reveal(ctx, v); err != nil && fleet.KindOf(err) != fleet.Denied {
			return draft{}, did, err
		}
	}
	put, err := w.on(h, before, c.mine())
	if err == nil {
		err = params.CheckValue(put, w.value)
	}
	if err != nil {
		return draft{}, did, err
	}
	new := valued{paramVersion: paramVersion{put: put}, value: w.value}
	new.put.Readers = readersWanted(w, before)
	if before != nil && old.value != nil && bytes.Equal(old.value, w.value) && sameBut(old, new) {
		did.Action, did.Version = "keep", before.put.Version
		return draft{}, did, nil
	}
	did.Diff = importDiff(old, new, before == nil)
	if dryRun {
		return draft{}, did, nil
	}
	d, _, err := c.draw(ctx, h, w, before)
	return d, did, err
}

// readersWanted names the readers that the next version would have, as far as a comparison needs them.
func readersWanted(w wish, before *paramVersion) []params.Reader {
	if w.readers == nil && before != nil {
		return before.put.Readers
	}
	var out []params.Reader
	for _, s := range w.readers {
		out = append(out, params.Reader{Kind: s.kind, Name: s.name})
	}
	return out
}

// sameBut reports whether two versions are the same but for what is counted and sealed anew.
func sameBut(old, new valued) bool {
	o, n := old, new
	o.value, n.value = nil, nil
	return o.page() == n.page() && old.put.Type == new.put.Type
}

// importDiff writes what would change. Values of secrets are not shown.
func importDiff(old, new valued, created bool) string {
	hide := func(v valued, word string) valued {
		if v.secret() && v.value != nil {
			v.value = []byte(word)
		}
		return v
	}
	words := [2]string{"(a secret)", "(a secret)"}
	if old.value != nil && !bytes.Equal(old.value, new.value) {
		words[1] = "(another secret)"
	}
	oldName, oldPage := "nothing", ""
	if !created {
		oldName, oldPage = old.name(), hide(old, words[0]).page()
	}
	return lineDiff(oldName, new.name(), oldPage, hide(new, words[1]).page())
}

func (a *app) showImport(done []imported, dryRun bool) error {
	changed := 0
	for _, d := range done {
		if d.Action != "keep" {
			changed++
		}
	}
	if !a.forPeople() {
		out := struct {
			Format     int        `json:"format"`
			DryRun     bool       `json:"dry_run"`
			Parameters []imported `json:"parameters"`
		}{shape.Format, dryRun, done}
		var names []string
		for _, d := range done {
			names = append(names, d.Name)
		}
		return a.showOne(out, strings.Join(names, "\n"), nil)
	}
	if dryRun {
		for _, d := range done {
			a.printDiffText(d.Diff)
		}
		a.say("would put %s, and leave %d as they are", count(changed, "parameter"), len(done)-changed)
		return nil
	}
	rows := slices.DeleteFunc(slices.Clone(done), func(d imported) bool { return d.Action == "keep" })
	if len(rows) > 0 {
		importListing().table(a, rows)
	}
	a.say("%s put in one act, %d were as they should be", count(changed, "parameter"), len(done)-changed)
	return nil
}

func importListing() listing[imported] {
	return listing[imported]{
		columns: []column[imported]{
			{head: "NAME", cell: func(d imported) string { return d.Name }},
			{head: "VERSION", cell: func(d imported) string { return fmt.Sprint(d.Version) }},
			{head: "", cell: func(d imported) string { return d.Action + "d" }},
		},
		name: func(d imported) string { return d.Name },
	}
}

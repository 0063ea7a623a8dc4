package main

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

func newDocCommand(a *app) *cobra.Command {
	return newNoun("doc", "Documents: what is run, with parameters, in versions",
		newDocPutCommand(a), newDocListCommand(a), newDocShowCommand(a), newDocHistoryCommand(a), newDocDefaultCommand(a),
		newDocDiffCommand(a), newDocDeleteCommand(a), newDocValidateCommand(a), newDocHelpCommand(a))
}

// readDocumentFile reads and checks a document's file; - is standard input.
func (a *app) readDocumentFile(path string) ([]byte, document.Described, error) {
	var text []byte
	var err error
	if path == "-" {
		text, err = readBounded(a.stdin, "standard input")
	} else {
		text, err = readFile("the document", path)
	}
	if err != nil {
		return nil, nil, err
	}
	doc, err := document.Describe(text)
	if err != nil {
		return nil, nil, inFile(path, err)
	}
	return text, doc, nil
}

func newDocPutCommand(a *app) *cobra.Command {
	var name, versionName string
	var makeDefault bool
	cmd := &cobra.Command{
		Use: "put FILE", Short: "Publish a document, or its next version", Args: exactly(1, "one FILE with a document"),
		Long: `Publish a document of schema 1.2, 2.0 or 2.2, or a session document (1.0), in YAML or JSON, signed by you. The first version is $DEFAULT until muster doc
default says otherwise; the newest is $LATEST. What nodes could not run is refused here, with its line.`,
		Example: `  muster doc put Deploy.yaml
  muster doc put deploy-v7.yaml --name Deploy --version-name seven
  muster doc put Deploy.yaml --default`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if name == "" {
				base := filepath.Base(args[0])
				name = strings.TrimSuffix(base, filepath.Ext(base))
			}
			return a.putDocument(cmd.Context(), args[0], name, versionName, makeDefault)
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "the document's name (default: the file's, without its ending)")
	cmd.Flags().StringVar(&versionName, "version-name", "", "a name for this version")
	cmd.Flags().BoolVar(&makeDefault, "default", false, "make this version $DEFAULT")
	return cmd
}

func (a *app) putDocument(ctx context.Context, path, name, versionName string, makeDefault bool) error {
	text, _, err := a.readDocumentFile(path)
	if err != nil {
		return err
	}
	p, err := a.takePen(ctx)
	if err != nil {
		return err
	}
	body := exec.Publication{Header: p.header(exec.PublishLife), Name: name, VersionName: versionName, Text: text}
	if err := body.Check(); err != nil {
		return err
	}
	if _, err := propose(ctx, p.client, consensus.PutDocument{Statement: p.sign(auth.ForDocument, body)}); err != nil {
		return err
	}
	info, err := p.documentInfo(ctx, name)
	if err != nil {
		return err
	}
	version, err := versionOfDigest(info, document.Digest(text))
	if err != nil {
		return err
	}
	if makeDefault && info.Default != version.Number {
		if err := p.changeDocument(ctx, exec.DocumentChange{Name: name, Default: version.Number}); err != nil {
			return err
		}
		info.Default = version.Number
	}
	facts := []fact{
		{"document", name}, {"version", strings.TrimSpace(fmt.Sprint(version.Number) + " " + version.VersionName)}, {"sha256", hexOf(version.Digest)},
	}
	if info.Default != version.Number {
		facts = append(facts, fact{"default", fmt.Sprintf("%d still; muster doc default %s %d", info.Default, name, version.Number)})
	}
	return a.showOne(versionShape(info, version), name, facts)
}

// versionOfDigest returns the newest version with that text.
func versionOfDigest(info node.DocumentInfo, digest fleet.ID) (node.DocumentVersion, error) {
	for i := len(info.Versions) - 1; i >= 0; i-- {
		if info.Versions[i].Digest == digest {
			return info.Versions[i], nil
		}
	}
	return node.DocumentVersion{}, fleet.Errorf(fleet.Conflict, "document %s was published, but is not there any more", info.Name).
		Hinted("muster doc history %s", info.Name)
}

// documentInfo reads what is known of a document at the servers.
func (p *pen) documentInfo(ctx context.Context, name string) (node.DocumentInfo, error) {
	answer, err := p.readNamed(ctx, node.ReadDocument, name)
	if err == nil && len(answer.Documents) != 1 {
		err = fleet.Errorf(fleet.NotFound, "no document %s", name).Hinted("muster doc list")
	}
	if err != nil {
		return node.DocumentInfo{}, err
	}
	return answer.Documents[0], nil
}

// documentText reads a version of a document with its text, which must be the one that its digest names.
func (p *pen) documentText(ctx context.Context, name, version string) (node.DocumentInfo, node.DocumentVersion, []byte, error) {
	answer, err := p.readNamed(ctx, node.ReadDocument, joinVersion(name, version))
	if err == nil && len(answer.Documents) != 1 {
		err = fleet.Errorf(fleet.NotFound, "no document %s", joinVersion(name, version)).Hinted("muster doc list")
	}
	if err != nil {
		return node.DocumentInfo{}, node.DocumentVersion{}, nil, err
	}
	info := answer.Documents[0]
	for _, v := range info.Versions {
		if v.Number == answer.Version && v.Digest == document.Digest(answer.Text) {
			return info, v, answer.Text, nil
		}
	}
	return info, node.DocumentVersion{}, nil, fleet.Errorf(fleet.Denied, "the server's text of document %s is not the one of version %d", name, answer.Version)
}

func (p *pen) changeDocument(ctx context.Context, c exec.DocumentChange) error {
	c.Header = p.header(exec.PublishLife)
	if err := c.Check(); err != nil {
		return err
	}
	_, err := propose(ctx, p.client, consensus.ChangeDocument{Statement: p.sign(auth.ForDocumentChange, c)})
	return err
}

// documentVersion is one version of a document, as JSON.
type documentVersion struct {
	Format      int       `json:"format"`
	Name        string    `json:"name"`
	Version     uint32    `json:"version"`
	VersionName string    `json:"version_name,omitempty"`
	Default     bool      `json:"default"`
	Latest      bool      `json:"latest"`
	BuiltIn     bool      `json:"built_in"`
	SHA256      string    `json:"sha256"` // in hexadecimal, as sha256sum prints it
	By          string    `json:"by,omitempty"`
	Published   time.Time `json:"published,omitzero"`
	Text        string    `json:"text,omitempty"`
}

func versionShape(info node.DocumentInfo, v node.DocumentVersion) documentVersion {
	latest := v.Number
	for _, other := range info.Versions {
		latest = max(latest, other.Number)
	}
	return documentVersion{
		Format: shape.Format, Name: info.Name, Version: v.Number, VersionName: v.VersionName, Default: v.Number == info.Default,
		Latest: v.Number == latest, SHA256: hexOf(v.Digest), By: v.Publisher, Published: shape.At(v.Time),
	}
}

func builtInShape(d document.BuiltInDocument) documentVersion {
	return documentVersion{
		Format: shape.Format, Name: d.Name, Version: builtInVersion, Default: true, Latest: true, BuiltIn: true,
		SHA256: hexOf(document.Digest(d.Text)),
	}
}

// documentRow is a document in a list.
type documentRow struct {
	Name    string    `json:"name"`
	BuiltIn bool      `json:"built_in"`
	Default uint32    `json:"default"`
	Latest  uint32    `json:"latest"`
	By      string    `json:"by,omitempty"` // of the latest
	Changed time.Time `json:"published,omitzero"`
}

func newDocListCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the documents, those built in last", Args: noArgs,
		Example: `  muster doc list
  muster doc list -o name`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := a.takePen(cmd.Context())
			if err != nil {
				return err
			}
			rows, err := p.documentRows(cmd.Context())
			if err != nil {
				return err
			}
			return documentListing(p.now()).show(a, rows)
		},
	}
}

func (p *pen) documentRows(ctx context.Context) ([]documentRow, error) {
	answer, err := p.readNamed(ctx, node.ReadDocuments, "")
	if err != nil {
		return nil, err
	}
	var rows []documentRow
	for _, d := range answer.Documents {
		row := documentRow{Name: d.Name, Default: d.Default}
		for _, v := range d.Versions {
			if v.Number >= row.Latest {
				row.Latest, row.By, row.Changed = v.Number, v.Publisher, shape.At(v.Time)
			}
		}
		rows = append(rows, row)
	}
	for _, d := range slices.Concat(document.BuiltIn(), document.BuiltInSessions()) {
		rows = append(rows, documentRow{Name: d.Name, BuiltIn: true, Default: builtInVersion, Latest: builtInVersion})
	}
	return rows, nil
}

func documentListing(now time.Time) listing[documentRow] {
	return listing[documentRow]{
		columns: []column[documentRow]{
			{head: "NAME", cell: func(d documentRow) string { return d.Name }},
			{head: "DEFAULT", cell: func(d documentRow) string { return fmt.Sprint(d.Default) }},
			{head: "LATEST", cell: func(d documentRow) string { return fmt.Sprint(d.Latest) }},
			{head: "BY", cell: func(d documentRow) string {
				if d.BuiltIn {
					return "(built in)"
				}
				return d.By
			}},
			{head: "PUBLISHED", cell: func(d documentRow) string {
				if d.BuiltIn {
					return "-"
				}
				return ago(d.Changed, now)
			}},
		},
		name: func(d documentRow) string { return d.Name },
	}
}

func newDocShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "show NAME[:VERSION]", Short: "Show a document's text", Args: exactly(1, "one NAME or NAME:VERSION"),
		Long: `Show a document's text as it was published. VERSION is a number, a version's name, $DEFAULT (without VERSION) or $LATEST.
With -o json or yaml the version's number, digest and publisher stand beside it.`,
		Example: `  muster doc show Deploy
  muster doc show 'Deploy:$LATEST' > Deploy.yaml
  muster doc show AWS-RunShellScript`,
		ValidArgsFunction: a.completeDocumentNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			out, err := a.documentVersion(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if !a.forPeople() {
				return a.showOne(out, out.Name, nil)
			}
			text := []byte(out.Text)
			if isTerminal(a.stdout) {
				text = exec.Printable(text)
			}
			_, err = a.stdout.Write(text) // into a file as it was published, to the byte
			return err
		},
	}
}

// documentVersion reads NAME[:VERSION] with its text. Built-in documents are read without asking anybody.
func (a *app) documentVersion(ctx context.Context, spec string) (documentVersion, error) {
	name, version, err := splitVersion(spec)
	if err != nil {
		return documentVersion{}, err
	}
	if d, ok := builtInDocument(name); ok {
		if err := onlyVersion(name, version); err != nil {
			return documentVersion{}, err
		}
		out := builtInShape(d)
		out.Text = string(d.Text)
		return out, nil
	}
	p, err := a.takePen(ctx)
	if err != nil {
		return documentVersion{}, err
	}
	info, v, text, err := p.documentText(ctx, name, version)
	if err != nil {
		return documentVersion{}, err
	}
	out := versionShape(info, v)
	out.Text = string(text)
	return out, nil
}

func newDocHistoryCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "history NAME", Short: "List a document's versions, newest first", Args: exactly(1, "one document's NAME"),
		Example:           `  muster doc history Deploy`,
		ValidArgsFunction: a.completeDocumentNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if d, ok := builtInDocument(args[0]); ok {
				return versionListing(time.Now()).show(a, []documentVersion{builtInShape(d)})
			}
			p, err := a.takePen(cmd.Context())
			if err != nil {
				return err
			}
			info, err := p.documentInfo(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var rows []documentVersion
			for i := len(info.Versions) - 1; i >= 0; i-- {
				rows = append(rows, versionShape(info, info.Versions[i]))
			}
			return versionListing(p.now()).show(a, rows)
		},
	}
}

func versionListing(now time.Time) listing[documentVersion] {
	return listing[documentVersion]{
		columns: []column[documentVersion]{
			{head: "VERSION", cell: func(v documentVersion) string { return fmt.Sprint(v.Version) }},
			{head: "NAME", cell: func(v documentVersion) string { return cmp.Or(v.VersionName, "-") }},
			{head: "IS", cell: func(v documentVersion) string {
				var words []string
				if v.Default {
					words = append(words, "$DEFAULT")
				}
				if v.Latest {
					words = append(words, "$LATEST")
				}
				return cmp.Or(strings.Join(words, " "), "-")
			}},
			{head: "BY", cell: func(v documentVersion) string { return cmp.Or(v.By, "(built in)") }},
			{head: "PUBLISHED", cell: func(v documentVersion) string {
				if v.BuiltIn {
					return "-"
				}
				return ago(v.Published, now)
			}},
			{head: "SHA256", cell: func(v documentVersion) string { return v.SHA256[:16] }},
		},
		name: func(v documentVersion) string { return fmt.Sprint(v.Version) },
	}
}

func newDocDefaultCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "default NAME VERSION", Short: "Say which version $DEFAULT is", Args: exactly(2, "a NAME and a VERSION"),
		Example: `  muster doc default Deploy 3
  muster doc default Deploy '$LATEST'`,
		ValidArgsFunction: a.completeDocumentNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			v, p, err := a.publishedVersion(cmd.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			if err := p.changeDocument(cmd.Context(), exec.DocumentChange{Name: args[0], Default: v.Version}); err != nil {
				return err
			}
			v.Default, v.Text = true, ""
			return a.showOne(v, v.Name, []fact{{"document", v.Name}, {"default", fmt.Sprint(v.Version)}})
		},
	}
}

// publishedVersion reads a version of a document that is not built in.
func (a *app) publishedVersion(ctx context.Context, name, version string) (documentVersion, *pen, error) {
	if err := exec.CheckDocumentName(name); err != nil {
		return documentVersion{}, nil, err
	}
	p, err := a.takePen(ctx)
	if err != nil {
		return documentVersion{}, nil, err
	}
	v, err := a.documentVersion(ctx, joinVersion(name, version))
	return v, p, err
}

func newDocDiffCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "diff NAME V1 V2", Short: "Show what differs between two versions", Args: exactly(3, "a NAME and two versions"),
		Example: `  muster doc diff Deploy 1 2
  muster doc diff Deploy '$DEFAULT' '$LATEST'`,
		ValidArgsFunction: a.completeDocumentNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			old, err := a.documentVersion(cmd.Context(), joinVersion(args[0], args[1]))
			if err != nil {
				return err
			}
			new, err := a.documentVersion(cmd.Context(), joinVersion(args[0], args[2]))
			if err != nil {
				return err
			}
			name := func(v documentVersion) string { return fmt.Sprintf("%s:%d", v.Name, v.Version) }
			text := lineDiff(name(old), name(new), old.Text, new.Text)
			if !a.forPeople() {
				return a.showOne(struct {
					Format int    `json:"format"`
					Name   string `json:"name"`
					Old    uint32 `json:"old"`
					New    uint32 `json:"new"`
					Diff   string `json:"diff"`
				}{shape.Format, old.Name, old.Version, new.Version, text}, old.Name, nil)
			}
			if text == "" {
				a.say("%s and %s are equal", name(old), name(new))
			}
			a.printDiffText(text)
			return nil
		},
	}
}

func newDocDeleteCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME[:VERSION]", Short: "Delete a document, or one version of it", Args: exactly(1, "one NAME or NAME:VERSION"),
		Long: `Delete a document with all its versions, or one version that is not the default. Nodes that have not fetched the text of a
command that runs it can not run it any more.`,
		Example: `  muster doc delete Deploy:2
  muster doc delete Deploy`,
		ValidArgsFunction: a.completeDocumentNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, version, err := splitVersion(args[0])
			if err != nil {
				return err
			}
			v, p, err := a.publishedVersion(cmd.Context(), name, version)
			if err != nil {
				return err
			}
			change := exec.DocumentChange{Name: name, Delete: true}
			what := "all versions"
			if version != "" {
				change.Version = v.Version
				what = "version " + fmt.Sprint(v.Version)
			}
			if err := p.changeDocument(cmd.Context(), change); err != nil {
				return err
			}
			v.Text = ""
			return a.showOne(v, name, []fact{{"deleted", name + ", " + what}})
		},
	}
}

func newDocValidateCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "validate FILE", Short: "Check a document's file without publishing it", Args: exactly(1, "one FILE with a document"),
		Long: "Check a document's file without publishing it, and without asking any agent. What is wrong is said with its line.",
		Example: `  muster doc validate Deploy.yaml
  muster doc validate - < Deploy.json`,
		RunE: func(_ *cobra.Command, args []string) error {
			text, doc, err := a.readDocumentFile(args[0])
			if err != nil {
				return err
			}
			out := struct {
				Format     int    `json:"format"`
				Schema     string `json:"schema"`
				Parameters int    `json:"parameters"`
				RawShell   bool   `json:"raw_shell"`
				SHA256     string `json:"sha256"`
			}{shape.Format, doc.Schema(), len(doc.Parameters()), doc.RawShell(), hexOf(document.Digest(text))}
			shell := "its parameters are values"
			if out.RawShell {
				shell = "values choose what runs: policy treats it as raw shell"
			}
			return a.showOne(out, out.SHA256, []fact{
				{"schema", out.Schema}, {"parameters", fmt.Sprint(out.Parameters)}, {"shell", shell}, {"sha256", out.SHA256},
			})
		},
	}
}

func newDocHelpCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "help NAME[:VERSION]", Short: "Show what a document does and takes", Args: exactly(1, "one NAME or NAME:VERSION"),
		Example: `  muster doc help Deploy
  muster doc help AWS-RunShellScript`,
		ValidArgsFunction: a.completeDocumentNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := a.documentVersion(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			doc, err := document.Describe([]byte(v.Text))
			if err != nil {
				return err
			}
			if !a.forPeople() {
				return a.showOne(helpShape(v, doc), v.Name, nil)
			}
			fmt.Fprintln(a.stdout, strings.TrimRight(printable(doc.Help(v.Name)), "\n"))
			return nil
		},
	}
}

// parameterShape is one parameter of a document, as JSON.
type parameterShape struct {
	Name           string   `json:"name"`
	Type           string   `json:"type"`
	Description    string   `json:"description,omitempty"`
	Required       bool     `json:"required"`
	Default        string   `json:"default,omitempty"` // JSON
	AllowedValues  []string `json:"allowed_values,omitempty"`
	AllowedPattern string   `json:"allowed_pattern,omitempty"`
}

func helpShape(v documentVersion, doc document.Described) any {
	parameters := []parameterShape{}
	for _, p := range doc.Parameters() {
		parameters = append(parameters, parameterShape{
			p.Name, string(p.Type), p.Description, p.Required, p.Default, p.AllowedValues, p.AllowedPattern,
		})
	}
	v.Text = ""
	return struct {
		documentVersion
		Description string           `json:"description"`
		Parameters  []parameterShape `json:"parameters"`
	}{v, doc.Description(), parameters}
}

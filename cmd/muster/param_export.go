package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/params"
)

// exportFormat is the version of an exported file.
const exportFormat = 1

// maxImport bounds a file that is imported, in bytes.
const maxImport = 64 << 20

// exported is a file of parameters: one JSON document.
type exported struct {
	Format     int             `json:"muster_parameters"`
	Fleet      string          `json:"fleet"` // its ID, in full
	At         time.Time       `json:"exported"`
	Parameters []exportedParam `json:"parameters"`
}

// exportedParam is the newest version of a parameter. A secret has a value only if it was opened; else it has what is
// sealed, with all that one of its readers needs to open it.
type exportedParam struct {
	Name        string            `json:"name"`
	Type        string            `json:"type"`
	Value       *string           `json:"value,omitempty"`
	Sealed      *exportedSecret   `json:"sealed,omitempty"`
	DataType    string            `json:"data_type,omitempty"`
	Tier        string            `json:"tier,omitempty"`
	Description string            `json:"description,omitempty"`
	Pattern     string            `json:"allowed_pattern,omitempty"`
	Policies    json.RawMessage   `json:"policies,omitempty"` // as Systems Manager writes them
	Tags        map[string]string `json:"tags,omitempty"`
	Readers     []string          `json:"readers,omitempty"`
	Version     uint32            `json:"version,omitempty"` // for people: an import counts anew
}

// exportedSecret is what opens for a reader, bound to where it was.
type exportedSecret struct {
	Born    int64  `json:"born"`
	Version uint32 `json:"version"`
	Readers []byte `json:"readers"` // msgpack of []params.Reader
	Content []byte `json:"content"` // encoded
}

func newParamExportCommand(a *app) *cobra.Command {
	var f access
	var path, out string
	var decrypt bool
	cmd := &cobra.Command{
		Use: "export", Short: "Write parameters into a file", Args: noArgs,
		Long: `Write the newest versions of all parameters, or of those below --path, as one JSON document, which muster param import reads.

Secrets stay sealed, as servers have them: only their readers can open them, also out of the file. With --decrypt they are in
the clear: the file is yours alone (mode 0600), and a terminal is refused.`,
		Example: `  muster param export --out params.json
  muster param export --path /app/prod --decrypt --out /root/prod.json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.exportParams(cmd.Context(), f, path, out, decrypt)
		},
	}
	cmd.Flags().StringVar(&path, "path", "/", "only parameters below this path, at any depth")
	cmd.Flags().StringVar(&out, "out", "", "the file (default: standard output)")
	cmd.Flags().BoolVar(&decrypt, "decrypt", false, "secrets in the clear")
	f.flags(cmd)
	f.recoveryFlag(cmd)
	completePaths(a, cmd, "path")
	return cmd
}

func (a *app) exportParams(ctx context.Context, f access, pathText, out string, decrypt bool) error {
	path, err := params.CheckPath(pathText)
	if err != nil {
		return err
	}
	if decrypt && out == "" && isTerminal(a.stdout) {
		return fleet.Errorf(fleet.Denied, "secrets in the clear do not go to a terminal").Hinted("--out FILE")
	}
	c, err := a.openCabinet(ctx, f)
	if err != nil {
		return err
	}
	found, err := c.below(ctx, params.PathAsk{Path: path, Recursive: true}, true)
	if err != nil {
		return err
	}
	c.tellAge()
	doc := exported{Format: exportFormat, Fleet: c.status.Fleet.Text(), At: c.now().UTC().Truncate(time.Second), Parameters: []exportedParam{}}
	secrets := 0
	for _, v := range found {
		p, err := c.exportOne(ctx, v, decrypt)
		if err != nil {
			return err
		}
		if v.secret() {
			secrets++
		}
		doc.Parameters = append(doc.Parameters, p)
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(doc); err != nil {
		return fleet.Errorf(fleet.Internal, "%w", err)
	}
	how := "sealed"
	if decrypt {
		how = "in the clear"
	}
	if secrets > 0 {
		a.say("%s, %s %s", count(len(found), "parameter"), count(secrets, "secret"), how)
	} else {
		a.say("%s", count(len(found), "parameter"))
	}
	if out == "" {
		_, err = a.stdout.Write(text.Bytes())
		return err
	}
	return replaceFile(out, text.Bytes(), fileLook{mode: 0o600})
}

func (c *cabinet) exportOne(ctx context.Context, v paramVersion, decrypt bool) (exportedParam, error) {
	p := exportedParam{
		Name: v.put.Name, Type: v.put.Type.String(), DataType: v.put.DataType, Tier: v.put.Tier.String(), Description: v.put.Description,
		Pattern: v.put.Pattern, Policies: json.RawMessage(params.FormatPolicies(v.put.Policies)), Tags: v.put.Tags, Version: v.put.Version,
	}
	for _, r := range v.put.Readers {
		p.Readers = append(p.Readers, r.String())
	}
	if v.secret() && !decrypt {
		if len(v.item.Content) == 1 { // else policy does not let the asker decrypt: all but the value is exported
			p.Sealed = &exportedSecret{v.put.Born, v.put.Version, wire.Marshal(v.put.Readers), v.item.Content[0]}
		}
		return p, nil
	}
	value, err := c.reveal(ctx, v)
	if err != nil {
		return p, err
	}
	text := string(value)
	p.Value = &text
	return p, nil
}

// fileLook is how a file shall look that is replaced.
type fileLook struct {
	mode     os.FileMode
	keepMode bool // where there is a file already, its mode
	keepWho  bool // and its owner
}

// replaceFile writes all of a file or nothing: beside it, synced, and renamed into its place.
func replaceFile(path string, text []byte, look fileLook) error {
	dir := filepath.Dir(path)
	old, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		old = nil
	case err != nil:
		return notWritten(path, err)
	case !old.Mode().IsRegular():
		return fleet.Errorf(fleet.Invalid, "%s is no file", path).Hinted("ls -ld %s; name the file itself", path)
	}
	temp, err := os.CreateTemp(dir, ".muster-*") // mode 0600
	if err != nil {
		return notWritten(path, err)
	}
	defer os.Remove(temp.Name())
	mode := look.mode
	if old != nil && look.keepMode {
		mode = old.Mode().Perm()
	}
	if old != nil && look.keepWho {
		err = likeOwner(temp, old)
	}
	if err == nil {
		_, err = temp.Write(text)
	}
	if err == nil {
		err = temp.Chmod(mode)
	}
	if err == nil {
		err = temp.Sync()
	}
	if closed := temp.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return notWritten(path, err)
	}
	return nil
}

func notWritten(path string, err error) error {
	return fleet.Errorf(fleet.Internal, "cannot write %s: %w", path, err).Hinted("df -h, ls -ld %s", filepath.Dir(path))
}

package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// maxTemplate bounds a template in bytes, and what comes of it.
const (
	maxTemplate = 1 << 20
	maxRendered = 16 << 20
)

// renderFlags is how a template becomes a file.
type renderFlags struct {
	access
	out      string
	mode     string
	watch    bool
	onChange string
}

func newParamRenderCommand(a *app) *cobra.Command {
	var f renderFlags
	cmd := &cobra.Command{
		Use: "render TEMPLATE", Short: "Make a file of a template with parameters in it", Args: exactly(1, "one TEMPLATE, or - for standard input"),
		Long: `Make a file of a template, in the syntax of Go's text/template: actions, pipes, variables, if, with and range. It can use

  {{ param "NAME" }}          a plain parameter's value; NAME:VERSION and NAME:LABEL too
  {{ secret "NAME" }}         a secret's value, opened
  {{ range below "PATH" }}    all parameters below a path, by name, each with .Name, .Key (as muster param run names it),
    {{ .Key }}={{ .Value }}   .Value (of a secret: opened), .Secret and .Version
  {{ end }}
  env "NAME", split "," TEXT, quote TEXT, eq A B, ne A B, not X, printf FORMAT X…

What it names must be there: else nothing is written, and the line is said. The file is replaced in one step, and only if it
changes; it keeps its owner and mode. A new one has mode 0644, or 0600 as soon as a secret is in it; --mode says another.

--watch goes on: whenever a parameter that is in it changes, it is made anew, and --on-change runs a shell line after the
file has changed.`,
		Example: `  muster param render app.conf.tmpl --out /etc/app.conf
  muster param render app.conf.tmpl --out /etc/app.conf --watch --on-change 'systemctl reload app'
  echo 'url={{ param "/app/prod/db/url" }}' | muster param render -`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.renderParams(cmd.Context(), f, args[0]) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.out, "out", "", "the file (default: standard output)")
	flags.StringVar(&f.mode, "mode", "", "mode of the file, as 0640 (default: as it is; of a new one 0644, with a secret 0600)")
	flags.BoolVar(&f.watch, "watch", false, "make it anew whenever a parameter in it changes")
	flags.StringVar(&f.onChange, "on-change", "", "shell line that runs after the file has changed")
	f.access.flags(cmd)
	return cmd
}

func (f renderFlags) check() (mode os.FileMode, err error) {
	switch {
	case f.out == "" && (f.watch || f.onChange != "" || f.mode != ""):
		return 0, fleet.Errorf(fleet.Invalid, "--watch, --on-change and --mode are for a file").Hinted("--out FILE")
	case f.watch && f.stale:
		return 0, fleet.Errorf(fleet.Invalid, "--watch and --stale at once")
	case f.mode == "":
		return 0, nil
	}
	n, err := strconv.ParseUint(f.mode, 8, 12)
	if err != nil || n&0o400 == 0 || n > 0o777 {
		return 0, fleet.Errorf(fleet.Invalid, "--mode %q is no mode of a file, such as 0640", f.mode)
	}
	return os.FileMode(n), nil
}

func (a *app) renderParams(ctx context.Context, f renderFlags, path string) error {
	mode, err := f.check()
	if err != nil {
		return err
	}
	var text []byte
	if path == fromStdin {
		text, err = readTo(maxTemplate, a.stdin, "standard input")
	} else {
		text, err = readFileTo(maxTemplate, "the template", path)
	}
	if err != nil {
		return err
	}
	c, err := a.openCabinet(ctx, f.access)
	if err != nil {
		return err
	}
	if !f.watch {
		_, err := a.renderOnce(ctx, c, f, path, text, mode)
		return err
	}
	return a.renderAlways(ctx, c, f, path, text, mode)
}

// renderAlways renders, and again whenever something that is in it changes.
func (a *app) renderAlways(ctx context.Context, c *cabinet, f renderFlags, path string, text []byte, mode os.FileMode) error {
	r := newRendering(ctx, c)
	if _, err := r.execute(path, text); err != nil { // to learn what is in it, and to fail at once where it cannot be
		return err
	}
	scope := scopeOf(slices.Collect(r.usedNames())...)
	return c.watch(ctx, scope, func(news node.ParamsNews) error {
		if begun := len(news.Events) == 0; !begun && !slices.ContainsFunc(news.Events, func(e params.Event) bool { return r.uses(e.Name) }) {
			return nil
		}
		next, err := a.renderOnce(ctx, c, f, path, text, mode)
		if err != nil {
			a.printError(err)
			a.say("%s stays as it is", f.out)
			return nil
		}
		r = next
		return nil
	})
}

// renderOnce makes the file, and runs what is to run after it has changed.
func (a *app) renderOnce(ctx context.Context, c *cabinet, f renderFlags, path string, text []byte, mode os.FileMode) (*rendering, error) {
	r := newRendering(ctx, c)
	out, err := r.execute(path, text)
	if err != nil {
		return nil, err
	}
	c.tellAge()
	if f.out == "" {
		_, err := a.stdout.Write(out)
		return r, err
	}
	changed, err := r.place(f.out, out, mode)
	if err != nil || !changed {
		return r, err
	}
	a.say("%s is written", f.out)
	if f.onChange == "" {
		return r, nil
	}
	cmd := osexec.CommandContext(ctx, "sh", "-c", f.onChange)
	cmd.Stdout, cmd.Stderr = a.stderr, a.stderr
	if err := cmd.Run(); err != nil {
		return r, fleet.Errorf(fleet.Internal, "--on-change: %s: %w", f.onChange, err)
	}
	return r, nil
}

// rendering is one making of a template.
type rendering struct {
	ctx     context.Context
	cabinet *cabinet
	known   map[params.Selector]paramVersion
	names   map[string]bool // parameters that are in it
	paths   []string        // paths of which all are
	secret  bool            // a secret is in it
}

func newRendering(ctx context.Context, c *cabinet) *rendering {
	return &rendering{ctx: ctx, cabinet: c, known: map[params.Selector]paramVersion{}, names: map[string]bool{}}
}

// uses reports whether a parameter is in it, or would be if it were there.
func (r *rendering) uses(name string) bool {
	return r.names[name] || slices.ContainsFunc(r.paths, func(path string) bool { return params.Below(path, name, true) })
}

// usedNames lists what is in it, paths as if they were of a parameter there.
func (r *rendering) usedNames() func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for name := range r.names {
			if !yield(name) {
				return
			}
		}
		for _, path := range r.paths {
			if !yield(scopeBelow(path)) {
				return
			}
		}
	}
}

// execute makes the text.
func (r *rendering) execute(path string, text []byte) ([]byte, error) {
	functions := plainFunctions()
	functions["param"] = ofTexts(1, func(t []string) (any, error) { return r.param(t[0]) })
	functions["secret"] = ofTexts(1, func(t []string) (any, error) { return r.revealed(t[0]) })
	functions["below"] = ofTexts(1, func(t []string) (any, error) { return r.below(t[0]) })
	functions["env"] = ofTexts(1, func(t []string) (any, error) { return r.cabinet.app.getenv(t[0]), nil })
	return executeTemplate(filepath.Base(path), string(text), functions, maxRendered)
}

// bounded is a buffer with a limit.
type bounded struct {
	bytes.Buffer
	most int
}

// Write appends p.
func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.most {
		return 0, fleet.Errorf(fleet.Exhausted, "what comes of it has more than %d bytes", b.most)
	}
	return b.Buffer.Write(p)
}

// read reads one version, once.
func (r *rendering) read(text string) (paramVersion, error) {
	s, err := params.ParseSelector(text)
	if err != nil {
		return paramVersion{}, err
	}
	if v, ok := r.known[s]; ok {
		return v, nil
	}
	var v paramVersion
	if params.Public(s.Name) {
		v, err = publicVersionOf(s)
	} else {
		r.names[s.Name] = true
		v, err = r.cabinet.one(r.ctx, s, true)
	}
	if err == nil {
		r.known[s] = v
	}
	return v, err
}

func (r *rendering) param(text string) (string, error) {
	v, err := r.read(text)
	if err != nil {
		return "", err
	}
	if v.secret() {
		return "", fleet.Errorf(fleet.Invalid, "%s is a secret", text).Hinted(`{{ secret "%s" }} opens it`, text)
	}
	value, err := r.cabinet.reveal(r.ctx, v)
	return string(value), err
}

func (r *rendering) revealed(text string) (string, error) {
	v, err := r.read(text)
	if err != nil {
		return "", err
	}
	r.secret = r.secret || v.secret()
	value, err := r.cabinet.reveal(r.ctx, v)
	return string(value), err
}

// renderedParam is a parameter below a path, as templates see it.
type renderedParam struct {
	key     string
	of      *rendering
	version paramVersion
}

// field returns what a template asks for. A secret is opened when its value is.
func (p renderedParam) field(name string) (v any, ok bool, err error) {
	switch name {
	case "Name":
		return p.version.put.Name, true, nil
	case "Key":
		return p.key, true, nil
	case "Secret":
		return p.version.secret(), true, nil
	case "Version":
		return int(p.version.put.Version), true, nil
	case "Value":
		p.of.secret = p.of.secret || p.version.secret()
		value, err := p.of.cabinet.reveal(p.of.ctx, p.version)
		return string(value), true, err
	}
	return nil, false, nil
}

func (r *rendering) below(text string) ([]any, error) {
	path, err := params.CheckPath(text)
	if err != nil {
		return nil, err
	}
	r.paths = append(r.paths, path)
	found, err := r.cabinet.below(r.ctx, params.PathAsk{Path: path, Recursive: true}, true)
	if err != nil {
		return nil, err
	}
	var out []any
	for _, v := range found {
		out = append(out, renderedParam{variableName(path, v.put.Name), r, v})
	}
	return out, nil
}

// place replaces the file if it differs. A file that is there keeps its owner, and its mode unless another was said.
func (r *rendering) place(path string, text []byte, mode os.FileMode) (changed bool, err error) {
	look := fileLook{mode: 0o644, keepMode: true, keepWho: true}
	if r.secret {
		look.mode = 0o600
	}
	if mode != 0 {
		look.mode, look.keepMode = mode, false
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true, replaceFile(path, text, look)
	case err != nil:
		return false, notWritten(path, err)
	case r.secret:
		at, err := placeOf(path, info, look.keepMode)
		if err == nil {
			err = at.mayHoldSecret(os.Geteuid())
		}
		if err != nil {
			return false, err
		}
	}
	old, err := os.ReadFile(path)
	if err == nil && bytes.Equal(old, text) && (mode == 0 || info.Mode().Perm() == mode) {
		return false, nil
	}
	return true, replaceFile(path, text, look)
}

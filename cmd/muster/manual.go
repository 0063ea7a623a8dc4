package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/folder"
)

// newManualCommand makes the command that writes manual pages. Packages are built with it; it is not in the help.
func newManualCommand(a *app) *cobra.Command {
	var date string
	cmd := &cobra.Command{
		Use: "manual DIR", Short: "Write a manual page of every command into a folder", Hidden: true,
		Args:    exactly(1, "a folder"),
		Example: `  muster manual --date 2026-11-23 man1`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := time.Parse(time.DateOnly, date); err != nil {
				return fleet.Errorf(fleet.Invalid, "--date %q is no date", date).Hinted("--date 2026-11-23")
			}
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			return writeManual(cmd.Root(), args[0], date)
		},
	}
	cmd.Flags().StringVar(&date, "date", "", "date of the pages, as 2026-11-23")
	return cmd
}

// writeManual writes a page for a command and for each below it: muster-node-list.1.
func writeManual(cmd *cobra.Command, dir, date string) error {
	path := filepath.Join(dir, manName(cmd)+".1")
	if err := folder.WriteFile(path, []byte(manPage(cmd, date)), 0o644); err != nil {
		return err
	}
	for _, below := range shown(cmd) {
		if err := writeManual(below, dir, date); err != nil {
			return err
		}
	}
	return nil
}

// shown lists the commands below one that its help shows.
func shown(cmd *cobra.Command) []*cobra.Command {
	return slices.DeleteFunc(slices.Clone(cmd.Commands()), func(c *cobra.Command) bool {
		return !c.IsAvailableCommand() || c.IsAdditionalHelpTopicCommand() || c.Name() == "help"
	})
}

func manName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// manPage is a command's page, as man(7) has it.
func manPage(cmd *cobra.Command, date string) string {
	p := &sheet{}
	p.macro("TH", strings.ToUpper(manName(cmd)), "1", date, "muster "+version(), "muster")
	p.macro("SH", "NAME")
	p.text(manName(cmd) + ` \- ` + roff(lowerFirst(cmd.Short)))
	p.macro("SH", "SYNOPSIS")
	p.text(`\fB` + roff(cmd.CommandPath()) + `\fR` + roff(strings.TrimPrefix(cmd.UseLine(), cmd.CommandPath())))
	p.macro("SH", "DESCRIPTION")
	long := cmd.Long
	if long == "" {
		long = cmd.Short + "."
	}
	for i, paragraph := range strings.Split(long, "\n\n") {
		if i > 0 {
			p.macro("PP")
		}
		p.paragraph(paragraph)
	}
	if below := shown(cmd); len(below) > 0 {
		p.macro("SH", "COMMANDS")
		for _, c := range below {
			p.macro("TP")
			p.text(`\fB` + roff(manName(c)) + `\fR(1)`)
			p.text(roff(c.Short))
		}
	}
	p.flags("OPTIONS", cmd.NonInheritedFlags())
	p.flags("GLOBAL OPTIONS", cmd.InheritedFlags())
	if cmd.Example != "" {
		p.macro("SH", "EXAMPLES")
		p.literal(cmd.Example)
	}
	if cmd.HasParent() {
		p.macro("SH", "SEE ALSO")
		p.text(`\fB` + roff(manName(cmd.Parent())) + `\fR(1)`)
	}
	return p.b.String()
}

// sheet is a manual page that is being written.
type sheet struct{ b strings.Builder }

func (p *sheet) macro(name string, args ...string) {
	p.b.WriteString("." + name)
	for _, arg := range args {
		p.b.WriteString(` "` + strings.ReplaceAll(roff(arg), `"`, `\(dq`) + `"`)
	}
	p.b.WriteByte('\n')
}

// text writes one line that is escaped already.
func (p *sheet) text(line string) { p.b.WriteString(line + "\n") }

// paragraph writes prose, which man fills, unless some of its lines are indented: then it is as it stands.
func (p *sheet) paragraph(text string) {
	if strings.Contains("\n"+text, "\n  ") {
		p.literal(text)
		return
	}
	for line := range strings.Lines(text) {
		p.text(roff(strings.TrimSuffix(line, "\n")))
	}
}

func (p *sheet) literal(text string) {
	p.macro("nf")
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		p.text(roff(strings.TrimSuffix(line, "\n")))
	}
	p.macro("fi")
}

func (p *sheet) flags(title string, flags *pflag.FlagSet) {
	any := false
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		if !any {
			p.macro("SH", title)
			any = true
		}
		p.macro("TP")
		p.text(flagLine(f))
		_, usage := pflag.UnquoteUsage(f)
		p.text(roff(usage))
	})
}

// flagLine shows a flag with its short form, the kind of its value, and its default where that says something.
func flagLine(f *pflag.Flag) string {
	line := `\fB` + roff("--"+f.Name) + `\fR`
	if f.Shorthand != "" {
		line = `\fB` + roff("-"+f.Shorthand) + `\fR, ` + line
	}
	if kind, _ := pflag.UnquoteUsage(f); kind != "" {
		line += ` \fI` + roff(kind) + `\fR`
	}
	switch f.DefValue {
	case "", "false", "[]", "0", "0s":
	default:
		line += roff(fmt.Sprintf(" (default %s)", f.DefValue))
	}
	return line
}

// roff escapes a line: nothing in it is a request, a backslash or a hyphen that is typeset as another sign.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", `\&...`, "→", `\(->`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		return `\&` + text
	}
	return text
}

// lowerFirst makes the beginning of a sentence the middle of one.
func lowerFirst(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToLower(text[:1]) + text[1:]
}

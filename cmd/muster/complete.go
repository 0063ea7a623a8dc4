package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node"
)

// completionTime is how long the shell's Tab may take.
const completionTime = time.Second

func (a *app) rollForTab(cmd *cobra.Command) roll {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	all, _ := callRoll(ctx, a.client()) // nothing known: nothing offered
	return all
}

// completeNodes offers the names of nodes for the first argument.
func (a *app) completeNodes(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for m := range a.rollForTab(cmd).view.All() {
		names = append(names, m.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeTargets offers groups, names and tags for --target.
func (a *app) completeTargets(cmd *cobra.Command) {
	_ = cmd.RegisterFlagCompletionFunc("target", func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		words := a.groupNames(cmd)
		for i, name := range words {
			words[i] = "@" + name
		}
		for m := range a.rollForTab(cmd).view.All() {
			words = append(words, m.Name)
			for k, v := range m.Tags {
				if !strings.ContainsAny(v, " \t\"'()") {
					words = append(words, "tag."+k+"="+v)
				}
			}
		}
		slices.Sort(words)
		return lastWord(typed, slices.Compact(words)), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	})
}

// completeNodeFlag offers the names of nodes for a flag.
func (a *app) completeNodeFlag(cmd *cobra.Command, flag string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return a.completeNodes(cmd, nil, "")
	})
}

// publishedNames returns the names of published documents, as far as servers tell them at once.
func (a *app) publishedNames(cmd *cobra.Command) []string {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	var names []string
	if p, err := a.takePen(ctx); err == nil {
		answer, _ := p.readNamed(ctx, node.ReadDocuments, "") // nothing known: nothing offered
		for _, d := range answer.Documents {
			names = append(names, d.Name)
		}
	}
	return names
}

// documentNames returns the names of documents for commands, those built in included.
func (a *app) documentNames(cmd *cobra.Command) []string {
	names := a.publishedNames(cmd)
	for _, d := range document.BuiltIn() {
		names = append(names, d.Name)
	}
	return names
}

// completeDocuments offers the names of documents for flags.
func (a *app) completeDocuments(cmd *cobra.Command, flags ...string) {
	for _, flag := range flags {
		_ = cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			return a.documentNames(cmd), cobra.ShellCompDirectiveNoFileComp
		})
	}
}

// completeDocumentNames offers the names of documents for the first argument.
func (a *app) completeDocumentNames(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := a.documentNames(cmd)
	for _, d := range document.BuiltInSessions() {
		names = append(names, d.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeValues offers key= for the parameters of a document, and the values that it allows.
func (a *app) completeValues(spec func() string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if spec() == "" {
			return nil, cobra.ShellCompDirectiveDefault
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
		defer cancel()
		v, err := a.documentVersion(ctx, spec())
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		doc, err := document.Parse([]byte(v.Text))
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return valueWords(doc.Parameters(), args, typed), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}

// valueWords returns what may be typed for a document's parameters: those that are not given yet, or, once a key stands
// there, the values that it allows.
func valueWords(parameters []document.Parameter, given []string, typed string) []string {
	key, _, begun := strings.Cut(typed, "=")
	var words []string
	for _, p := range parameters {
		switch {
		case begun && p.Name == key:
			for _, v := range p.AllowedValues {
				words = append(words, key+"="+v)
			}
		case !begun && !slices.ContainsFunc(given, func(word string) bool { return strings.HasPrefix(word, p.Name+"=") }):
			words = append(words, p.Name+"=")
		}
	}
	return words
}

// lastWord completes the last word of what is typed.
func lastWord(typed string, words []string) []string {
	at := strings.LastIndexAny(typed, " (,") + 1
	var out []string
	for _, w := range words {
		if strings.HasPrefix(w, typed[at:]) {
			out = append(out, typed[:at]+w)
		}
	}
	return out
}

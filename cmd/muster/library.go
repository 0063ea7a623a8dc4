package main

import (
	"context"
	"slices"
	"strings"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node/fleet"
)

// published is one version of a document, with what pins it.
type published struct {
	ref exec.DocumentRef
	doc *document.Document
}

// builtInVersion is the only version of the documents that every agent has.
const builtInVersion = 1

// splitVersion cuts NAME[:VERSION].
func splitVersion(text string) (name, version string, err error) {
	name, version, given := strings.Cut(text, ":")
	if name == "" || (given && version == "") {
		return "", "", fleet.Errorf(fleet.Invalid, "%q is no document: NAME or NAME:VERSION", text)
	}
	return name, version, nil
}

// published reads a document: built in, or at the servers. version is a number, a version's name, $LATEST or $DEFAULT;
// "" is $DEFAULT.
func (p *pen) published(ctx context.Context, name, version string) (published, error) {
	if d, ok := builtInDocument(name); ok {
		return openBuiltIn(d, version)
	}
	_, v, text, err := p.documentText(ctx, name, version)
	if err != nil {
		return published{}, err
	}
	ref := exec.DocumentRef{Name: name, Version: v.Number, Digest: v.Digest}
	doc, err := document.Parse(text)
	if err != nil {
		return published{}, fleet.Errorf(fleet.KindOf(err), "document %s: %w", joinVersion(name, version), err)
	}
	return published{ref, doc}, nil
}

func joinVersion(name, version string) string {
	if version == "" {
		return name
	}
	return name + ":" + version
}

func builtInDocument(name string) (document.BuiltInDocument, bool) {
	for _, d := range slices.Concat(document.BuiltIn(), document.BuiltInSessions()) {
		if d.Name == name {
			return d, true
		}
	}
	return document.BuiltInDocument{}, false
}

// onlyVersion reports why a document that is built in has no such version, or nil.
func onlyVersion(name, version string) error {
	switch version {
	case "", "1", "$DEFAULT", "$LATEST":
		return nil
	}
	return fleet.Errorf(fleet.NotFound, "document %s is built in and has version 1 only, not %s", name, version)
}

func openBuiltIn(d document.BuiltInDocument, version string) (published, error) {
	if err := onlyVersion(d.Name, version); err != nil {
		return published{}, err
	}
	doc, err := document.Parse(d.Text)
	return published{exec.DocumentRef{Name: d.Name, Version: builtInVersion, Digest: document.Digest(d.Text)}, doc}, err
}

// shelf is the documents of one command: the first, and what it runs in turn.
type shelf struct {
	have  map[document.Use]published
	order []published
	board pinboard // what they take from the parameter store
	err   error    // the first that could not be had
}

// library returns what plans ask for the documents that others run. What is not on the shelf is read.
func (s *shelf) library(ctx context.Context, p *pen) document.Library {
	return func(name, version string) (*document.Document, bool) {
		use := document.Use{Name: name, Version: version}
		if d, ok := s.have[use]; ok {
			return d.doc, true
		}
		d, err := p.published(ctx, name, version)
		if err == nil {
			err = s.put(d)
		}
		if err == nil {
			err = s.board.want(d.doc.StoreRefs(nil))
		}
		if err != nil {
			if s.err == nil {
				s.err = err
			}
			return nil, false
		}
		s.have[use] = d
		return d.doc, true
	}
}

// put pins a document. A command pins one version of each: a node could not tell which is meant by the name alone.
func (s *shelf) put(d published) error {
	for _, other := range s.order {
		if other.ref.Name == d.ref.Name {
			if other.ref == d.ref {
				return nil
			}
			return fleet.Errorf(fleet.Invalid, "versions %d and %d of document %s in one command", other.ref.Version, d.ref.Version, d.ref.Name)
		}
	}
	if len(s.order) == exec.MaxDocuments {
		return fleet.Errorf(fleet.Exhausted, "more than %d documents in one command", exec.MaxDocuments)
	}
	s.order = append(s.order, d)
	return nil
}

// documentWork reads a document and checks and completes what it is given, as far as that can be done before any node is
// asked: names, types, bounds, and the plan that a Linux host would make of it.
func (p *pen) documentWork(ctx context.Context, run exec.Run, spec string, words []string) (work, error) {
	name, version, err := splitVersion(spec)
	if err != nil {
		return work{}, err
	}
	main, err := p.published(ctx, name, version)
	if err != nil {
		return work{}, err
	}
	given, err := main.doc.ParseArguments(words)
	if err != nil {
		return work{}, badValues(name, err)
	}
	s := &shelf{have: map[document.Use]published{}, order: []published{main}}
	if err := s.board.want(document.EnvironmentRefs(run.Env)); err != nil {
		return work{}, err
	}
	if err := s.board.want(main.doc.StoreRefs(given)); err != nil {
		return work{}, badValues(name, err)
	}
	values, err := s.plan(ctx, p, main, given)
	if err != nil {
		return work{}, err
	}
	w := documentsWork(run, values, s.order)
	w.params = s.board.sorted()
	return w, nil
}

// plan completes the values of the first document, and plans it as a Linux host would. The documents that it runs may refer
// to more of the parameter store: then it is planned anew.
func (s *shelf) plan(ctx context.Context, p *pen, main published, given []document.Argument) (document.Values, error) {
	for {
		if err := s.board.read(ctx, p); err != nil {
			return document.Values{}, err
		}
		doc := main.doc.Bind(s.board.store())
		values, err := doc.Complete(given)
		if err != nil {
			return values, badValues(main.ref.Name, err)
		}
		_, err = doc.Plan(values, document.Host{Platform: document.Linux}, s.library(ctx, p))
		switch {
		case s.err != nil:
			return values, s.err // why a document is missing, rather than that it is
		case s.board.whole():
			return values, err
		}
	}
}

func badValues(name string, err error) error {
	return fleet.Errorf(fleet.KindOf(err), "document %s: %w", name, err).Hinted("muster doc help %s", name)
}

// completeValues checks key=value words against a document, and says how to see what it takes. What of the parameter store
// they refer to is not read: where that decides, they are not checked further than that they can be read.
func completeValues(name string, doc *document.Document, words []string) (document.Values, error) {
	var values document.Values
	given, err := doc.ParseArguments(words)
	if err != nil {
		return values, badValues(name, err)
	}
	refs, err := doc.StoreRefs(given)
	if err != nil {
		return values, badValues(name, err)
	}
	store, ok := provisional(refs)
	if !ok {
		return values, nil
	}
	if values, err = doc.Bind(store).Complete(given); err != nil {
		return values, badValues(name, err)
	}
	return values, nil
}

func documentsWork(run exec.Run, values document.Values, all []published) work {
	w := work{run: run}
	for _, v := range values.Arguments() {
		w.run.Values = append(w.run.Values, exec.Argument(v))
	}
	for _, d := range all {
		w.documents = append(w.documents, d.ref)
		w.shell = w.shell || d.doc.RawShell()
	}
	return w
}

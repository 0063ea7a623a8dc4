package document

// RawShell reports whether whoever gives the values can make the host run anything: a parameter is a script itself, says
// where code comes from, or reaches a built-in document in which it does. Policy treats such a run as raw shell. It does
// not speak of the published documents that steps run: those are judged by themselves.
func (d *Document) RawShell() bool {
	for _, s := range d.steps {
		if s.compiled != nil && s.compiled.raw || s.choosesSource() || d.choosesDocument(s) {
			return true
		}
	}
	return false
}

// choosesSource reports whether a value says all of where a step gets code from.
func (s *step) choosesSource() bool {
	open := func(key string) bool {
		n := s.inputs.get(key)
		if n == nil || n.shape != scalar {
			return false
		}
		_, alone := whole(n.text)
		return alone
	}
	switch s.action {
	case downloadContent:
		return open("sourceInfo")
	case runDocument:
		return open("documentPath") && !s.runsPinned()
	}
	return false
}

// runsPinned reports whether a runDocument step runs a document by name, and never one from a file.
func (s *step) runsPinned() bool {
	kind := s.inputs.get("documentType")
	return kind != nil && kind.text == "SSMDocument"
}

// choosesDocument reports whether a value may choose a built-in document that is raw shell, or reach one.
func (d *Document) choosesDocument(s *step) bool {
	at := s.inputs.get("documentPath")
	if s.action != runDocument || !s.runsPinned() || at == nil {
		return false
	}
	given := s.inputs.get("documentParameters").hasRefs()
	named := refs(at.text)
	for _, r := range named {
		if p, err := d.parameter(r.name); err != nil || !p.tame() {
			return true
		}
	}
	u, err := useOf(at.text, at.line)
	if len(named) > 0 || err != nil {
		return given
	}
	text, builtIn := builtIn(u.Name)
	if !given || !builtIn {
		return false
	}
	other, err := Parse(text)
	return err != nil || other.RawShell()
}

// hasRefs reports whether a parameter is anywhere in n.
func (n *node) hasRefs() bool {
	if n == nil {
		return false
	}
	if n.shape == scalar {
		return len(refs(n.text)) > 0
	}
	for _, c := range n.items {
		if c.hasRefs() {
			return true
		}
	}
	return false
}

package document

import "slices"

// Upgrades reports whether a step of the document replaces muster on the host.
func (d *Document) Upgrades() bool {
	return slices.ContainsFunc(d.steps, func(s *step) bool { return s.action == updateSsmAgent })
}

// RunsUnseen reports whether a step runs a document from a file of the host, which came with no command: its text is read when it
// runs, and may have come from anywhere.
func (d *Document) RunsUnseen() bool {
	return slices.ContainsFunc(d.steps, func(s *step) bool {
		return s.action == runDocument && s.isFor(Linux) && !s.runsPinned()
	})
}

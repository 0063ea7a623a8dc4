package document

// Described is what there is to know of a document of any schema: a *Document, or a *Session.
type Described interface {
	Text() []byte
	Schema() string
	Description() string
	Parameters() []Parameter
	// RawShell reports whether policy treats the document as raw shell.
	RawShell() bool
	// Help returns what a person needs to use the document that is called name.
	Help(name string) string
}

var (
	_ Described = (*Document)(nil)
	_ Described = (*Session)(nil)
)

// Describe reads a document of any schema: Parse, or, of schema 1.0, ParseSession.
func Describe(text []byte) (Described, error) {
	root, err := readRoot(text)
	if err != nil {
		return nil, err
	}
	if n := root.get("schemaVersion"); n != nil && n.text == "1.0" {
		d, err := ParseSession(text)
		if err != nil {
			return nil, err
		}
		return d, nil
	}
	d, err := Parse(text)
	if err != nil {
		return nil, err
	}
	return d, nil
}

package auth

import (
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

// SessionDocument pins the document by which a session is opened, with values for its parameters. Of such a session the node
// makes program, account, place and limits itself, from the text of that digest.
type SessionDocument struct {
	Name    string
	Version uint32   // what it was called to the signer; 0: nobody could say. The digest is what counts
	Digest  fleet.ID // SHA-256 of the text
	Values  []SessionValue
}

// SessionValue is a value for a parameter of a session's document.
type SessionValue struct {
	Name  string
	Value string // JSON
}

// Limits of a session's document.
const (
	MaxDocumentName      = 128      // bytes
	MaxSessionValues     = 200      // parameters that have one
	MaxSessionValueName  = 128      // bytes
	MaxSessionValueBytes = 64 << 10 // of all values together
)

// DocumentName returns the name of the session's document, the context.document of policy; empty: it has none.
func (s Session) DocumentName() string { return NameOfDocument(s.Document) }

// NameOfDocument returns the name of the one document, or "".
func NameOfDocument(one []SessionDocument) string {
	for _, d := range one {
		return d.Name
	}
	return ""
}

// checkDocument wants one document at most, and beside it nothing that the document says.
func (s Session) checkDocument() error {
	if len(s.Document) > 1 {
		return fleet.Errorf(fleet.Invalid, "a session is opened by one document at most")
	}
	switch {
	case len(s.Document) == 0:
		return nil
	case s.Kind == SessionCopy:
		return fleet.Errorf(fleet.Invalid, "there are no documents for copies")
	case len(s.Argv)+len(s.Forward)+len(s.Listen) > 0:
		return fleet.Errorf(fleet.Invalid, "what a session by a document runs, or where it leads, is the document's to say")
	}
	return s.Document[0].check()
}

func (d SessionDocument) check() error {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	switch {
	case d.Name == "" || len(d.Name) > MaxDocumentName || strings.Trim(d.Name, letters+"_-.") != "":
		return fleet.Errorf(fleet.Invalid, "%q is no document: 1 to %d letters, digits, _, - and .", shorten(d.Name), MaxDocumentName)
	case d.Digest.IsZero():
		return fleet.Errorf(fleet.Invalid, "document %s is not pinned to a text", d.Name)
	case len(d.Values) > MaxSessionValues:
		return fleet.Errorf(fleet.Exhausted, "%d values; at most %d", len(d.Values), MaxSessionValues)
	}
	size := 0
	for i, v := range d.Values {
		if v.Name == "" || len(v.Name) > MaxSessionValueName || strings.Trim(v.Name, letters) != "" {
			return fleet.Errorf(fleet.Invalid, "%q is no parameter of a document", shorten(v.Name))
		}
		if i > 0 && d.Values[i-1].Name >= v.Name {
			return fleet.Errorf(fleet.Invalid, "the values are not sorted, or %s is there twice", v.Name)
		}
		size += len(v.Name) + len(v.Value)
	}
	if size > MaxSessionValueBytes {
		return fleet.Errorf(fleet.Exhausted, "%d bytes of values; at most %d", size, MaxSessionValueBytes)
	}
	return nil
}

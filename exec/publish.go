package exec

import (
	"bytes"
	"strings"
	"time"

	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Limits of documents.
const (
	MaxDocument    = document.MaxText // bytes of a text
	MaxPublication = MaxDocument + 1<<10
	MaxVersionName = 128
	// PublishLife is how long after its issue a publication or a change of a document may be taken. Statements are known
	// again for longer than that, so that an old one cannot be put once more after what it said was changed.
	PublishLife = time.Hour
)

// Publication makes a text the next version of a document. Purpose auth.ForDocument.
type Publication struct {
	Header      auth.Header
	Name        string
	VersionName string // empty: none
	Text        []byte
}

// DocumentChange changes what a document's versions are used for. Purpose auth.ForDocumentChange.
type DocumentChange struct {
	Header  auth.Header
	Name    string
	Default uint32 // the version that $DEFAULT is; 0: unchanged
	Delete  bool
	Version uint32 // of Delete; 0: all
}

// Key names a document's text: the same text may stand under two names, published by two people.
func (d DocumentRef) Key() fleet.ID {
	return fleet.Sum(append(append([]byte(d.Name), 0), d.Digest[:]...))
}

// Reserved reports whether the name is one of those that only documents built into muster have.
func (d DocumentRef) Reserved() bool { return reservedName(d.Name) }

// Ref returns what pins the publication as the version number of its document.
func (p Publication) Ref(number uint32) DocumentRef {
	return DocumentRef{Name: p.Name, Version: number, Digest: fleet.Sum(p.Text)}
}

// reserved are the beginnings of names, in any case, that are not for documents of one's own: SSM's, and its one document
// that is called otherwise.
var reserved = [...]string{"aws", "amazon", "amzn", "ssm-sessionmanager"}

// CheckDocumentName reports why nobody may publish a document of that name, or nil.
func CheckDocumentName(name string) error {
	if !isDocumentName(name, 3) {
		return fleet.Errorf(fleet.Invalid, "document name %q is not 3 to 128 letters, digits, _, - and .", clip(name))
	}
	if reservedName(name) {
		return fleet.Errorf(fleet.Invalid, "document names that begin with %s are reserved, %q is one", strings.Join(reserved[:], ", "), name).
			Hinted("--name OTHER")
	}
	return nil
}

func reservedName(name string) bool {
	for _, prefix := range reserved {
		if len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix) {
			return true
		}
	}
	return false
}

// isDocumentName reports whether name is min to 128 letters, digits, _, - and dots.
func isDocumentName(name string, min int) bool {
	if len(name) < min || len(name) > 128 {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-', c == '.':
		default:
			return false
		}
	}
	return true
}

// checkVersionName reports why a version may not be called so, or nil. Numbers are versions by themselves.
func checkVersionName(name string) error {
	if name == "" || isDocumentName(name, 1) && strings.Trim(name, "0123456789") != "" {
		return nil
	}
	return fleet.Errorf(fleet.Invalid, "version name %q is not 1 to %d letters, digits, _, - and . with something else than digits", clip(name), MaxVersionName)
}

// CheckFace reports what is wrong with a publication without reading its text, or nil. It is what every replica decides
// alike, whatever its version makes of documents.
func (p Publication) CheckFace() error {
	if err := checkLife(p.Header); err != nil {
		return err
	}
	if err := CheckDocumentName(p.Name); err != nil {
		return err
	}
	if err := checkVersionName(p.VersionName); err != nil {
		return err
	}
	if len(bytes.TrimSpace(p.Text)) == 0 || len(p.Text) > MaxDocument {
		return fleet.Errorf(fleet.Invalid, "document %s has %d bytes; 1 to %d may be published", p.Name, len(p.Text), MaxDocument)
	}
	return nil
}

// Check reports what is wrong with a publication, its text included, or nil. Whoever publishes asks it first; the quorum
// asks CheckFace.
func (p Publication) Check() error {
	if err := p.CheckFace(); err != nil {
		return err
	}
	_, err := document.Describe(p.Text)
	return err
}

// Check reports what is wrong with a change, or nil.
func (c DocumentChange) Check() error {
	if err := checkLife(c.Header); err != nil {
		return err
	}
	if err := CheckDocumentName(c.Name); err != nil {
		return err
	}
	if c.Delete == (c.Default != 0) || !c.Delete && c.Version != 0 {
		return fleet.Errorf(fleet.Invalid, "a change of document %s sets its default version, or deletes; this one does neither or both", c.Name)
	}
	return nil
}

func checkLife(h auth.Header) error {
	switch life := h.Expires - h.Issued; {
	case h.ID.IsZero():
		return fleet.Errorf(fleet.Invalid, "statement without an ID")
	case h.Issued < 0 || h.Expires > auth.MaxTime || life <= 0 || life > PublishLife.Milliseconds():
		return fleet.Errorf(fleet.Invalid, "what changes documents is valid for at most %s, not for %d s", PublishLife, life/1000)
	}
	return nil
}

package consensus

import (
	"encoding/binary"
	"slices"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Bounds of documents.
const (
	MaxDocuments    = 500
	MaxVersions     = 1_000 // of one document: SSM's
	MaxDocumentText = 64 << 20
)

// Document is a published document with its versions. Values are shared and never changed.
type Document struct {
	Name     string
	Default  uint32    // the version that $DEFAULT is
	Last     uint32    // the highest number that was ever given
	Versions []Version // by number; never empty
}

// Version is one version of a document.
type Version struct {
	Number      uint32
	VersionName string // empty: none
	Digest      fleet.ID
	Publisher   string // operator's name
	Time        int64  // Unix milliseconds, leader's stamp
	Statement   auth.Envelope
}

// publication is where a text stands.
type publication struct {
	name   string
	number uint32
}

// Version returns the version of that number.
func (d *Document) Version(number uint32) (Version, bool) {
	i, ok := slices.BinarySearchFunc(d.Versions, number, func(v Version, n uint32) int { return int(int64(v.Number) - int64(n)) })
	if !ok {
		return Version{}, false
	}
	return d.Versions[i], true
}

// Latest returns the newest version.
func (d *Document) Latest() Version { return d.Versions[len(d.Versions)-1] }

// Named returns the version of that name.
func (d *Document) Named(name string) (Version, bool) {
	i := slices.IndexFunc(d.Versions, func(v Version) bool { return v.VersionName == name })
	if name == "" || i < 0 {
		return Version{}, false
	}
	return d.Versions[i], true
}

// Document returns the document of that name.
func (s State) Document(name string) (*Document, bool) { return s.documents.Get([]byte(name)) }

// Documents lists them all by name.
func (s State) Documents() []*Document {
	var out []*Document
	s.documents.Root().Walk(func(_ []byte, d *Document) bool {
		out = append(out, d)
		return false
	})
	return out
}

// Publication returns the statement that published the text of that key (exec.DocumentRef.Key): the newest whose signer may
// publish it now, else the newest, so that who asks learns why it does not count.
func (s State) Publication(key fleet.ID) (auth.Envelope, bool) {
	at, ok := s.publications.Get(key[:])
	if !ok {
		return auth.Envelope{}, false
	}
	d, ok := s.Document(at.name)
	if !ok {
		return auth.Envelope{}, false
	}
	newest, ok := d.Version(at.number)
	if !ok {
		return auth.Envelope{}, false
	}
	for _, v := range slices.Backward(d.Versions) {
		if v.Digest == newest.Digest && s.counts(v) {
			return v.Statement, true
		}
	}
	return newest.Statement, true
}

// counts reports whether the signer of a version may publish it now.
func (s *State) counts(v Version) bool { return exec.MayPublish(s.Record, v.Statement) == nil }

// checkDocuments reports which document of a command is not one that stands, or nil. The number of a version is the
// signer's word; it must be that of the text. What is built in is not judged here, for replicas of two versions may have two
// texts: each node compares it with its own.
func (s *State) checkDocuments(refs []exec.DocumentRef) error {
	for _, ref := range refs {
		if ref.Reserved() {
			continue
		}
		d, ok := s.Document(ref.Name)
		if !ok {
			return fleet.Errorf(fleet.NotFound, "the command runs document %s, which is not there", ref.Name).Hinted("muster doc list")
		}
		v, ok := d.Version(ref.Version)
		if !ok {
			return fleet.Errorf(fleet.NotFound, "the command runs version %d of document %s, which is not there", ref.Version, ref.Name).
				Hinted("muster doc history %s; then give the command anew", ref.Name)
		}
		if v.Digest != ref.Digest {
			return fleet.Errorf(fleet.Conflict, "the command runs another text than version %d of document %s", ref.Version, ref.Name).
				Hinted("muster doc history %s; then give the command anew", ref.Name)
		}
	}
	return nil
}

// TextBytes returns how many bytes all documents have.
func (s State) TextBytes() int { return s.texts }

// mayDocument asks policy about a document.
func (s *State) mayDocument(op auth.Operator, action auth.Action, name string) error {
	_, err := s.Record.Charter.Policy().Decide(auth.Ask{
		Principal: op.AsPrincipal(), Action: action, Resource: auth.Resource{Type: "Document", Name: name},
	})
	return err
}

// putDocument takes a text as the next version. It does not read it: what a text means is judged by whoever publishes it
// and by every node that runs it, so that replicas of two versions cannot disagree here.
func (s *State) putDocument(e PutDocument) error {
	if len(e.Statement.Body) > exec.MaxPublication {
		return fleet.Errorf(fleet.Exhausted, "publication of %d bytes; at most %d", len(e.Statement.Body), exec.MaxPublication)
	}
	body, op, err := auth.OpenOrder(s.Record.Charter, e.Statement, auth.ForDocument, s.clock(), func(p exec.Publication) auth.Header { return p.Header })
	if err == nil {
		err = body.CheckFace()
	}
	if err == nil {
		err = s.mayDocument(op, auth.ActPutDocument, body.Name)
	}
	if err != nil {
		return err
	}
	d, ok := s.Document(body.Name)
	if !ok {
		d = &Document{Name: body.Name, Default: 1}
	}
	if err := s.checkNew(d, body); err != nil {
		return err
	}
	if err := s.roomFor(d, body); err != nil {
		return err
	}
	next := *d
	next.Last++
	version := Version{next.Last, body.VersionName, fleet.Sum(body.Text), op.Name, s.Time, e.Statement}
	next.Versions = append(slices.Clip(d.Versions), version)
	s.keepDocument(&next)
	s.published(body.Name, version)
	s.texts += len(body.Text)
	return nil
}

func (s *State) keepDocument(d *Document) {
	s.documents, _, _ = s.documents.Insert([]byte(d.Name), d)
}

func (s *State) published(name string, v Version) {
	key := keyOfVersion(name, v)
	s.publications, _, _ = s.publications.Insert(key[:], publication{name, v.Number})
}

func keyOfVersion(name string, v Version) fleet.ID {
	return exec.DocumentRef{Name: name, Version: v.Number, Digest: v.Digest}.Key()
}

// checkNew reports why a text is no new version of d, or nil. A text may come again when nobody who published it may do so
// now: no node would run it otherwise.
func (s *State) checkNew(d *Document, p exec.Publication) error {
	if at, ok := s.publications.Get(keyBytes(p.Ref(1).Key())); ok {
		digest := fleet.Sum(p.Text)
		if slices.ContainsFunc(d.Versions, func(v Version) bool { return v.Digest == digest && s.counts(v) }) {
			return fleet.Errorf(fleet.Conflict, "document %s has this text already, as version %d", d.Name, at.number)
		}
	}
	return checkVersionName(d, p)
}

// checkVersionName reports that another version of d has the name of p's, or nil.
func checkVersionName(d *Document, p exec.Publication) error {
	if v, ok := d.Named(p.VersionName); ok {
		return fleet.Errorf(fleet.Conflict, "version %d of document %s is called %s already", v.Number, d.Name, v.VersionName)
	}
	return nil
}

// roomFor reports which bound one version more of d would pass, or nil.
func (s *State) roomFor(d *Document, p exec.Publication) error {
	switch {
	case len(d.Versions) == 0 && s.documents.Len() >= MaxDocuments:
		return fleet.Errorf(fleet.Exhausted, "%d documents, the limit", MaxDocuments).Hinted("muster doc list; muster doc delete NAME")
	case len(d.Versions) >= MaxVersions || d.Last == 1<<32-1:
		return fleet.Errorf(fleet.Exhausted, "document %s has %d versions, the limit", d.Name, len(d.Versions)).Hinted("muster doc history %s; muster doc delete %s:VERSION", d.Name, d.Name)
	case s.texts+len(p.Text) > MaxDocumentText:
		return fleet.Errorf(fleet.Exhausted, "documents have %d bytes in all; with this one they would pass the limit of %d", s.texts, MaxDocumentText).
			Hinted("muster doc list; muster doc delete NAME:VERSION")
	}
	return nil
}

func keyBytes(id fleet.ID) []byte { return id[:] }

func (s *State) changeDocument(e ChangeDocument) error {
	body, op, err := auth.OpenOrder(s.Record.Charter, e.Statement, auth.ForDocumentChange, s.clock(), func(c exec.DocumentChange) auth.Header { return c.Header })
	if err == nil {
		err = body.Check()
	}
	if err != nil {
		return err
	}
	action := auth.ActPutDocument
	if body.Delete {
		action = auth.ActDeleteDocument
	}
	if err := s.mayDocument(op, action, body.Name); err != nil {
		return err
	}
	d, ok := s.Document(body.Name)
	if !ok {
		return fleet.Errorf(fleet.NotFound, "no document %s", body.Name).Hinted("muster doc list")
	}
	number := max(body.Default, body.Version) // one of them is 0
	if _, ok := d.Version(number); !ok && number != 0 {
		return fleet.Errorf(fleet.NotFound, "document %s has no version %d", d.Name, number).Hinted("muster doc history %s", d.Name)
	}
	switch {
	case body.Delete && number == 0:
		s.deleteDocument(d)
	case body.Delete:
		return s.deleteVersion(d, number)
	default:
		next := *d
		next.Default = number
		s.keepDocument(&next)
	}
	return nil
}

func (s *State) deleteDocument(d *Document) {
	for _, v := range d.Versions {
		s.unpublish(&Document{Name: d.Name}, v)
	}
	s.documents, _, _ = s.documents.Delete([]byte(d.Name))
}

func (s *State) deleteVersion(d *Document, number uint32) error {
	if number == d.Default {
		return fleet.Errorf(fleet.Conflict, "version %d is the default of document %s", number, d.Name).
			Hinted("muster doc default %s OTHER; or delete all of it: muster doc delete %s", d.Name, d.Name)
	}
	v, _ := d.Version(number)
	next := *d
	next.Versions = slices.DeleteFunc(slices.Clone(d.Versions), func(v Version) bool { return v.Number == number })
	s.unpublish(&next, v)
	s.keepDocument(&next)
	return nil
}

// unpublish forgets where the text of a version stands that was deleted; rest is the document without it, in which it may
// stand as an older version.
func (s *State) unpublish(rest *Document, v Version) {
	s.texts -= textLen(v)
	s.publications, _, _ = s.publications.Delete(keyBytes(keyOfVersion(rest.Name, v)))
	for _, other := range rest.Versions {
		if other.Digest == v.Digest {
			s.published(rest.Name, other) // the newest comes last
		}
	}
}

// textLen returns the bytes of a version's text.
func textLen(v Version) int {
	p, err := auth.Peek[exec.Publication](v.Statement)
	if err != nil {
		return 0
	}
	return len(p.Text)
}

// versionKey orders versions as snapshots have them.
func versionKey(name string, number uint32) []byte {
	return binary.BigEndian.AppendUint32(append([]byte(name), 0), number)
}

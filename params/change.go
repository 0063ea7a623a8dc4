package params

import (
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Change is one act on parameters: all of its operations are taken, or none. Purpose auth.ForParams. What is signed has only
// the hashes of the operations: whoever may read one parameter is shown that operation, and learns nothing of the others
// that were put with it.
type Change struct {
	Header auth.Header
	Ops    []fleet.ID // SHA-256 of each encoded Op; 1 to MaxOps, on different parameters
}

// Op is one operation. Exactly one of the lists has exactly one item.
type Op struct {
	// Salt is random, of the signer: without it, who sees the hash could guess what it is of.
	Salt   fleet.UUID
	Put    []Put
	Delete []Delete
	Label  []Label
}

// Put makes a version. It says all there is about the version, so that nothing is inherited from one that its writer did
// not see. The number is signed: a Put fits one place in one parameter's life, and nobody can move it.
type Put struct {
	Name    string // canonical
	Born    int64  // Unix milliseconds: Header.Issued of the Put that made version 1; for that one its own
	Version uint32 // that this makes: one more than the newest
	Type    Type
	// DataType is "text" or "aws:ec2:image" (which is not looked up here), as SSM has it.
	DataType    string
	Digest      fleet.ID // SHA-256 of the encoded Content
	Size        uint32   // bytes of the value; of a secret, of the padded value (SealedSize)
	Description string
	Pattern     string // allowedPattern: an RE2 expression that the value has matched where it was written
	Tier        Tier
	Policies    []Policy
	Tags        map[string]string
	Labels      []string // that the new version has at once; they move
	// Seq is, with labels, one more than the parameter's label changes so far, as in Label; 0 without. So every proof of a
	// label says which of two is the newer.
	Seq      uint32
	Readers  []Reader // of a secret, in the order of Content.Sealed.Wraps
	Rotation []Rotation
}

// Delete ends a parameter with all its versions.
type Delete struct {
	Name    string
	Born    int64
	Version uint32 // the newest, as far as the signer saw; another one refuses
}

// Label moves labels.
type Label struct {
	Name    string
	Born    int64
	Seq     uint32 // one more than the parameter's label changes so far
	Version uint32 // that the labels go to, and are removed from; 0: they are only removed, wherever they are
	Add     []string
	Remove  []string
}

// Type is the type of a parameter; it never changes.
type Type uint8

// The types. Their names are SSM's.
const (
	String       Type = 1
	StringList   Type = 2
	SecureString Type = 3
)

// Tier is the tier of a parameter; there is no way down.
type Tier uint8

// The tiers. Their names are SSM's.
const (
	Standard Tier = 1
	Advanced Tier = 2
)

// Policy is one of SSM's parameter policies. Exactly one of the fields that its kind uses is set.
type Policy struct {
	Kind   PolicyKind
	At     int64 // Expiration: Unix milliseconds
	Before int64 // ExpirationNotification: milliseconds before the expiry
	After  int64 // NoChangeNotification: milliseconds after the newest version
}

// PolicyKind says what a Policy does.
type PolicyKind uint8

// The kinds of policies.
const (
	Expiration             PolicyKind = 1
	ExpirationNotification PolicyKind = 2
	NoChangeNotification   PolicyKind = 3
)

// Rotation says how a secret is to be rotated; a list of none or one.
type Rotation struct {
	Document string // name
	Target   string // target on which the document sets and tests the new value
	Every    int64  // milliseconds; 0: only by hand
	Length   uint32 // characters of a generated value
}

// Reader is who can read a secret.
type Reader struct {
	Kind  ReaderKind
	Name  string     // of the operator or keyring; empty for Recovery
	Life  fleet.UUID // of the keyring
	Epoch uint32     // of the keyring
	Key   fleet.ID   // SHA-256 of the public key that it is sealed to
}

// ReaderKind says what a Reader is.
type ReaderKind uint8

// The kinds of readers.
const (
	ByRecovery ReaderKind = 1
	ByOperator ReaderKind = 2
	ByKeyring  ReaderKind = 3
)

// Limits of changes.
const (
	MaxOps     = 100
	MaxReaders = 16
	// MaxSigned bounds a change's signed body in bytes, MaxOp one encoded operation, MaxChange all operations of a
	// change, and MaxContents all contents that come with it: together they fit an entry of the quorum.
	MaxSigned   = 4 << 10
	MaxOp       = 40 << 10
	MaxChange   = 192 << 10
	MaxContents = 128 << 10
	// ChangeLife is how long after its issue a change may be taken, in milliseconds.
	ChangeLife = 15 * 60 * 1000
)

package params

import (
	"github.com/muster-fleet/muster/node/auth"
)

// Limits of questions, as Systems Manager has them.
const (
	MaxGet  = 10 // names of one Get
	MaxPage = 50 // of a list, a history and, where Systems Manager has 10, a path
)

// Ask is what one wants to know of parameters. Exactly one field has exactly one item; Get may have up to MaxGet.
type Ask struct {
	Get     []Selector
	Path    []PathAsk
	List    []ListAsk
	History []HistoryAsk
	// Values says that values are wanted: of plain parameters, and of secrets what is sealed, for which policy must permit
	// to decrypt. Without it, only what is about them.
	Values bool
}

// Selector names a version: by number, by label, or the newest.
type Selector struct {
	Name    string
	Version uint32 // 0: by label, or the newest
	Label   string
}

// PathAsk asks for parameters below a path, one page.
type PathAsk struct {
	Path      string // "/" or "/a/b"
	Recursive bool
	Filters   []Filter
	Max       uint32 // of the page; 0: the most
	After     string // the page after this name
}

// ListAsk asks what parameters there are, one page.
type ListAsk struct {
	Filters []Filter
	Max     uint32
	After   string
}

// HistoryAsk asks for a parameter's versions, one page, oldest first.
type HistoryAsk struct {
	Name  string
	Max   uint32
	After uint32
}

// Filter is one of SSM's parameter filters: Key is Name, Type, KeyId (a reader: keyring:K, operator:O), Path, Tier, DataType,
// Label or tag:K; Option is Equals, BeginsWith, Contains, Recursive or OneLevel, empty for the key's own default.
type Filter struct {
	Key    string
	Option string
	Values []string
}

// Answer is what a server answers to an Ask.
type Answer struct {
	Items   []Item
	Missing []Missing // of Get; in its order where all was judged at once, behind that what was hidden from who asked
	More    bool      // there is another page
	Next    string    // After of that page; a page may be empty, as in Systems Manager
	Act     uint64    // act index of the state that answered
	Time    int64     // Unix milliseconds: that state's time, for the age of a stale answer
}

// Item is one version of a parameter with what proves it.
type Item struct {
	Selector string        // as it was asked for: "", ":3" or ":label"
	Change   auth.Envelope // that made the version
	Op       uint32        // place of its Put
	Body     []byte        // the encoded Op
	Content  [][]byte      // none or one: the encoded Content
	Newest   uint32        // the parameter's newest version
	Seq      uint32        // label changes so far
	Operator string        // the server's word, as Time and Act are
	Time     int64         // Unix milliseconds
	Act      uint64
	Labels   []string     // of this version
	Proof    []LabelProof // none or one: of the label by which it was asked for
}

// LabelProof is the change that gave a version its label.
type LabelProof struct {
	Change auth.Envelope
	Op     uint32
	Body   []byte
}

// Missing is a selector that names nothing that the asker may see.
type Missing struct {
	Selector Selector
	Why      string
}

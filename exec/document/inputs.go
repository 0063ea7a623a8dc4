package document

import "encoding/json"

// Acts of the agent's own: what steps.Step.Act holds. Their inputs are the types below, as JSON.
const (
	ActDownload    = "download"
	ActPackage     = "package"
	ActDocker      = "docker"
	ActDocument    = "document"
	ActUpgrade     = "upgrade"
	ActInventory   = "inventory"
	ActAssociation = "association"
)

// Download is the input of ActDownload (aws:downloadContent).
type Download struct {
	SourceType  string     `json:"sourceType"` // GitHub, Git, HTTP, S3, SSMDocument; LocalPath is ours
	Source      SourceInfo `json:"sourceInfo"`
	Destination string     `json:"destinationPath,omitempty"` // relative: below the run folder's downloads
	Text        string     `json:"text,omitempty"`            // of an SSMDocument: its text, as pinned
}

// SourceInfo says where content is: the keys of all source types together. Which of them are set goes by the type.
type SourceInfo struct {
	Owner      string `json:"owner,omitempty"` // GitHub
	Repository string `json:"repository,omitempty"`
	Path       string `json:"path,omitempty"`       // GitHub, LocalPath; S3: its URL
	GetOptions string `json:"getOptions,omitempty"` // "branch:NAME" or "commitID:HASH"
	TokenInfo  string `json:"tokenInfo,omitempty"`
	BaseURL    string `json:"baseURL,omitempty"` // ours: an own GitHub's API

	PrivateSSHKey       string `json:"privateSSHKey,omitempty"` // Git
	SkipHostKeyChecking bool   `json:"skipHostKeyChecking,omitempty"`
	Username            string `json:"username,omitempty"` // Git, HTTP
	Password            string `json:"password,omitempty"`

	URL                   string `json:"url,omitempty"`        // HTTP
	AuthMethod            string `json:"authMethod,omitempty"` // None, Basic, Digest
	AllowInsecureDownload bool   `json:"allowInsecureDownload,omitempty"`
	SHA256                string `json:"sha256,omitempty"` // ours; HTTP, S3: hex

	Endpoint string `json:"endpoint,omitempty"` // ours; S3
	Region   string `json:"region,omitempty"`

	Name string `json:"name,omitempty"` // SSMDocument: "NAME" or "NAME:VERSION"
}

// Package is the input of ActPackage (aws:configurePackage).
type Package struct {
	Name             string `json:"name"`
	Action           string `json:"action"` // Install, Uninstall
	Version          string `json:"version,omitempty"`
	InstallationType string `json:"installationType,omitempty"` // "Uninstall and reinstall" (the default), "In-place update"
}

// Docker is the input of ActDocker (aws:runDockerAction; aws:configureDocker with Configure).
type Docker struct {
	Configure        bool     `json:"configure,omitempty"`
	Action           string   `json:"action"` // Install, Uninstall with Configure; else Create, Start, Run, Stop, Rm, …
	Container        string   `json:"container,omitempty"`
	Image            string   `json:"image,omitempty"`
	Memory           string   `json:"memory,omitempty"`
	CPUShares        int64    `json:"cpuShares,omitempty"`
	Volume           []string `json:"volume,omitempty"`
	Cmd              string   `json:"cmd,omitempty"`
	Env              []string `json:"env,omitempty"`
	User             string   `json:"user,omitempty"`
	Publish          string   `json:"publish,omitempty"`
	WorkingDirectory string   `json:"workingDirectory,omitempty"`
}

// Nested is the input of ActDocument (aws:runDocument): either Text or Path.
type Nested struct {
	Name       string                     `json:"name"`                   // for people: the document's name, or the path
	Text       string                     `json:"documentText,omitempty"` // SSMDocument
	Path       string                     `json:"path,omitempty"`         // LocalPath; relative: below the run folder's downloads. A folder: the one document in it
	Parameters map[string]json.RawMessage `json:"parameters,omitempty"`
	Depth      int                        `json:"depth"` // of the nested document, as in Host: 1 for what the first document runs
	Library    []NestedText               `json:"library,omitempty"`
	Store      []StoreValue               `json:"store,omitempty"` // what was pinned of the store, for it and its Library
	Salt       string                     `json:"salt,omitempty"`  // see NewStore
}

// StoreValue is a parameter of the store for a nested document. The value of a secret is put in when the step starts.
type StoreValue struct {
	Name     string `json:"name"`
	Selector string `json:"selector,omitempty"`
	List     bool   `json:"list,omitempty"`
	Secret   bool   `json:"secret,omitempty"`
	Value    string `json:"value"`
}

// NestedText is a pinned document that a nested one may run in turn.
type NestedText struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"` // as the step asks for it
	Text    string `json:"text"`
}

// Complete checks the parameters against the document that n is for, and returns that bound to the store with them. What
// looks like a reference in a parameter is a value.
func (n Nested) Complete(d *Document) (*Document, Values, error) {
	all := make([]Pinned, len(n.Store))
	for i, v := range n.Store {
		all[i] = Pinned(v)
	}
	d = d.Bind(NewStore(all, n.Salt))
	v, err := d.complete(n.Arguments(), d.handed)
	return d, v, err
}

// Secrets returns the values that the plan of n refers to by number.
func (n Nested) Secrets() [][]byte {
	var out [][]byte
	for _, v := range n.Store {
		if v.Secret {
			out = append(out, []byte(v.Value))
		}
	}
	return out
}

// Arguments returns the parameters as they were given, sorted by name.
func (n Nested) Arguments() []Argument {
	args := make([]Argument, 0, len(n.Parameters))
	for name, value := range n.Parameters {
		args = append(args, Argument{name, string(value)})
	}
	return sorted(args)
}

// Find returns the Library of n. Texts that do not parse are not in it.
func (n Nested) Find() Library {
	return func(name, version string) (*Document, bool) {
		for _, t := range n.Library {
			if t.Name == name && t.Version == version {
				d, err := Parse([]byte(t.Text))
				return d, err == nil
			}
		}
		return nil, false
	}
}

// UpgradeName is the built-in document by which nodes upgrade themselves. Its text must stay as it is: a command pins it by its
// digest, and nodes of two versions that have two texts refuse each other's. What needs another text gets another name.
const UpgradeName = "AWS-UpdateSSMAgent"

// Upgrade is the input of ActUpgrade (aws:updateSsmAgent).
type Upgrade struct {
	AgentName      string `json:"agentName,omitempty"`
	TargetVersion  string `json:"targetVersion,omitempty"` // empty: the newest
	AllowDowngrade bool   `json:"allowDowngrade,omitempty"`
	Source         string `json:"source,omitempty"`
	Release        string `json:"release,omitempty"`      // ours: the release's digest; empty: the one of TargetVersion
	Sources        string `json:"sources,omitempty"`      // ours: IDs of nodes that have it, with commas
	DownloadOnly   bool   `json:"downloadOnly,omitempty"` // ours
}

// Inventory is the input of ActInventory (aws:softwareInventory): what is collected, each "Enabled", "Disabled" or a
// JSON filter.
type Inventory struct {
	Items map[string]string `json:"items"`
}

// Association is the input of ActAssociation (aws:refreshAssociation): none means all.
type Association struct {
	IDs []string `json:"associationIds,omitempty"`
}

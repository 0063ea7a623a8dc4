package config

// Source is what kind of place a value came from, in the order of precedence: the first that says something counts.
type Source uint8

// The sources.
const (
	ByCommand   Source = iota + 1 // muster agent pause
	Flag                          // of muster agent
	Environment                   // a MUSTER_ variable
	File                          // the configuration file
	Folder                        // the data folder: what init or join were told
	ByPreset
	Default
)

// Origin says where a value came from.
type Origin struct {
	Source Source
	Where  string // as people find it: --bind, $MUSTER_BIND, /etc/muster/config.yaml:3
	Line   int    // in the file, from 1; 0 elsewhere
}

// String returns the origin as it is shown.
func (o Origin) String() string {
	if o.Where != "" {
		return o.Where
	}
	return o.Source.String()
}

// String returns the word for the source, stable in JSON.
func (s Source) String() string {
	switch s {
	case ByCommand:
		return "command"
	case Flag:
		return "flag"
	case Environment:
		return "environment"
	case File:
		return "file"
	case Folder:
		return "data folder"
	case ByPreset:
		return "preset"
	case Default:
		return "default"
	}
	return ""
}

// Given is a value for a key that somebody gave.
type Given struct {
	Name   string
	Text   string
	Origin Origin
}

// Problem is one thing that is wrong with what was given.
type Problem struct {
	Where string // as Origin.Where
	What  string // one line
	Hint  string // what mends it; may be empty
}

package shape

import (
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

// Pinned is a version of a parameter as a command takes it from the store.
type Pinned struct {
	Name     string            `json:"name"`
	Selector string            `json:"selector,omitempty"` // as the command's texts have it
	Born     int64             `json:"born"`               // Unix milliseconds
	Version  uint32            `json:"version"`
	Digest   fleet.ID          `json:"digest"`
	Tags     map[string]string `json:"tags,omitempty"`
	List     bool              `json:"list,omitempty"`
	Secret   bool              `json:"secret,omitempty"`
	Value    []byte            `json:"value,omitempty"` // base64; of a plain one
}

func ofParams(all []exec.ParamRef) []Pinned {
	var out []Pinned
	for _, p := range all {
		out = append(out, Pinned(p))
	}
	return out
}

func paramsOf(all []Pinned) []exec.ParamRef {
	var out []exec.ParamRef
	for _, p := range all {
		out = append(out, exec.ParamRef(p))
	}
	return out
}

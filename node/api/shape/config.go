package shape

import (
	"github.com/muster-fleet/muster/node/config"
)

// Config is what counts on one host.
type Config struct {
	Format  int           `json:"format"`
	Running bool          `json:"running"` // the agent said so; else it was worked out from what lies on the disk
	File    string        `json:"file"`    // the configuration file; empty: there is none
	Values  []ConfigValue `json:"values"`
	// Problems are what kept the agent from taking the newest configuration: it goes on with the one before.
	Problems []ConfigProblem `json:"problems,omitempty"`
	// Later are the keys whose new values only the agent's next start takes.
	Later []string `json:"later,omitempty"`
}

// ConfigValue is what counts for one key.
type ConfigValue struct {
	Key    string `json:"key"`
	Value  string `json:"value"`           // empty: what Without says
	Source string `json:"source"`          // command, flag, environment, file, data folder, preset, default
	Where  string `json:"where,omitempty"` // as people find it: --bind, $MUSTER_BIND, FILE:LINE
	Live   bool   `json:"live"`            // a running agent takes a new value
}

// ConfigProblem is one thing that is wrong with a configuration.
type ConfigProblem struct {
	Where string `json:"where"`
	What  string `json:"what"`
	Hint  string `json:"hint,omitempty"`
}

// OfConfig returns the shape of a configuration.
func OfConfig(c config.Config) []ConfigValue {
	var out []ConfigValue
	for _, v := range c.All() {
		k, _ := config.Find(v.Name)
		out = append(out, ConfigValue{Key: v.Name, Value: v.Text, Source: v.Origin.Source.String(), Where: v.Origin.Where, Live: k.Live})
	}
	return out
}

// OfConfigProblems returns the shape of problems.
func OfConfigProblems(all []config.Problem) []ConfigProblem {
	var out []ConfigProblem
	for _, p := range all {
		out = append(out, ConfigProblem(p))
	}
	return out
}

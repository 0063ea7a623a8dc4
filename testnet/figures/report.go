package main

import (
	"encoding/json"
	"time"
)

// format is the version of the JSON; it changes when a key comes to mean something else. New keys may come.
const format = 1

// report is all that one call of the command found.
type report struct {
	began   time.Time
	took    time.Duration
	version string // of the muster that was measured
	machine machine
	binary  []figure
	alone   []figure // what is measured of other fleets than of namespace hosts
	fleets  []fleetReport
}

// fleetReport is what was found with one size of fleet.
type fleetReport struct {
	nodes      int
	loadBefore load
	loadAfter  load
	figures    []figure
	failures   []string // what did not work
}

// failed reports whether anything did not work.
func (r report) failed() bool {
	for _, f := range r.fleets {
		if len(f.failures) > 0 {
			return true
		}
	}
	return false
}

// The shapes of the JSON. Every number has its unit in its key, or in the key of the figure that it is the value of.
type (
	reportJSON struct {
		Format  int                   `json:"format"`
		Began   time.Time             `json:"began"`
		Took    float64               `json:"took_seconds"`
		Version string                `json:"muster_version"`
		Machine machineJSON           `json:"machine"`
		Binary  map[string]figureJSON `json:"binary"`
		Alone   map[string]figureJSON `json:"alone"`
		Fleets  []fleetJSON           `json:"fleets"`
	}
	machineJSON struct {
		CPUs       int    `json:"cpus"`
		CPU        string `json:"cpu_model"`
		Memory     int64  `json:"memory_bytes"`
		Kernel     string `json:"kernel"`
		Disk       string `json:"disk"`
		LoadBefore load   `json:"load_before"`
		LoadAfter  load   `json:"load_after"`
	}
	fleetJSON struct {
		Nodes      int                   `json:"nodes"`
		LoadBefore load                  `json:"load_before"`
		LoadAfter  load                  `json:"load_after"`
		Figures    map[string]figureJSON `json:"figures"`
		Failures   []string              `json:"failures"`
	}
	figureJSON struct {
		Value float64  `json:"value"`
		Aim   *float64 `json:"aim"`                // null: none
		Least bool     `json:"at_least,omitempty"` // the value should not be below the aim; else not above
		Met   *bool    `json:"met"`                // null: there is no aim
		What  string   `json:"what"`
		Note  string   `json:"note,omitempty"`
	}
)

func (r report) json() ([]byte, error) {
	out := reportJSON{
		Format: format, Began: r.began.UTC().Truncate(time.Second), Took: r.took.Seconds(), Version: r.version,
		Machine: machineJSON(r.machine), Binary: figuresJSON(r.binary),
		Alone: figuresJSON(r.alone), Fleets: []fleetJSON{},
	}
	for _, f := range r.fleets {
		failures := f.failures
		if failures == nil {
			failures = []string{}
		}
		out.Fleets = append(out.Fleets, fleetJSON{f.nodes, f.loadBefore, f.loadAfter, figuresJSON(f.figures), failures})
	}
	raw, err := json.MarshalIndent(out, "", "  ")
	return append(raw, '\n'), err
}

func figuresJSON(figures []figure) map[string]figureJSON {
	out := map[string]figureJSON{}
	for _, f := range figures {
		j := figureJSON{Value: f.value, What: f.name, Note: f.note}
		if f.aim != 0 {
			aim, met := f.aim, f.met()
			j.Aim, j.Met, j.Least = &aim, &met, f.least
		}
		out[f.key] = j
	}
	return out
}

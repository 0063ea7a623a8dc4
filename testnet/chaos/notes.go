package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/check"
)

// note is one line that a run left.
type note struct {
	what    string // start, stop, end
	at      time.Time
	command fleet.UUID
	node    string
	op      int
	pid     int
	rest    string // of start: fingerprint; of end: exit code
}

// readNotes reads a host's notes. A line that a power cut broke off is left out.
func readNotes(text string) []note {
	var out []note
	for line := range strings.Lines(text) {
		if n, ok := readNote(strings.TrimSuffix(line, "\n")); ok && strings.HasSuffix(line, "\n") {
			out = append(out, n)
		}
	}
	return out
}

func readNote(line string) (n note, ok bool) {
	f := strings.Split(line, " ")
	if len(f) != 7 {
		return n, false
	}
	nanos, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		return n, false
	}
	n = note{what: f[0], at: time.Unix(0, nanos), node: f[3], rest: f[6]}
	if n.command, err = fleet.ParseUUID(f[2]); err != nil {
		return n, false
	}
	if n.op, err = strconv.Atoi(f[4]); err != nil {
		return n, false
	}
	n.pid, err = strconv.Atoi(f[5])
	return n, err == nil
}

// runsOf makes runs of one host's notes. host is where they lay: a run that says it is elsewhere is reported where it was.
func runsOf(host string, all []note, asks map[int]Ask) []check.Run {
	var out []check.Run
	for _, n := range all {
		switch n.what {
		case "start":
			out = append(out, check.Run{Command: n.command, Node: host, Began: n.at, Did: n.rest + told(n, host), Writes: asks[n.op].writes(host)})
		case "stop":
			if r := newest(out, n); r != nil && r.Stopped.IsZero() {
				r.Stopped = n.at
			}
		case "end":
			if code, err := strconv.Atoi(n.rest); err == nil {
				if r := newest(out, n); r != nil {
					r.End = &check.End{At: n.at, Exit: code}
				}
			}
		}
	}
	return out
}

// told says where a run believes to be, if that is not where it is.
func told(n note, host string) string {
	if n.node == host {
		return ""
	}
	return ", as if on " + n.node
}

// newest returns the last run of a note's command.
func newest(runs []check.Run, n note) *check.Run {
	for i := len(runs) - 1; i >= 0; i-- {
		if runs[i].Command == n.command {
			return &runs[i]
		}
	}
	return nil
}

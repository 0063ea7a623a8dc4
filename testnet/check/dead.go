package check

import "github.com/muster-fleet/muster/exec"

// Dead finds processes of runs that were killed: by a cancel, by their timeout, or with their host.
func Dead(h History) []Violation {
	v := violations{promise: PromiseDead}
	final := h.final()
	for _, p := range h.Processes {
		said, told := final[key{p.Command, p.Node}]
		switch {
		case !told:
			v.add(p.Command, p.Node, "process %d (%.80s) is alive, and nothing is said of its run", p.PID, p.Text)
		case p.Supervisor && said.Status.Final():
			v.add(p.Command, p.Node, "its run is said to be %s, but its supervisor, process %d, is alive", said.Status, p.PID)
		case !p.Supervisor && killed(said.Status):
			v.add(p.Command, p.Node, "its run is said to be %s, but process %d (%.80s) is alive", said.Status, p.PID, p.Text)
		}
	}
	return v.found
}

// killed reports whether nothing of a run with that status may live. A run that ended by itself may have left a daemon.
func killed(s exec.Status) bool {
	switch s {
	case exec.Success, exec.Failed, exec.InProgress:
		return false
	case exec.Pending, exec.TimedOut, exec.Cancelled, exec.DeliveryTimedOut, exec.Undeliverable, exec.Unknown, exec.Refused, exec.Terminated:
		return true
	}
	return true
}

package shape

import (
	"github.com/muster-fleet/muster/exec"
)

// SSM returns Systems Manager's Status and StatusDetails for one node's part of a command. Where it has no word, the
// status is the nearest that does not promise more, and the details are ours.
func SSM(s exec.Status, reachable bool) (status, details string) {
	switch s {
	case exec.Pending:
		if !reachable {
			return "Delayed", "Delayed"
		}
		return "Pending", "Pending"
	case exec.InProgress:
		return "InProgress", "InProgress"
	case exec.Success, exec.Skipped: // what was skipped counts as a success there
		return "Success", "Success"
	case exec.Failed:
		return "Failed", "Failed"
	case exec.TimedOut:
		return "TimedOut", "ExecutionTimedOut"
	case exec.Cancelled:
		return "Cancelled", "Cancelled"
	case exec.DeliveryTimedOut:
		return "TimedOut", "DeliveryTimedOut"
	case exec.Undeliverable:
		return "Failed", "Undeliverable"
	case exec.Refused:
		return "Failed", "AccessDenied"
	case exec.Terminated:
		return "Cancelled", "Terminated"
	case exec.InvalidPlatform:
		return "Failed", "InvalidPlatform"
	case exec.Unknown: // who waits for a success must not go on
		return "Failed", "Unknown"
	}
	return "Failed", string(s)
}

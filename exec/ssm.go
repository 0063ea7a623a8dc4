package exec

// SSM returns the status and the status details that SSM's GetCommandInvocation has for s. Two have no name there:
// Unknown is a failure with details of its own, and a skipped step succeeded.
func (s Status) SSM() (status, details string) {
	switch s {
	case Pending:
		return "Pending", "Pending"
	case InProgress:
		return "InProgress", "InProgress"
	case Success:
		return "Success", "Success"
	case Skipped:
		return "Success", "Skipped"
	case Failed:
		return "Failed", "Failed"
	case TimedOut:
		return "TimedOut", "ExecutionTimedOut"
	case DeliveryTimedOut:
		return "TimedOut", "DeliveryTimedOut"
	case Cancelled:
		return "Cancelled", "Cancelled"
	case Terminated:
		return "Cancelled", "Terminated"
	case Undeliverable:
		return "Failed", "Undeliverable"
	case InvalidPlatform:
		return "Failed", "InvalidPlatform"
	case Refused:
		return "Failed", "AccessDenied"
	case Unknown:
		return "Failed", "Unknown"
	}
	return "Failed", string(s)
}

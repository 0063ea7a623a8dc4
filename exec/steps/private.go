package steps

import "strings"

// PrivateParents are the folders in which acts of a run make folders for keys and environments that a tool reads from files:
// the first in which that can be done, in memory if possible.
func PrivateParents() []string { return []string{"/dev/shm", "/tmp"} }

// PrivatePrefix begins the names of the folders that acts of a run make there. An act removes its own; what an act that was
// killed leaves is found by its name when the run has ended. Several agents of one machine may run the same command: so the
// run's folder of downloads, which belongs to one agent, is in the name.
func PrivatePrefix(command, downloads string) string {
	const most = 150 // bytes; a name has 255
	return "muster-act-" + command + "-" + strings.ReplaceAll(downloads[max(0, len(downloads)-most):], "/", "_") + "-"
}

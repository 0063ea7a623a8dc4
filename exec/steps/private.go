package steps

// PrivateParents are the folders in which acts of a run make folders for keys and environments that a tool reads from files:
// the first in which that can be done, in memory if possible.
func PrivateParents() []string { return []string{"/dev/shm", "/tmp"} }

// PrivatePrefix begins the names of the folders that acts of a command make there. An act removes its own; what an act that was
// killed leaves is found by its name when the run has ended.
func PrivatePrefix(command string) string { return "muster-act-" + command + "-" }

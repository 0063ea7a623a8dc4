// Package action is what this binary does itself for the steps of documents: it fetches content, asks the host's package
// manager and its container engine, and runs nested documents. Each is a process of its own, in the run's containment and
// as the run's user: Main.
//
// It owns how content becomes files, and the command lines of the tools that it calls. It never decides whether a step may
// run, knows no document beyond what its inputs hold, and starts nothing that outlives it on purpose.
//
// Invariants: a file is whole, on the disk and under its name, or it is not there under that name; secrets are in no
// argument, output or error, and go to no other host than the one they are for; what an archive or a name asks for stays
// below the destination; SIGTERM ends it, and it cleans up; what cannot work on this host is exit code
// steps.ExitInvalidPlatform, what is not built yet says so.
package action

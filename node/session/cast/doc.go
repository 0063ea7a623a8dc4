// Package cast keeps the recordings of sessions: files in asciicast v2 that asciinema's players show, with what they
// leave out (exact bytes, which stream, who and why) in a form that they pass over.
//
// It owns the format, plain or sealed to auditors; writing, reading, replaying and exporting it; and which recordings are kept how
// long. It never decides whether a session is recorded, whether a session outlives its recording (it returns the error, and
// the caller knows what policy says), nor who may read.
//
// Invariants: what Flush returned nil for is in the file, what Sync returned nil for is on the disk; of output that ends
// within a character, that character's one to three bytes alone come with the next. A file that was cut off anywhere reads up to
// the last whole event. What could not be recorded is counted, and the recording says where it is missing. Memory is bounded: a
// writer holds at most 1 MiB, a reader one event. Who holds a sealed recording without an auditor's key learns session, time
// and size; no key of the node opens it, not even for who wrote it.
package cast

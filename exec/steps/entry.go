package steps

// Entry is one line of a run's journal.
//
//sumtype:decl
type Entry interface {
	kind() byte
	body() any
}

// Opened is the first entry: what the run is.
type Opened struct {
	Plan  Plan  // an Outline
	Limit int64 // milliseconds of execution that the run may take in all
}

// Began says that an attempt of a step is about to be started. It is on the disk before its process is, so whatever
// comes after it without an end is in doubt.
type Began struct {
	Step    int    // from 0
	Attempt uint32 // from 1; reboots count
	At      int64  // Unix milliseconds, as all times here
	Boot    string // the host's boot ID
	Stdout  Written
	Stderr  Written
}

// Written says how far a stream has come.
type Written struct {
	Size int64 // bytes that the run wrote
	Kept int64 // of them on the disk
}

// Ended says how the attempt that began last came to its end. What its exit code means is not decided here.
type Ended struct {
	Step     int
	Attempt  uint32
	Status   Status // Success (exit code 0), Failed, TimedOut, Cancelled, InvalidPlatform, or Unknown when its exit was not seen
	ExitCode int    // -1 when a signal ended it, or nothing was started
	Signal   int    // 0 when no signal ended it
	At       int64
	Ran      int64 // milliseconds of execution
	Stdout   Written
	Stderr   Written
	Detail   string // for people, at most MaxWhy bytes
}

// Stopped says that the run was stopped while no step was running.
type Stopped struct {
	Status Status // Cancelled or Failed
	Why    string // for people, at most MaxWhy bytes
	At     int64
}

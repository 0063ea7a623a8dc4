package steps

// Status is what a step came to. The names are SSM's.
type Status string

// The statuses of a step.
const (
	Success         Status = "Success"
	Failed          Status = "Failed"
	TimedOut        Status = "TimedOut"
	Cancelled       Status = "Cancelled"
	Skipped         Status = "Skipped"         // it was not meant for this host, or an earlier step ended the run
	InvalidPlatform Status = "InvalidPlatform" // this host cannot do it
	Unknown         Status = "Unknown"         // it was started, and nobody can say how it ended
)

// Limits of a plan.
const (
	MaxSteps    = 100
	MaxAttempts = 10
	// MaxReboots is how often one step may ask for a reboot and be run again.
	MaxReboots = 10
)

// Flow says what a step's end does to those after it.
type Flow string

// The flows, as documents spell them.
const (
	GoOn           Flow = ""
	Exit           Flow = "exit"           // end the run as this step ended
	SuccessAndExit Flow = "successAndExit" // end the run as a success
)

// Plan is what one run does on this host, with nothing left to resolve.
type Plan struct {
	Steps []Step // 1 to MaxSteps
	Codes bool   // exit codes 194, 168 and 169 mean what they mean in a document; false: they are failures
}

// Step is one step of a plan: a process to run, or a verdict that is known without one.
type Step struct {
	Name   string
	Action string // as the document has it; empty: a plain command

	Argv        []string // one element: a shell line (sh -c); several: an argv. With Script: its arguments
	Script      []byte   // run by its #! line, by Interpreter, else by sh
	Interpreter []string // words before the script's path
	ScriptName  string   // name of the script file; empty: any
	Act         string   // one of this binary's own actions instead of a program: "download", "package", …
	Inputs      []byte   // of Act: JSON, given on its standard input
	Env         []string // K=V, beside the run's own
	Dir         string   // empty: the run's; relative: below the run folder's downloads

	Timeout   int64 // milliseconds
	Attempts  uint32
	OnFailure Flow
	OnSuccess Flow
	Finally   bool // of the last step: it is run also after an exit

	Verdict Status // not empty: no process is run, the step is this (Skipped, Failed, InvalidPlatform)
	Why     string // of Verdict
}

package runner

import (
	"slices"
	"strings"
	"time"

	"github.com/muster-fleet/muster/exec/steps"
	"github.com/muster-fleet/muster/node/fleet"

	"github.com/muster-fleet/muster/exec/account"
)

// Limits of a run.
const (
	// DefaultTimeout is SSM's execution timeout.
	DefaultTimeout = time.Hour
	// DefaultMaxOutput is how many bytes are kept of each stream.
	DefaultMaxOutput = 1 << 30
	// MaxSpec bounds scripts, input, arguments and environment together, in bytes.
	MaxSpec = 16 << 20
	// lateStart is how long after Spec.By the first process of a run may still be started.
	lateStart = 5 * time.Second
	// Grace is the time between SIGTERM and SIGKILL.
	Grace = 5 * time.Second
)

// Spec says what to run. The caller has verified that it may run here and now.
type Spec struct {
	Command fleet.UUID
	Digest  fleet.ID // of the signed body
	Issued  time.Time
	Expires time.Time
	// By is the boot time after which the ledger takes no start of it any more; 0: no such limit. A run that was recorded in
	// time, but whose process is not there lateStart after By, ends as Terminated: the place it was given may be another's.
	By time.Duration

	Plan      steps.Plan    // what is run, step by step
	Env       []string      // NAME=value, added to PATH, HOME, USER, LOGNAME, SHELL, MUSTER_COMMAND_ID, SSM_COMMAND_ID
	Dir       string        // "" is the user's home, or / where that does not exist
	User      string        // "" is the agent's own
	Stdin     []byte        // what the first step reads; empty is an end of file at once
	Timeout   time.Duration // of execution, reboots not counted; 0 is DefaultTimeout; on the boot clock
	MaxOutput int64         // bytes kept per stream; 0 is DefaultMaxOutput

	// Secrets name what the plan and EnvSecrets refer to by number, from 1: for Config.Secret, which opens them before the
	// start, and again when the run goes on behind a restart. The values reach the supervisor in memory and the processes that
	// they are for by environment or standard input; they are masked in all that is kept or told of the run.
	Secrets    [][]byte
	EnvSecrets []steps.Filled // more of Env

	// May is asked when the run has its place, and says why it may not start any more: a queue may be long. Nil: it may.
	May func() error
}

// check returns why the spec cannot be run anywhere, or nil.
func (s Spec) check() error {
	if s.Command.IsZero() {
		return fleet.Errorf(fleet.Invalid, "a run needs a command ID")
	}
	if err := s.Plan.Check(); err != nil {
		return fleet.Errorf(fleet.Invalid, "command %s cannot be run: %w", s.Command, err)
	}
	texts, size := append([]string{s.Dir, s.User}, s.Env...), len(s.Stdin)
	for _, filled := range s.EnvSecrets {
		size += len(filled.Name) + steps.Size(filled.Parts)
	}
	for _, step := range s.Plan.Steps {
		texts = slices.Concat(texts, step.Argv, step.Interpreter, step.Env, []string{step.Dir, step.Act, step.ScriptName})
		size += len(step.Script) + len(step.Inputs) + steps.Size(step.Fill)
		for _, filled := range step.Secrets {
			size += len(filled.Name) + steps.Size(filled.Parts)
		}
	}
	for _, text := range texts {
		if strings.ContainsRune(text, 0) {
			return fleet.Errorf(fleet.Invalid, "command %s has a NUL byte in its arguments, environment or folder", s.Command)
		}
		size += len(text)
	}
	if err := s.checkSecrets(); err != nil {
		return err
	}
	switch {
	case size > MaxSpec:
		return fleet.Errorf(fleet.Exhausted, "command %s has %d bytes of scripts, input and arguments; at most %d run", s.Command, size, MaxSpec)
	case s.Dir != "" && !strings.HasPrefix(s.Dir, "/"):
		return fleet.Errorf(fleet.Invalid, "the folder %q of command %s is not an absolute path", s.Dir, s.Command)
	case s.Timeout < 0 || s.MaxOutput < 0:
		return fleet.Errorf(fleet.Invalid, "command %s has a negative timeout or output limit", s.Command)
	}
	return s.checkEnv()
}

func (s Spec) checkEnv() error {
	all := slices.Clone(s.Env)
	for _, step := range s.Plan.Steps {
		all = append(all, step.Env...)
	}
	for _, e := range all {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" {
			return fleet.Errorf(fleet.Invalid, "command %s has an environment entry that is not NAME=value", s.Command)
		}
	}
	return nil
}

// order is what the agent hands to a supervisor, in memory (a memfd): scripts and input may be nobody else's business. The
// order of a plan with a journal lies in the run folder as well until the run has ended: who goes on needs it. So the
// values of secrets are not in it, but in a memfd of their own.
type order struct {
	Format    int
	Command   [16]byte
	Digest    [32]byte
	Issued    int64
	Expires   int64
	By        int64 // nanoseconds on the boot clock; see Spec
	BootID    string
	Plan      steps.Plan
	Act       []string       // argv before the name of an act
	Env       []string       // of every step
	Filled    []steps.Filled // more of Env
	Secrets   [][]byte       // Spec.Secrets
	Opened    bool           // this supervisor is given their values
	Dir       string
	DirIsHome bool // Dir was not asked for: if it does not exist, / will do
	Downloads string
	Drop      bool // change to UID, GID and Groups
	UID       int
	GID       int
	Groups    []int
	Stdin     []byte
	Timeout   int64 // nanoseconds
	Grace     int64
	MaxOutput int64
	Contain   string
	Cgroup    string // name of the run's cgroup
	Resume    bool   // the run folder has a journal: go on where it ends
	Stop      string // with Resume, not empty: begin nothing more, the run is this
	StopWhy   string
}

// orderFormat is the version of the order.
const orderFormat = 3

// makeOrder resolves a checked spec for the host it runs on.
func makeOrder(s Spec, who account.Account, drop bool, boot string) order {
	o := order{Format: orderFormat, Command: s.Command, Digest: s.Digest, Issued: unixNano(s.Issued), Expires: unixNano(s.Expires),
		By: int64(s.By), BootID: boot, Plan: s.Plan, Env: who.Environment(s.Env...), Dir: s.Dir, Stdin: s.Stdin,
		Timeout: int64(s.Timeout), Grace: int64(Grace), MaxOutput: s.MaxOutput, Filled: s.EnvSecrets, Secrets: s.Secrets}
	if o.Dir == "" {
		o.Dir, o.DirIsHome = who.Home, true
	}
	if drop {
		o.Drop, o.UID, o.GID, o.Groups = true, who.UID, who.GID, who.Groups
	}
	if o.Timeout == 0 {
		o.Timeout = int64(DefaultTimeout)
	}
	if o.MaxOutput == 0 {
		o.MaxOutput = DefaultMaxOutput
	}
	return o
}

// Variables that no order and no step can set otherwise.
const (
	// commandIDVar tells a run, and whoever looks for its processes, which command it is.
	commandIDVar = "MUSTER_COMMAND_ID"
	// ssmCommandIDVar says the same to scripts that were written for SSM.
	ssmCommandIDVar = "SSM_COMMAND_ID"
	// downloadsVar tells the steps of a document where their relative folders lie.
	downloadsVar = "MUSTER_DOWNLOADS"
)

// stepEnvironment is the environment of one step's process.
func (o order) stepEnvironment(step steps.Step) []string {
	command := fleet.UUID(o.Command).String()
	all := slices.Concat(o.Env, step.Env, []string{commandIDVar + "=" + command, ssmCommandIDVar + "=" + command})
	if !o.Plan.Plain() {
		all = append(all, downloadsVar+"="+o.Downloads)
	}
	return account.LastOfEach(all)
}

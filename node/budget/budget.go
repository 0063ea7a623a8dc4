package budget

import (
	"fmt"
	"time"
)

// Budget is what an agent's own process may take; what it runs for others is not counted. Zero means no bound.
type Budget struct {
	MemoryBytes int64 // of its own, without files that the kernel can drop (RssAnon)
	CPUPercent  int   // of one processor, over some minutes
}

// Sample is what the process took at a moment.
type Sample struct {
	Boot   time.Duration // time since boot
	Memory int64         // bytes, as Budget.MemoryBytes counts
	CPU    time.Duration // processor time of the process since it began
}

// Act is one thing to do. Why has the figures.
type Act struct {
	Do  Do
	Why string
}

// Do is a kind of act.
type Do uint8

// The acts. Return: collect garbage and give memory back. Refuse: take no new sessions and nothing large until Admit. Restart:
// start the agent anew, in place; what it runs goes on.
const (
	Return Do = iota + 1
	Refuse
	Admit
	Restart
)

// String returns the act's name in logs and metrics.
func (d Do) String() string {
	switch d {
	case Return:
		return "return memory"
	case Refuse:
		return "refuse sessions and bulk"
	case Admit:
		return "admit sessions and bulk"
	case Restart:
		return "restart"
	}
	return fmt.Sprintf("act %d", d)
}

// Shares of a budget, in percent, and times.
const (
	returnAt  = 80  // of memory: collected before the budget is reached
	refuseAt  = 100 // of either
	admitAt   = 75  // of either: well below
	restartAt = 150 // of memory: what collecting and refusing did not stop is a leak

	// ReturnEvery spaces collections: each takes the processor for a moment.
	ReturnEvery = 30 * time.Second
	// HoldMemory is how long memory may be over its budget before sessions are refused: a collection comes first, and its
	// effect is seen in the next sample.
	HoldMemory = 20 * time.Second
	// HoldRestart is how long memory may be far over its budget before the agent starts anew.
	HoldRestart = 2 * time.Minute
	// CPUWindow is the time over which processor time is averaged: a burst of work is what a processor is for.
	CPUWindow = 5 * time.Minute
	// HoldCPU is how long the average may be over its budget before the agent starts anew: no honest work of an agent is so
	// long, and a loop that spins is mended by it.
	HoldCPU = 30 * time.Minute
	// RestartEvery spaces restarts: one that mends nothing must not become a habit.
	RestartEvery = time.Hour
	// Settle is how long after its start nothing is judged: opening the folder takes more than living.
	Settle = time.Minute
)

// Watch is what has been seen so far. The zero value is not used: New makes one.
type Watch struct {
	budget   Budget
	began    time.Duration
	restart  time.Duration // boot time of the last restart for the budget's sake; negative: none in this boot
	returned time.Duration // boot time of the last collection
	over     span          // memory over the budget
	far      span          // memory far over it
	hot      span          // average of the processor over the budget
	window   []Sample      // for the average, the oldest first
	refusing string        // why; "": not
}

// span is since when something holds; held false: it does not.
type span struct {
	held  bool
	since time.Duration
}

func (s span) next(holds bool, at time.Duration) span {
	switch {
	case !holds:
		return span{}
	case s.held:
		return s
	}
	return span{true, at}
}

func (s span) longer(than, at time.Duration) bool { return s.held && at-s.since >= than }

// New returns the watch of a process that begins at a boot time. restarted is the boot time of the last restart for the
// budget's sake, in this boot of the host; negative: there was none.
func New(b Budget, began, restarted time.Duration) Watch {
	return Watch{budget: b, began: began, restart: restarted, returned: began - ReturnEvery}
}

// Within returns the watch under another budget: a host's configuration is read again while its agent runs.
func (w Watch) Within(b Budget) Watch {
	w.budget = b
	return w
}

// Refusing returns why nothing large is taken now; "": it is.
func (w Watch) Refusing() string { return w.refusing }

// Step takes a sample and says what to do, in that order. The old watch is not to be used again.
func (w Watch) Step(s Sample) (Watch, []Act) {
	if s.Boot-w.began < Settle || w.budget == (Budget{}) && w.refusing == "" {
		return w, nil
	}
	w.window = within(append(w.window, s), s.Boot)
	load, known := average(w.window)
	m, c := share(s.Memory, w.budget.MemoryBytes), share(load, int64(w.budget.CPUPercent))
	if !known {
		c = 0
	}
	w.over = w.over.next(m >= refuseAt, s.Boot)
	w.far = w.far.next(m >= restartAt, s.Boot)
	w.hot = w.hot.next(c >= refuseAt, s.Boot)

	var acts []Act
	if m >= returnAt && s.Boot-w.returned >= ReturnEvery {
		w.returned = s.Boot
		acts = append(acts, Act{Return, w.memoryText(s)})
	}
	if why := w.restartWhy(s, load); why != "" {
		w.restart, w.far, w.hot = s.Boot, span{}, span{}
		return w, append(acts, Act{Restart, why})
	}
	switch why := w.refuseWhy(s, load); {
	case w.refusing == "" && why != "":
		w.refusing = why
		acts = append(acts, Act{Refuse, why})
	case w.refusing != "" && m < admitAt && c < admitAt:
		w.refusing = ""
		acts = append(acts, Act{Admit, w.wellText(s, load)})
	}
	return w, acts
}

func (w Watch) refuseWhy(s Sample, load int64) string {
	switch {
	case w.over.longer(HoldMemory, s.Boot):
		return w.memoryText(s)
	case w.hot.held:
		return w.cpuText(load)
	}
	return ""
}

func (w Watch) restartWhy(s Sample, load int64) string {
	if w.restart >= 0 && s.Boot-w.restart < RestartEvery {
		return ""
	}
	switch {
	case w.far.longer(HoldRestart, s.Boot):
		return fmt.Sprintf("%s for %s, whatever was given back", w.memoryText(s), HoldRestart)
	case w.hot.longer(HoldCPU, s.Boot):
		return fmt.Sprintf("%s for %s", w.cpuText(load), HoldCPU)
	}
	return ""
}

func (w Watch) memoryText(s Sample) string {
	return fmt.Sprintf("%d MiB of memory, and its budget is %d MiB", s.Memory>>20, w.budget.MemoryBytes>>20)
}

func (w Watch) cpuText(load int64) string {
	return fmt.Sprintf("%d %% of a processor over %s, and its budget is %d %%", load, CPUWindow, w.budget.CPUPercent)
}

func (w Watch) wellText(s Sample, load int64) string {
	return fmt.Sprintf("%d MiB of memory, %d %% of a processor", s.Memory>>20, load)
}

// share returns what a value is of its bound, in percent; 0 without a bound.
func share(value, bound int64) int64 {
	if bound <= 0 || value <= 0 {
		return 0
	}
	return min(value, 1<<50) * 100 / bound
}

// maxWindow bounds the samples that are kept, whatever their pace.
const maxWindow = 128

// within drops samples that the window does not need any more: it begins with the newest one that is a window old.
func within(samples []Sample, now time.Duration) []Sample {
	for len(samples) > 1 && (now-samples[1].Boot >= CPUWindow || len(samples) > maxWindow) {
		samples = samples[1:]
	}
	return samples
}

// average returns the load over the window, in percent of one processor; known is false until the window is full.
func average(samples []Sample) (percent int64, known bool) {
	first, last := samples[0], samples[len(samples)-1]
	span := last.Boot - first.Boot
	if span < CPUWindow {
		return 0, false
	}
	return int64((last.CPU - first.CPU) * 100 / span), true
}

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/fleet"
)

// What of a host is too little, or too slow.
const (
	// scantDisk is how much room on the data folder's disk is too little: what ledger and audit set aside. Below tightDisk, or a
	// tenth of a small disk, somebody should look.
	scantDisk  = 16 << 20
	tightDisk  = 256 << 20
	scantFiles = 1000 // inodes
	// A leader's every write waits for a majority's fsync, and raft's elections begin after 2 s without a word.
	slowFsync = 100 * time.Millisecond
	deadFsync = time.Second
	// scantMemory is how much memory a host may have left before the kernel begins to kill.
	scantMemory = 32 << 20
	// fileShare is how many of its descriptors an agent may have open, in percent.
	fileShare = 80
)

func agentFindings(e examined) []shape.Finding {
	switch {
	case e.agent == nil && !e.founded:
		return []shape.Finding{ill("agent", levelProblem, "this host is in no fleet yet",
			e.dir+" holds no host's identity", "muster join --join-file FILE (muster init founds a fleet)")}
	case e.agent == nil && fleet.KindOf(e.silent) == fleet.NotFound:
		return []shape.Finding{ill("agent", levelNote, "the agent is of an older version, and tells only what its data folder takes", "", "upgrade it: muster upgrade")}
	case e.agent == nil:
		return []shape.Finding{ill("agent", levelProblem, "no agent answers on this host: what needs one was not looked at",
			firstLine(e.silent.Error()), startAgent(e.service))}
	}
	p := e.agent.Process
	out := []shape.Finding{fine("agent", fmt.Sprintf("process %d, version %s, up %s, %s of memory", p.PID, p.Version, age(e.agent.Now.Sub(p.Began)), byteText(p.RSS)))}
	if p.Stuck {
		out = append(out, ill("agent", levelProblem, "the agent's loop is stuck: nothing is started or heard here", "it has ended no turn for three seconds", "muster debug bundle (it holds where it hangs); then systemctl restart muster"))
	}
	if p.Replaced {
		out = append(out, ill("agent", levelWarning, "the agent runs a program that is not on the disk any more",
			"its file was replaced or removed since it started", "systemctl restart muster (what it runs goes on)"))
	}
	if p.FileLimit > 0 && int64(p.Files)*100 >= p.FileLimit*fileShare {
		out = append(out, ill("agent", levelProblem, "the agent is about to run out of file descriptors",
			fmt.Sprintf("%d are open of %d", p.Files, p.FileLimit), "systemctl edit muster: LimitNOFILE=65536; and tell us what it does: muster debug bundle"))
	}
	if !p.Root {
		out = append(out, ill("agent", levelNote, "the agent does not run as root", "commands run here as its account, and no other", ""))
	}
	return out
}

func startAgent(s serviceCheck) string {
	switch {
	case s.manager == "systemd" && s.installed:
		return "systemctl start muster; journalctl -u muster -n 50 says why it ended"
	case s.manager == "openrc" && s.installed:
		return "rc-service muster start; /var/log/muster.log says why it ended"
	}
	return "muster agent (muster agent install makes a service of it)"
}

func serviceFindings(e examined) []shape.Finding {
	s := e.service
	if s.manager == "" {
		return nil
	}
	if !s.installed {
		return []shape.Finding{ill("service", levelNote, "the agent is no service of this host: it does not start with it", "no unit of "+s.manager+" starts it", "sudo muster agent install")}
	}
	var out []shape.Finding
	switch s.active {
	case "active", "started":
	case "failed":
		out = append(out, ill("service", levelProblem, "the service has failed: "+s.result, s.last, "journalctl -u muster -n 50; systemctl restart muster"))
	case "activating":
		out = append(out, ill("service", levelProblem, "the service does not come up: it is started again and again", fmt.Sprintf("result %s, %d restarts; %s", s.result, s.restarts, s.last), "journalctl -u muster -n 50"))
	default:
		out = append(out, ill("service", levelWarning, "the service is "+s.active, s.last, startAgent(s)))
	}
	if !s.enabled {
		out = append(out, ill("service", levelWarning, "the agent does not start with this host", "the service is not enabled", enableAgent(s)))
	}
	if s.restarts > 0 && s.active == "active" {
		out = append(out, ill("service", levelWarning, fmt.Sprintf("the agent ended by itself and was started again, %d times", s.restarts), "the last result: "+s.result, "journalctl -u muster | grep -v level=INFO | tail -n 50"))
	}
	if len(out) == 0 {
		out = append(out, fine("service", s.manager+": running, starts with the host"))
	}
	return out
}

func enableAgent(s serviceCheck) string {
	if s.manager == "openrc" {
		return "rc-update add muster default"
	}
	return "systemctl enable muster"
}

func configFindings(e examined) []shape.Finding {
	problems := e.config
	if e.agent != nil {
		problems = append(slices.Clone(e.agent.Config), problems...)
	}
	slices.Sort(problems)
	var out []shape.Finding
	for _, p := range slices.Compact(problems) {
		out = append(out, ill("config", levelProblem, "the configuration cannot be taken as it stands", p, "muster config check; then systemctl reload muster"))
	}
	return out
}

func diskFindings(e examined) []shape.Finding {
	h := e.host
	if h.Dir == "" { // an older agent, or one elsewhere: its stores say what is left
		for _, s := range e.stores {
			h.Dir, h.Free, h.Total, h.FreeFiles = s.Path, s.Free, s.Free, -1
		}
	}
	if h.DirError != "" {
		if e.agent == nil && !e.founded {
			return nil // there is none yet
		}
		return []shape.Finding{ill("disk", levelProblem, "the data folder cannot be looked at", h.DirError, "ls -ld "+h.Dir)}
	}
	var out []shape.Finding
	df := "df -h " + h.Dir + "; du -xh --max-depth=2 " + h.Dir + " | sort -h | tail"
	switch {
	case h.Dir == "":
	case h.ReadOnly:
		out = append(out, ill("disk", levelProblem, "the data folder's file system is read-only: nothing can be run or kept here", h.Dir,
			"dmesg | tail (the kernel says why); mount -o remount,rw the file system"))
	case h.Free < scantDisk:
		out = append(out, ill("disk", levelProblem, "the disk of the data folder is full: nothing can be run or kept here", fmt.Sprintf("%s left at %s", byteText(h.Free), h.Dir), df))
	case h.Free < min(tightDisk, h.Total/10):
		out = append(out, ill("disk", levelWarning, "the disk of the data folder is nearly full", fmt.Sprintf("%s left of %s at %s", byteText(h.Free), byteText(h.Total), h.Dir), df))
	}
	if h.FreeFiles >= 0 && h.FreeFiles < scantFiles {
		out = append(out, ill("disk", levelProblem, "the disk of the data folder takes no more files", fmt.Sprintf("%d inodes are left", h.FreeFiles), "df -i "+h.Dir))
	}
	fsync, worst := time.Duration(h.Fsync)*time.Microsecond, time.Duration(h.FsyncWorst)*time.Microsecond
	took := fmt.Sprintf("fsync takes %s, at worst %s", short(fsync), short(worst))
	switch {
	case h.FsyncError != "" && (h.ReadOnly || h.Free < scantDisk): // which says it
	case h.FsyncError != "":
		out = append(out, ill("disk", levelProblem, "the data folder takes no file", h.FsyncError, df))
	case fsync >= deadFsync:
		out = append(out, ill("disk", levelProblem, "the disk is so slow that servers lose their lead over it", took, "iostat -x 1; smartctl -a; dmesg | tail"))
	case fsync >= slowFsync || worst >= deadFsync:
		out = append(out, ill("disk", levelWarning, "the disk is slow: every command waits for it", took, "iostat -x 1 shows who uses it"))
	}
	for _, text := range boundIlls(e.stores) {
		out = append(out, ill("disk", levelProblem, text, "", df))
	}
	if len(out) == 0 && h.Dir != "" {
		out = append(out, fine("disk", fmt.Sprintf("%s left, %s", byteText(h.Free), took)))
	}
	return out
}

// boundIlls lists the parts of the data folder that are over their bounds.
func boundIlls(stores []api.Store) []string {
	var ills []string
	for _, s := range stores {
		if s.Bound > 0 && s.Bytes > s.Bound {
			ills = append(ills, fmt.Sprintf("%s takes %s, more than its bound of %s (%s)", s.What, byteText(s.Bytes), byteText(s.Bound), s.Path))
		}
	}
	slices.Sort(ills)
	return slices.Compact(ills)
}

func fileFindings(e examined) []shape.Finding {
	h := e.host
	if len(h.Loose) == 0 {
		if h.DirError != "" || h.Dir == "" {
			return nil
		}
		return []shape.Finding{fine("files", "the data folder is closed to other accounts")}
	}
	evidence := strings.Join(h.Loose, ", ")
	if h.LooseMore > 0 {
		evidence += fmt.Sprintf(" and %d more", h.LooseMore)
	}
	return []shape.Finding{ill("files", levelProblem, "other accounts of this host may get at its keys", evidence,
		fmt.Sprintf("chmod 700 %s; then muster agent generalize and a new join, if somebody may have read them", h.Dir))}
}

func memoryFindings(e examined) []shape.Finding {
	if h := e.host; h.MemTotal > 0 && h.MemFree < scantMemory {
		return []shape.Finding{ill("memory", levelWarning, "this host is nearly out of memory", fmt.Sprintf("%s available of %s", byteText(h.MemFree), byteText(h.MemTotal)), "ps aux --sort=-rss | head")}
	}
	return nil
}

func coreFindings(e examined) []shape.Finding {
	switch {
	case e.agent == nil:
		return nil
	case e.agent.Process.Dumpable:
		return []shape.Finding{ill("cores", levelWarning, "a crash of the agent could write its keys into a core file", "the process is dumpable", "systemctl restart muster; ulimit -c")}
	}
	return []shape.Finding{fine("cores", "off")}
}

func budgetFindings(e examined) []shape.Finding {
	if e.agent == nil || e.agent.Budget.Memory == 0 && e.agent.Budget.CPU == 0 {
		return nil
	}
	b := e.agent.Budget
	var bounds []string
	if b.Memory > 0 {
		bounds = append(bounds, byteText(b.Memory)+" of memory")
	}
	if b.CPU > 0 {
		bounds = append(bounds, fmt.Sprintf("%d %% of a processor", b.CPU))
	}
	within := strings.Join(bounds, ", ")
	mend := "muster config show; memory.budget and cpu.budget are what it keeps to; muster debug bundle holds what it spends them on"
	if b.Refusing != "" {
		return []shape.Finding{ill("budget", levelProblem, "the agent is over its budget, and takes no new sessions and nothing large", b.Refusing, mend)}
	}
	for _, a := range slices.Backward(b.Acts) {
		if a.What != "return memory" {
			return []shape.Finding{ill("budget", levelWarning, fmt.Sprintf("the agent had to keep to its budget (%s): %s, %s ago", within, a.What, age(e.agent.Now.Sub(a.At))), a.Why, mend)}
		}
	}
	return []shape.Finding{fine("budget", within)}
}

// age writes a time span as people say it, in its largest two units.
func age(d time.Duration) string {
	d = max(d, 0)
	days, hours, minutes := int(d.Hours())/24, int(d.Hours())%24, int(d.Minutes())%60
	switch {
	case days >= 10:
		return fmt.Sprintf("%d d", days)
	case days > 0:
		return fmt.Sprintf("%d d %d h", days, hours)
	case hours > 0:
		return fmt.Sprintf("%d h %d min", hours, minutes)
	case minutes > 0:
		return fmt.Sprintf("%d min", minutes)
	}
	return fmt.Sprintf("%d s", int(d.Seconds()))
}

// short writes a measured time with two digits or so.
func short(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d >= time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d >= 10*time.Millisecond:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d >= 100*time.Microsecond:
		return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
	}
	return fmt.Sprintf("%d µs", d.Microseconds())
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

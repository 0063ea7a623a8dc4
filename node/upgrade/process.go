package upgrade

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// process is the agent's, as it was found, with all that it takes to start it again.
type process struct {
	pid      int
	space    string // its mount namespace: an agent in a container on this host is another
	argv     []string
	env      []string
	dir      string
	users    string   // whose it is, as the kernel writes it
	out, err *os.File // where it writes to; nil: that cannot be opened
	unit     string   // systemd's, "" if it is in none
	kept     bool     // somebody starts it again when it ends
	mask     int      // of the modes of its files; -1: unknown
	oom      []byte   // its score for when memory runs out
	groups   groups
}

// agentAt finds the process that answers at a socket.
func agentAt(socket string) (*process, error) {
	conn, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return nil, fleet.Errorf(fleet.Unavailable, "no agent answers at %s: %w", socket, bare(err))
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	var peer *syscall.Ucred
	var asked error
	if err := raw.Control(func(fd uintptr) {
		peer, asked = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return nil, err
	}
	if asked != nil || peer.Pid == 0 {
		return nil, fleet.Errorf(fleet.Unavailable, "the kernel does not say which process the agent at %s is: the upgrade must run in its PID namespace", socket)
	}
	return take(int(peer.Pid))
}

func take(pid int) (*process, error) {
	p := &process{pid: pid, argv: words(pid, "cmdline"), env: words(pid, "environ"), users: stated(pid, "Uid"), unit: unitOf(pid),
		mask: maskOf(pid), groups: groupsOf(strconv.Itoa(pid))}
	p.kept = p.unit != "" || keeps(stated(pid, "PPid"))
	p.oom, _ = os.ReadFile(proc(pid, "oom_score_adj"))
	var err1, err2 error
	p.space, err1 = os.Readlink(proc(pid, "ns/mnt"))
	p.dir, err2 = os.Readlink(proc(pid, "cwd"))
	if err := errors.Join(err1, err2); err != nil || len(p.argv) == 0 {
		return nil, fleet.Errorf(fleet.Denied, "cannot look at the agent, process %d: %w", pid, err).Hinted("the upgrade runs as root: leave --user out")
	}
	p.out, p.err = outlet(proc(pid, "fd/1")), outlet(proc(pid, "fd/2"))
	return p, nil
}

// outlet opens what a process writes to, or returns nil. A pipe that nobody reads any more is not waited for, and a terminal does
// not become ours.
func outlet(path string) *os.File {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil
	}
	if err := syscall.SetNonblock(int(f.Fd()), false); err != nil { // who inherits it writes as the one before did
		f.Close()
		return nil
	}
	return f
}

func (p *process) close() {
	for _, f := range []*os.File{p.out, p.err} {
		if f != nil {
			f.Close()
		}
	}
}

func proc(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }

func words(pid int, name string) []string {
	raw, err := os.ReadFile(proc(pid, name))
	if err != nil || len(raw) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(raw), "\x00"), "\x00")
}

// stated returns a line of what the kernel states of a process, "" if it has none. The owner of its folder in /proc says less: that
// is root for whoever has switched its dumps off.
func stated(pid int, name string) string {
	raw, _ := os.ReadFile(proc(pid, "status"))
	for line := range strings.Lines(string(raw)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func maskOf(pid int) int {
	mask, err := strconv.ParseUint(stated(pid, "Umask"), 8, 16)
	if err != nil { // before Linux 4.7
		return -1
	}
	return int(mask)
}

// keeps reports whether a process is one of those that start again what ends; a name in /proc has 15 letters at most. systemd is known
// by its unit.
func keeps(pid string) bool {
	name, _ := os.ReadFile("/proc/" + pid + "/comm")
	return slices.Contains([]string{"supervise-daemo", "runsv", "s6-supervise", "supervise", "dinit", "supervisord", "monit"}, strings.TrimSpace(string(name)))
}

// unitOf returns the systemd unit that a process belongs to.
func unitOf(pid int) string {
	raw, _ := os.ReadFile(proc(pid, "cgroup"))
	for line := range strings.Lines(string(raw)) {
		if name := filepath.Base(strings.TrimSpace(line)); strings.HasSuffix(name, ".service") {
			return name
		}
	}
	return ""
}

// running returns the file that the process runs, also where that has no name any more; program the path that it had.
func (p *process) running() (running, program string, err error) {
	running = proc(p.pid, "exe")
	program, err = os.Readlink(running)
	return running, strings.TrimSuffix(program, " (deleted)"), err
}

// runs reports whether the process that was found runs the program of that digest.
func (p *process) runs(sum string) bool {
	got, err := sumOf(proc(p.pid, "exe"))
	return err == nil && got == sum
}

// lives lists the processes that are this agent: the one that was found, and those that were started like it since.
func (p *process) lives() []int {
	all, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []int
	for _, entry := range all {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() || !slices.Equal(words(pid, "cmdline"), p.argv) || dead(pid) {
			continue
		}
		if p.alike(pid) {
			out = append(out, pid)
		}
	}
	return out
}

// alike reports whether a process with the same arguments is this agent: agents may differ by their folder or environment alone,
// and what another user starts like it is none.
func (p *process) alike(pid int) bool {
	if stated(pid, "Uid") != p.users {
		return false
	}
	space, err1 := os.Readlink(proc(pid, "ns/mnt"))
	dir, err2 := os.Readlink(proc(pid, "cwd"))
	return err1 == nil && err2 == nil && space == p.space && dir == p.dir && slices.Equal(ours(words(pid, "environ")), ours(p.env))
}

// ours are the variables that an agent goes by, sorted.
func ours(env []string) (out []string) {
	for _, kv := range env {
		if strings.HasPrefix(kv, "MUSTER_") || strings.HasPrefix(kv, "HOME=") {
			out = append(out, kv)
		}
	}
	slices.Sort(out)
	return out
}

// dead reports whether a process has ended and at most waits for its parent.
func dead(pid int) bool {
	raw, err := os.ReadFile(proc(pid, "stat"))
	_, rest, ok := strings.Cut(string(raw), ") ")
	return err != nil || !ok || rest == "" || strings.ContainsRune("ZX", rune(rest[0]))
}

// kill ends all processes that are this agent, and returns when they have ended. What the agent runs goes on.
func (p *process) kill() {
	var hit []int
	for _, pid := range p.lives() {
		handle, err := os.FindProcess(pid) // held by a descriptor, so it is this one
		if err != nil {
			continue
		}
		if slices.Equal(words(pid, "cmdline"), p.argv) && p.alike(pid) && handle.Signal(syscall.SIGKILL) == nil {
			hit = append(hit, pid)
		}
		_ = handle.Release()
	}
	for end := time.Now().Add(dyingTime); time.Now().Before(end); time.Sleep(lookPause / 10) { // else who is dying would be taken for one that lives
		if !slices.ContainsFunc(hit, func(pid int) bool { return !dead(pid) }) {
			return
		}
	}
}

// dyingTime bounds how long a process may take to end that was killed: what hangs in the kernel does not end.
const dyingTime = 5 * time.Second

// start starts the agent as it was started: by its service manager, or, where none cares for it, by ourselves.
func (o Order) start(p *process, program string) error {
	if p.unit != "" && exec.Command("systemctl", "is-active", "--quiet", p.unit).Run() != nil { // else it is somebody else's: cron's, or sshd's
		if said, err := exec.Command("systemctl", "start", "--no-block", p.unit).CombinedOutput(); err == nil {
			return nil
		} else if _, there := os.Stat("/run/systemd/system"); there == nil {
			return fmt.Errorf("systemctl start %s: %w: %s", p.unit, err, strings.TrimSpace(string(said)))
		}
	}
	if o.LetGo != nil {
		if err := o.LetGo(); err != nil {
			o.Say("the agent will end with this run, if the run is stopped: %v", err)
		}
	}
	back, err := p.groups.enter()
	defer back()
	if err != nil {
		o.Say("the agent will end with this run, if the run is stopped: %v", err)
	}
	return p.fork(program)
}

// fork starts a program as the process was: it has nothing of ours but the control groups that we are in.
func (p *process) fork(program string) error {
	cmd := &exec.Cmd{Path: program, Args: p.argv, Env: p.env, Dir: p.dir, SysProcAttr: &syscall.SysProcAttr{Setsid: true}}
	if p.out != nil {
		cmd.Stdout = p.out
	}
	if p.err != nil {
		cmd.Stderr = p.err
	}
	if p.mask >= 0 {
		defer syscall.Umask(syscall.Umask(p.mask))
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	_ = os.WriteFile(proc(cmd.Process.Pid, "oom_score_adj"), p.oom, 0)
	return cmd.Process.Release()
}

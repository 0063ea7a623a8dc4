package machine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/exec/cage"
)

// Patience bounds how long anything is waited for. It bounds hangs and asserts nothing.
const Patience = 2 * time.Minute

// Options of some machines.
type Options struct {
	Dir   string   // for their files; it must not exist
	Root  string   // the files that all of them see below their own: see MakeRoot
	Names []string // of the machines, in the order of their addresses: 10.78.0.1 and so on
	Plain []string // those whose first process is no service manager
}

// Net is machines on one bridge.
type Net struct {
	opts     Options
	hub      *exec.Cmd
	machines map[string]*Machine
	forks    chan func() // run on one thread that lives as long as the Net: what it starts dies with that thread
	over     chan struct{}
}

// Machine is one of them.
type Machine struct {
	Name string
	Addr string

	first *exec.Cmd
	group string // its control group, "" where the host has none
	dir   string
}

// spaces is what every machine has of its own. Its control groups begin at its own, which unshare sees to.
const spaces = unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC

// Up makes the machines and waits until their services are up. On an error nothing is left.
func Up(ctx context.Context, o Options) (n *Net, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("namespaces with networks need root")
	}
	if err := os.Mkdir(o.Dir, 0o755); err != nil {
		return nil, err
	}
	n = &Net{opts: o, machines: map[string]*Machine{}, forks: make(chan func()), over: make(chan struct{})}
	go n.fork()
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Down())
			n = nil
		}
	}()
	if err := os.WriteFile(n.script(), []byte(script), 0o755); err != nil {
		return n, err
	}
	if err := n.makeHub(); err != nil {
		return n, err
	}
	for i, name := range o.Names {
		m := &Machine{Name: name, Addr: fmt.Sprintf("10.78.0.%d", i+1), dir: filepath.Join(o.Dir, name)}
		n.machines[name] = m
		if err := n.boot(m, i+1); err != nil {
			return n, fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, m := range n.machines {
		if err := n.settle(ctx, m); err != nil {
			return n, fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	return n, nil
}

func (n *Net) fork() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		select {
		case f := <-n.forks:
			f()
		case <-n.over:
			return
		}
	}
}

// start starts a command on the thread of the Net.
func (n *Net) start(cmd *exec.Cmd) error {
	done := make(chan error)
	n.forks <- func() { done <- cmd.Start() }
	return <-done
}

func (n *Net) script() string { return filepath.Join(n.opts.Dir, "machine.sh") }

// Machine returns a machine by its name, or nil.
func (n *Net) Machine(name string) *Machine { return n.machines[name] }

// makeHub starts the process that holds the bridge's network.
func (n *Net) makeHub() error {
	n.hub = exec.Command("sleep", "1000000")
	n.hub.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := n.start(n.hub); err != nil {
		return err
	}
	return inNet(n.hub.Process.Pid, "link set lo up", "link add br0 type bridge mcast_snooping 0", "link set br0 up")
}

// boot starts a machine's first process when its network is there.
func (n *Net) boot(m *Machine, number int) error {
	for _, sub := range []string{"upper/etc", "work", "root"} {
		if err := os.MkdirAll(filepath.Join(m.dir, sub), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(m.dir, "upper/etc/hosts"), []byte(n.hosts()), 0o644); err != nil {
		return err
	}
	cmd := exec.Command("unshare", "--cgroup", "/bin/sh", "-e", n.script(), m.Name, m.dir, n.opts.Root, n.first(m))
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: spaces, Setsid: true, Pdeathsig: syscall.SIGKILL}
	group, err := m.enter(cmd)
	if err != nil {
		return err
	}
	if group != nil {
		defer group.Close()
	}
	log, err := os.Create(filepath.Join(m.dir, "console"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stderr = log
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := n.start(cmd); err != nil {
		return err
	}
	m.first = cmd
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		return fmt.Errorf("it did not come up: %w: %s", err, m.console())
	}
	if err := n.plug(m, number); err != nil {
		return err
	}
	_, err = io.WriteString(in, "go\n")
	return err
}

func (n *Net) first(m *Machine) string {
	for _, name := range n.opts.Plain {
		if name == m.Name {
			return "plain"
		}
	}
	return "systemd"
}

// enter has a command started in a control group of version 2 of its own, where the host has them.
func (m *Machine) enter(cmd *exec.Cmd) (*os.File, error) {
	home := cage.Host().V2()
	if home == "" {
		return nil, nil
	}
	m.group = filepath.Join(filepath.Dir(home), fmt.Sprintf("muster-machine-%d-%s", os.Getpid(), m.Name))
	if err := os.Mkdir(m.group, 0o755); err != nil {
		return nil, err
	}
	dir, err := os.Open(m.group)
	if err != nil {
		return nil, err
	}
	cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	return dir, nil
}

// plug connects a machine with the bridge.
func (n *Net) plug(m *Machine, number int) error {
	port := "v" + strconv.Itoa(number)
	err := inNet(n.hub.Process.Pid,
		fmt.Sprintf("link add %s type veth peer name eth0 netns %d", port, m.first.Process.Pid),
		fmt.Sprintf("link set %s master br0 up", port))
	if err != nil {
		return err
	}
	return inNet(m.first.Process.Pid, "link set lo up", "link set eth0 up", "address add "+m.Addr+"/24 broadcast + dev eth0")
}

// inNet runs lines of ip in the network namespace of a process.
func inNet(pid int, lines ...string) error {
	cmd := exec.Command("nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", pid), "--", "ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip: %w: %s", err, out)
	}
	return nil
}

func (n *Net) hosts() string {
	text := "127.0.0.1 localhost\n"
	for i, name := range n.opts.Names {
		text += fmt.Sprintf("10.78.0.%d %s\n", i+1, name)
	}
	return text
}

// settle waits until a machine's services are up.
func (n *Net) settle(ctx context.Context, m *Machine) error {
	if n.first(m) == "plain" {
		return nil
	}
	ctx, stop := context.WithTimeout(ctx, Patience)
	defer stop()
	for {
		said, _ := m.Run(ctx, "systemctl", "is-system-running", "--wait") // it exits 1 unless all is well
		switch strings.TrimSpace(said) {
		case "running":
			return nil
		case "degraded":
			failed, _ := m.Run(ctx, "systemctl", "--failed", "--no-legend")
			return fmt.Errorf("some of its services failed: %s", failed)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("its services do not come up: %s: %s", said, m.console())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (m *Machine) console() string {
	text, err := os.ReadFile(filepath.Join(m.dir, "console"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

// Command returns a command that was not started yet, of a program on the machine, as root at a prompt would run it.
func (m *Machine) Command(ctx context.Context, argv ...string) *exec.Cmd {
	to := []string{"-t", strconv.Itoa(m.first.Process.Pid), "-m", "-u", "-i", "-n", "-p", "-C", "--"}
	cmd := exec.CommandContext(ctx, "nsenter", append(to, argv...)...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"}
	cmd.WaitDelay = 2 * time.Second // for pipes that something on the machine still holds
	return cmd
}

// Run runs a program on the machine and returns what it said, on both streams.
func (m *Machine) Run(ctx context.Context, argv ...string) (string, error) {
	said, err := m.Command(ctx, argv...).CombinedOutput()
	return string(said), err
}

// Path returns where this process sees a file of the machine.
func (m *Machine) Path(file string) string {
	return filepath.Join("/proc", strconv.Itoa(m.first.Process.Pid), "root", file)
}

// Changes lists the files that the machine has of its own, below the given folders of its root, sorted; folders end in a
// slash. What it removed of the common root is among them.
func (m *Machine) Changes(but ...string) ([]string, error) {
	var out []string
	top := filepath.Join(m.dir, "upper")
	err := filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, top)
		for _, skip := range but {
			if name == skip {
				if d.IsDir() {
					return filepath.SkipDir
				}
				return nil
			}
		}
		if !d.IsDir() {
			out = append(out, name)
		}
		return nil
	})
	return out, err
}

// Down ends every process of every machine and removes all that they had.
func (n *Net) Down() error {
	var errs []error
	for _, m := range n.machines {
		if m.first != nil {
			_ = m.first.Process.Kill() // the kernel ends all others of the namespace first
			_ = m.first.Wait()
		}
		errs = append(errs, m.leaveGroups())
	}
	if n.hub != nil && n.hub.Process != nil {
		_ = n.hub.Process.Kill()
		_ = n.hub.Wait()
	}
	close(n.over)
	return errors.Join(append(errs, os.RemoveAll(n.opts.Dir))...)
}

// leaveGroups removes the control groups that a machine had, the innermost first.
func (m *Machine) leaveGroups() error {
	if m.group == "" {
		return nil
	}
	var dirs []string
	_ = filepath.WalkDir(m.group, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	for i := len(dirs) - 1; i >= 0; i-- {
		err := os.Remove(dirs[i])
		for deadline := time.Now().Add(Patience); errors.Is(err, unix.EBUSY) && time.Now().Before(deadline); {
			time.Sleep(10 * time.Millisecond) // what was killed a moment ago may still be on its way out
			err = os.Remove(dirs[i])
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// PID is the machine's first process, as this machine counts.
func (m *Machine) PID() int { return m.first.Process.Pid }

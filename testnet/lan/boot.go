package lan

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// spaces is what every host has of its own.
const spaces = unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC

// makeHub starts the process that holds the bridge's network namespace.
func (l *Lan) makeHub() (err error) {
	if l.hub, err = l.first("hub"); err != nil {
		return err
	}
	return l.ip(l.hub,
		"link set lo up",
		"link add br0 type bridge mcast_snooping 0",
		"link set br0 up")
}

// boot starts the host's first process, with its files and without a network.
func (h *Host) boot(names string) (*process, error) {
	dir := h.dir()
	for _, sub := range []string{"upper/etc", "work", "root"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	if err := h.makeDisk(); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "upper/etc/hosts"), []byte(names), 0o644); err != nil {
		return nil, err
	}
	below := h.lan.opts.Root
	if below == "" {
		below = "/"
	}
	return h.lan.first(h.name, dir, below, h.lan.shared(), h.disk())
}

// first starts the first process of new namespaces, and waits until it has made its files.
func (l *Lan) first(name string, args ...string) (*process, error) {
	var stderr bytes.Buffer
	cmd := exec.Command("/bin/sh", append([]string{"-e", filepath.Join(l.opts.Dir, scriptName), name}, args...)...)
	cmd.Args[0] = title(l.opts.Name, name)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: spaces, Setsid: true}
	if !l.opts.Stays {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := l.start(cmd); err != nil {
		return nil, fmt.Errorf("namespaces for %s: %w", name, err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		_ = cmd.Process.Kill()
	}
	p, held := hold(cmd.Process.Pid)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // reaps it, whenever that is
	if line == "ready\n" && held == nil {
		return p, nil
	}
	_ = cmd.Process.Kill()
	return nil, fmt.Errorf("%s did not come up: %w: %s", name, <-ended, strings.TrimSpace(stderr.String()))
}

// start starts a command on the thread of the lan: the kernel ends the hosts together with the thread that made them, and
// Go ends threads when it likes.
func (l *Lan) start(cmd *exec.Cmd) error {
	done := make(chan error)
	select {
	case l.forks <- func() { done <- cmd.Start() }:
		return <-done
	case <-l.over:
		return errDown
	}
}

// plug connects hosts that have booted with the bridge.
func (l *Lan) plug(hosts ...*Host) error {
	var lines []string
	for _, h := range hosts {
		lines = append(lines,
			fmt.Sprintf("link add %s type veth peer name eth0 address %s netns %d", h.port(), h.mac(), h.init.pid),
			fmt.Sprintf("link set %s master br0 up", h.port()))
	}
	if err := l.ip(l.hub, lines...); err != nil {
		return err
	}
	return l.each(hosts, func(h *Host) error {
		lines := append([]string{"link set lo up", "link set eth0 up", "address add " + h.addr.String() + "/16 broadcast + dev eth0"}, l.neighbours(h)...)
		if err := l.ip(h.init, lines...); err != nil {
			return err
		}
		if err := h.refit(); err != nil {
			return err
		}
		return h.forwards()
	})
}

// forwarding is what the kernel calls the state of a bridge's port that lets packets pass: BR_STATE_FORWARDING.
const forwarding = "3"

// forwards waits until the bridge lets packets from the host pass: the kernel takes up to a second to notice that there is
// something at the other end of a new cable.
func (h *Host) forwards() error {
	file := fmt.Sprintf("/proc/%d/root/sys/class/net/%s/brport/state", h.lan.hub.pid, h.port())
	for deadline := time.Now().Add(Patience); ; <-time.After(nap) {
		state, err := os.ReadFile(file)
		if err != nil || strings.TrimSpace(string(state)) == forwarding {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the bridge does not take %s", h.name)
		}
	}
}

// neighbours tells a host every other's hardware address. The kernel has one table of what ARP has found out, for all
// namespaces together, of 1,024 entries as it comes: fifty hosts would fight for them.
func (l *Lan) neighbours(h *Host) []string {
	var lines []string
	for _, other := range l.hosts {
		if other != h {
			lines = append(lines, other.neighbour())
		}
	}
	return lines
}

func (h *Host) neighbour() string {
	return fmt.Sprintf("neighbour replace %s lladdr %s dev eth0 nud permanent", h.addr, h.mac())
}

// ip runs lines of ip in the network namespace of a process.
func (l *Lan) ip(in *process, lines ...string) error {
	return inNet(in, strings.Join(lines, "\n")+"\n", "ip", "-batch", "-")
}

// inNet runs a program of this machine in the network namespace of a process.
func inNet(in *process, stdin string, argv ...string) error {
	cmd := exec.Command("nsenter", append([]string{fmt.Sprintf("--net=/proc/%d/ns/net", in.pid), "--"}, argv...)...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// port is the host's end of the bridge, mac what the host's own end is called on the wire: it stays when addresses change.
func (h *Host) port() string { return fmt.Sprintf("v%d", h.number) }
func (h *Host) mac() string  { return macOf(h.number) }

func (h *Host) dir() string { return filepath.Join(h.lan.opts.Dir, h.name) }

// hostsFile is /etc/hosts.
func (l *Lan) hostsFile() string {
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost\n")
	for _, h := range l.hosts {
		fmt.Fprintf(&b, "%s %s\n", h.addr, h.name)
	}
	return b.String()
}

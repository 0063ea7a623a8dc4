package lan

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/lan/slowlink"
)

// Host is one host of a lan.
type Host struct {
	lan    *Lan
	number int
	name   string

	power sync.Mutex // held while the host is switched on or off

	addr netip.Addr // this and the next two belong to the lan's lock
	rate int        // bits in a second
	slow slowlink.Params

	mu     sync.Mutex // of the fields below; who needs the lan's lock too takes that first
	init   *process   // the first process of its namespaces
	agent  *process
	args   []string // of the agent's last start
	limits Limits   // of its next; both locks for a change, either for a look
	ruled  string   // what nft was told last
	shaped bool     // a bound stands
	box    func()   // ends the goroutine that slows the host
}

// Name returns the host's name: n1, n2 and so on.
func (h *Host) Name() string { return h.name }

// Addr returns the host's address.
func (h *Host) Addr() netip.Addr {
	h.lan.mu.Lock()
	defer h.lan.mu.Unlock()
	return h.addr
}

// On reports whether the host is switched on, with or without an agent.
func (h *Host) On() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.init.alive()
}

// PowerOn switches a host on after PowerCut. Start does so too.
func (h *Host) PowerOn() error {
	h.power.Lock()
	defer h.power.Unlock()
	if h.On() {
		return nil
	}
	if err := released(h.dir()); err != nil {
		return err
	}
	h.lan.mu.Lock()
	names, down := h.lan.hostsFile(), h.lan.down
	h.lan.mu.Unlock()
	if down {
		return errDown
	}
	first, err := h.boot(names)
	if err != nil {
		return err
	}
	if err := h.connect(first); err != nil {
		return errors.Join(err, h.cut())
	}
	return nil
}

var errDown = errors.New("the lan is down")

// connect connects a host that has booted.
func (h *Host) connect(first *process) error {
	h.lan.mu.Lock()
	defer h.lan.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.init = first
	if h.lan.down {
		return errDown
	}
	h.unplug()
	if err := h.lan.plug(h); err != nil {
		return err
	}
	return h.lan.saveLocked()
}

// PowerCut ends every process of the host at once. What they had written and not synced is kept: it is in the page cache of
// this machine.
func (h *Host) PowerCut() error {
	h.power.Lock()
	defer h.power.Unlock()
	return h.cut()
}

func (h *Host) cut() error {
	h.mu.Lock()
	first, box := h.init, h.box
	h.init, h.agent, h.box = nil, nil, nil
	h.mu.Unlock()
	if !first.alive() {
		return nil
	}
	err := first.end(unix.SIGKILL) // the kernel ends all others of the namespace first
	if box != nil {
		box()
	}
	return err
}

// unplug removes the bridge's end of the cable, if the kernel has not done so yet.
func (h *Host) unplug() { _ = h.lan.ip(h.lan.hub, "link del "+h.port()) }

// refit puts on the host what was wrong with its network before it was switched on.
func (h *Host) refit() error {
	h.ruled, h.shaped, h.box = newFaults().rules(h.number), false, nil
	if err := h.rule(h.lan.faults); err != nil {
		return err
	}
	if err := h.shape(); err != nil || h.slow.None() {
		return err
	}
	return h.startBox()
}

func (h *Host) isOff() error {
	return fleet.Errorf(fleet.Unavailable, "%s is switched off", h.name).Hinted("PowerOn or Start")
}

// Command returns a command that was not started yet, of a program on the host. When ctx ends it, it is killed on the host
// too.
func (h *Host) Command(ctx context.Context, argv ...string) *exec.Cmd {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.command(ctx, argv...)
}

func (h *Host) command(ctx context.Context, argv ...string) *exec.Cmd {
	if !h.init.alive() {
		return &exec.Cmd{Path: "/usr/bin/nsenter", Args: argv, Err: h.isOff()}
	}
	args := append([]string{"-t", strconv.Itoa(h.init.pid), "-m", "-u", "-i", "-n", "-p", "--"}, argv...)
	cmd := exec.CommandContext(ctx, "nsenter", args...)
	cmd.Dir, cmd.Env = "/", h.lan.env()
	cmd.WaitDelay = 2 * time.Second // for pipes that something on the host still holds
	cmd.Cancel = func() error {
		endChildren(cmd.Process.Pid)
		return cmd.Process.Kill()
	}
	return cmd
}

// endChildren kills what nsenter has started: it lives in another namespace and would not notice.
func endChildren(pid int) {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, word := range strings.Fields(string(raw)) {
		child, err := strconv.Atoi(word)
		if err != nil {
			continue
		}
		if p, err := hold(child); err == nil {
			_ = p.signal(unix.SIGKILL)
		}
	}
}

// env is what every process on every host starts with. The operator's key is where all hosts see it.
func (l *Lan) env() []string {
	return []string{
		"HOME=/root", "USER=root", "LOGNAME=root", "LANG=C.UTF-8", "TERM=" + os.Getenv("TERM"),
		"PATH=/run/lan/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"MUSTER_IDENTITY=/run/lan/op.key",
	}
}

// Identity returns the file of the operator's key, as this process sees it.
func (l *Lan) Identity() string { return filepath.Join(l.shared(), "op.key") }

// Result is what a command line printed and returned. Code is -1 where it did not come to that; Stderr then says why.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Muster runs muster's command line on the host, as the operator.
func (h *Host) Muster(ctx context.Context, args ...string) Result {
	return h.MusterWith(ctx, "", args...)
}

// MusterWith is Muster with standard input.
func (h *Host) MusterWith(ctx context.Context, stdin string, args ...string) Result {
	var stdout, stderr strings.Builder
	cmd := h.Command(ctx, append([]string{"muster"}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	r := Result{Stdout: stdout.String(), Stderr: stderr.String()}
	if cmd.ProcessState == nil {
		r.Code, r.Stderr = -1, r.Stderr+err.Error()
		return r
	}
	r.Code = cmd.ProcessState.ExitCode()
	return r
}

// Process is a process on a host.
type Process struct {
	PID     int // as this machine counts; Inside is as the host counts
	Inside  int
	Argv    []string // empty: it has ended, and nobody has asked for its end yet
	Environ []string
}

// Processes lists what runs on the host, its first process included.
func (h *Host) Processes() ([]Process, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.init.alive() {
		return nil, h.isOff()
	}
	in, err := pidsIn(h.init.pid)
	if err != nil {
		return nil, err
	}
	var out []Process
	for _, pid := range in {
		if inside, ok := insidePID(pid); ok {
			out = append(out, Process{PID: pid, Inside: inside, Argv: words(pid, "cmdline"), Environ: words(pid, "environ")})
		}
	}
	return out, nil
}

// Traffic is what has passed the host's cable since it was switched on.
type Traffic struct {
	SentPackets, SentBytes, ReceivedPackets, ReceivedBytes uint64
}

// Traffic reads the counters of the host's interface.
func (h *Host) Traffic() (t Traffic, err error) {
	err = h.inside(func(root string) error {
		for name, to := range map[string]*uint64{
			"tx_packets": &t.SentPackets, "tx_bytes": &t.SentBytes, "rx_packets": &t.ReceivedPackets, "rx_bytes": &t.ReceivedBytes,
		} {
			raw, err := os.ReadFile(filepath.Join(root, "sys/class/net/eth0/statistics", name))
			if err != nil {
				return err
			}
			if *to, err = strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64); err != nil {
				return err
			}
		}
		return nil
	})
	return t, err
}

// Path returns where this process sees a file of the host, while the host is on.
func (h *Host) Path(file string) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.init.alive() {
		return "", h.isOff()
	}
	return filepath.Join(h.root(), file), nil
}

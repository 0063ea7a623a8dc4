package lan

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/testnet/lan/slowlink"
)

// The device of a slowed host, and where its kernel looks up that it has to use it.
const (
	slowDevice = "slow0"
	slowTable  = "77"
	slowRule   = "100"
)

// Slow makes what the host sends to the others late, doubled or out of order. The zero value lifts it. What waits at a
// change is lost.
//
// The host's own kernel routes what it sends into a TUN device; the box behind that gives each packet back when its time has
// come, and from there it is forwarded through the host's cable, where bounds and counters see it as ever.
func (h *Host) Slow(p slowlink.Params) error {
	if err := p.Check(); err != nil {
		return err
	}
	h.lan.mu.Lock()
	defer h.lan.mu.Unlock()
	return errors.Join(h.setSlow(p), h.lan.saveLocked())
}

func (h *Host) setSlow(p slowlink.Params) error {
	if h.slow == p {
		return nil
	}
	h.slow = p
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.init.alive() {
		return nil
	}
	if err := h.endBox(); err != nil || p.None() {
		return err
	}
	return h.startBox()
}

// startBox makes the device and leads what the host sends into it.
func (h *Host) startBox() error {
	if h.lan.opts.Stays {
		if err := h.startBoxProcess(); err != nil {
			return err
		}
	} else if err := h.startBoxHere(); err != nil {
		return err
	}
	set := fmt.Sprintf("cd /proc/sys/net/ipv4/conf && echo 0 > all/rp_filter && echo 0 > %[1]s/rp_filter && echo 1 > %[1]s/accept_local && echo 1 > %[1]s/forwarding", slowDevice)
	if err := inNet(h.init, "", "sh", "-c", set); err != nil {
		return err
	}
	return h.lan.ip(h.init,
		"link set "+slowDevice+" up txqueuelen 10000",
		h.slowRoute(),
		"rule add pref "+slowRule+" iif lo lookup "+slowTable) // iif lo: of what the host itself sends, not of what it forwards
}

func (h *Host) slowRoute() string {
	return "route replace " + subnet + " dev " + slowDevice + " src " + h.addr.String() + " table " + slowTable
}

// startBoxHere lets a goroutine be the box.
func (h *Host) startBoxHere() error {
	device, err := slowlink.Open(fmt.Sprintf("/proc/%d/ns/net", h.init.pid), slowDevice)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	params := h.slow
	go func() {
		defer close(done)
		free, _ := slowlink.Pin() // without, the order is not kept as strictly
		defer free()
		_ = slowlink.Run(ctx, device, params) // it ends when the host or its slowness does
	}()
	h.box = func() {
		stop()
		_ = device.Close()
		<-done
	}
	return nil
}

// boxWord marks a process that is a box.
const boxWord = "muster-lan-box"

// startBoxProcess lets a process on the host be the box, which lives as long as the host.
func (h *Host) startBoxProcess() error {
	if len(h.lan.opts.Box) == 0 {
		return errors.New("a lan that stays needs to be told how to run a box: Options.Box")
	}
	params, err := json.Marshal(h.slow)
	if err != nil {
		return err
	}
	argv := []string{"-t", strconv.Itoa(h.init.pid), "-n", "-p", "--", "/bin/sh", "-c", `"$@" < /dev/null &`, "box"}
	cmd := exec.Command("nsenter", append(append(argv, h.lan.opts.Box...), boxWord, string(params))...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return err
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	if err := cmd.Wait(); err != nil || line != "ready\n" {
		return fmt.Errorf("the box of %s: %w: %s%s", h.name, err, line, said.String())
	}
	return nil
}

// RunBox is the box of the host in whose network namespace it runs, as Options.Box is to start it; args are what that was
// given. It says on standard output when the device is there, then closes that and standard error.
func RunBox(ctx context.Context, args []string) error {
	if len(args) != 2 || args[0] != boxWord {
		return errors.New("a box is started by a lan")
	}
	var p slowlink.Params
	if err := json.Unmarshal([]byte(args[1]), &p); err != nil {
		return err
	}
	device, err := slowlink.Open("/proc/self/ns/net", slowDevice)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	free, err := slowlink.Pin()
	defer free()
	if err := errors.Join(err, os.Stdout.Close(), os.Stderr.Close()); err != nil {
		return err
	}
	return slowlink.Run(ctx, device, p)
}

// endBox ends whatever slows the host.
func (h *Host) endBox() error {
	_ = h.lan.ip(h.init, "rule del pref "+slowRule) // there may be none
	if h.box != nil {
		h.box()
		h.box = nil
	}
	if !h.lan.opts.Stays {
		return nil
	}
	in, err := pidsIn(h.init.pid)
	if err != nil {
		return err
	}
	for _, pid := range in {
		if w := words(pid, "cmdline"); len(w) < 2 || w[len(w)-2] != boxWord {
			continue
		}
		if p, err := hold(pid); err == nil {
			if err := p.end(unix.SIGKILL); err != nil {
				return err
			}
		}
	}
	return nil
}

package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/muster-fleet/muster/testnet/lan"
	"github.com/muster-fleet/muster/testnet/lan/slowlink"
)

// hosts is a fleet of real agents on hosts of namespaces.
type hosts struct {
	l *lan.Lan

	mu      sync.Mutex
	network []Fault          // that are on now
	read    map[string]int64 // of each agent's log, bytes searched for crashes
}

// found makes hosts and a fleet on them: the servers first, then the agents, whose token does not let them be servers.
func found(bin, dir string) Founder {
	return func(ctx context.Context, shape Shape) (Driver, error) {
		l, err := lan.Up(ctx, lan.Options{Bin: bin, Dir: dir, Hosts: shape.Servers + shape.Agents})
		if err != nil {
			return nil, err
		}
		h := &hosts{l: l, read: map[string]int64{}}
		if err := h.enrol(ctx, shape); err != nil {
			return nil, errors.Join(err, l.Down())
		}
		return h, nil
	}
}

func (h *hosts) enrol(ctx context.Context, shape Shape) error {
	if err := h.l.Found(ctx); err != nil {
		return err
	}
	all := h.l.Hosts()
	if shape.Servers > 1 {
		if err := h.l.Join(ctx, all[1:shape.Servers]...); err != nil {
			return err
		}
	}
	if shape.Agents == 0 {
		return h.l.Settled(ctx)
	}
	return errors.Join(h.joinPlain(ctx, all[shape.Servers:]), h.l.Settled(ctx))
}

// joinPlain enrols hosts that may not be servers.
func (h *hosts) joinPlain(ctx context.Context, plain []*lan.Host) error {
	var made struct{ Join string }
	r := h.l.Hosts()[0].Muster(ctx, "-o", "json", "token", "create", "--server", "no", "--uses", strconv.Itoa(len(plain)))
	if err := readJSON(r.Stdout, &made); err != nil || r.Code != 0 {
		return fmt.Errorf("muster token create: exit %d: %s", r.Code, r.Stderr)
	}
	for _, host := range plain {
		path, err := host.Path("run/chaos-join")
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(made.Join), 0o600); err != nil {
			return err
		}
		if err := host.Launch("--join-file", "/run/chaos-join"); err != nil {
			return err
		}
	}
	for _, host := range plain {
		if err := host.Start(); err != nil {
			return err
		}
	}
	return nil
}

func (h *hosts) Muster(ctx context.Context, host string, args ...string) Result {
	return Result(h.l.Host(host).Muster(ctx, args...))
}

func (h *hosts) MusterWith(ctx context.Context, host, stdin string, args ...string) Result {
	return Result(h.l.Host(host).MusterWith(ctx, stdin, args...))
}

func (h *hosts) named(names []string) []*lan.Host {
	var out []*lan.Host
	for _, name := range names {
		out = append(out, h.l.Host(name))
	}
	return out
}

// each does something for several hosts at once.
func (h *hosts) each(names []string, do func(*lan.Host) error) error {
	errs := make([]error, len(names))
	var group sync.WaitGroup
	for i, host := range h.named(names) {
		group.Go(func() {
			if err := do(host); err != nil {
				errs[i] = fmt.Errorf("%s: %w", host.Name(), err)
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

func (h *hosts) Begin(_ context.Context, f Fault) error {
	switch f.Kind {
	case Kill:
		return h.each(f.Hosts, (*lan.Host).Kill)
	case Pause:
		return h.each(f.Hosts, func(host *lan.Host) error { return ifRunning(host, host.Pause) })
	case Restart:
		return h.each(f.Hosts, stop)
	case PowerCut:
		return h.each(f.Hosts, (*lan.Host).PowerCut)
	case Full:
		return h.each(f.Hosts, (*lan.Host).FillDisk)
	case ReadOnly:
		return h.each(f.Hosts, func(host *lan.Host) error { return host.ReadOnly(true) })
	case Clock:
		return h.each(f.Hosts, func(host *lan.Host) error { return host.Clock(time.Duration(f.Amount) * time.Second) })
	case Move:
		return h.each(f.Hosts, func(host *lan.Host) error { return host.Move(elsewhere(host)) })
	case Files:
		return h.each(f.Hosts, func(host *lan.Host) error { return again(host, lan.Limits{Files: uint64(f.Amount)}) })
	case Split, OneWay, Ring, Loss, Slow, Narrow:
		h.mu.Lock()
		defer h.mu.Unlock()
		h.network = append(h.network, f)
		return h.apply(f)
	}
	return fmt.Errorf("no such fault: %s", f)
}

func (h *hosts) End(_ context.Context, f Fault) error {
	switch f.Kind {
	case Kill, Restart:
		return h.each(f.Hosts, launch)
	case Pause:
		return h.each(f.Hosts, func(host *lan.Host) error { return ifRunning(host, host.Resume) })
	case PowerCut:
		return h.each(f.Hosts, launch)
	case Full:
		return h.each(f.Hosts, (*lan.Host).FreeDisk)
	case ReadOnly:
		return h.each(f.Hosts, func(host *lan.Host) error { return host.ReadOnly(false) })
	case Clock:
		return h.each(f.Hosts, func(host *lan.Host) error { return host.Clock(0) })
	case Move:
		return h.each(f.Hosts, func(host *lan.Host) error { return host.Move(home(host)) })
	case Files:
		return h.each(f.Hosts, func(host *lan.Host) error { return again(host, lan.Limits{}) })
	case Split, OneWay, Ring, Loss, Slow, Narrow:
		return h.mend(f)
	}
	return fmt.Errorf("no such fault: %s", f)
}

// apply puts a fault on the network.
func (h *hosts) apply(f Fault) error {
	switch f.Kind {
	case Split:
		return h.l.Part(h.named(f.Hosts)...)
	case OneWay:
		return h.l.Cut(h.named(f.Hosts), h.named(f.To))
	case Ring:
		return h.l.Ring()
	case Loss:
		return h.l.Lose(int(f.Amount), h.named(f.Hosts)...)
	case Slow:
		return h.each(f.Hosts, func(host *lan.Host) error { return host.Slow(slow(f.Amount)) })
	case Narrow:
		return h.each(f.Hosts, func(host *lan.Host) error { return host.Bandwidth(int(f.Amount)) })
	case Kill, Pause, Restart, PowerCut, Full, ReadOnly, Clock, Move, Files:
	}
	return nil
}

// mend takes one fault off the network: all of them, and the others on again, as they overlap.
func (h *hosts) mend(f Fault) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.IndexFunc(h.network, func(other Fault) bool { return other.String() == f.String() }); i >= 0 {
		h.network = slices.Delete(h.network, i, i+1)
	}
	err := h.l.Heal()
	for _, other := range h.network {
		err = errors.Join(err, h.apply(other))
	}
	return err
}

// slow is a cable on which packets come late, twice and in another order.
func slow(delayMS int64) slowlink.Params {
	return slowlink.Params{Delay: ms(delayMS), Jitter: ms(delayMS), Duplicate: 5, Reorder: 10, Seed: uint64(delayMS)}
}

func ifRunning(host *lan.Host, do func() error) error {
	if !host.Running() {
		return nil
	}
	return do()
}

// stop ends an agent with SIGTERM, which one that is paused would not hear.
func stop(host *lan.Host) error {
	return errors.Join(ifRunning(host, host.Resume), host.Stop())
}

func launch(host *lan.Host) error { return host.Launch() }

// again starts an agent anew, with other limits.
func again(host *lan.Host, limits lan.Limits) error {
	if !host.On() {
		return host.Limit(limits)
	}
	return errors.Join(stop(host), host.Limit(limits), host.Launch())
}

// home and elsewhere are the addresses of a host.
func home(host *lan.Host) netip.Addr {
	n, _ := strconv.Atoi(strings.TrimPrefix(host.Name(), "n"))
	return lan.Addr(n)
}

func elsewhere(host *lan.Host) netip.Addr {
	bytes := home(host).As4()
	bytes[2]++
	return netip.AddrFrom4(bytes)
}

func (h *hosts) Heal(context.Context) error {
	h.mu.Lock()
	h.network = nil
	err := h.l.Heal()
	h.mu.Unlock()
	for _, host := range h.l.Hosts() {
		err = errors.Join(err, whole(host))
	}
	return err
}

// whole makes a host as it was in the beginning, with its agent running.
func whole(host *lan.Host) error {
	if err := host.PowerOn(); err != nil {
		return err
	}
	errs := []error{host.FreeDisk(), host.ReadOnly(false), host.Clock(0), host.Limit(lan.Limits{}), ifRunning(host, host.Resume)}
	if host.Addr() != home(host) {
		errs = append(errs, host.Move(home(host)))
	}
	return errors.Join(append(errs, host.Launch())...)
}

func (h *hosts) Settled(ctx context.Context) error { return h.l.Settled(ctx) }

func (h *hosts) Notes(_ context.Context, host string) (string, error) {
	path, err := h.l.Host(host).Path(notes)
	if err != nil {
		return "", err
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return string(raw), err
}

func (h *hosts) Processes(host string) ([]Process, error) {
	all, err := h.l.Host(host).Processes()
	var out []Process
	for _, p := range all {
		out = append(out, Process{PID: p.PID, Argv: p.Argv, Environ: p.Environ})
	}
	return out, err
}

func (h *hosts) Life(host string) int { return h.l.Host(host).PID() }

// Holding looks through what a host has written: the files that differ from the machine's, its data disk, what it has in
// memory as files, and its agent's log.
func (h *hosts) Holding(_ context.Context, host, text string) ([]string, error) {
	forms := [][]byte{[]byte(text), []byte(hex.EncodeToString([]byte(text)))}
	for shift := range 3 { // base64 of a longer text has it at one of three places within a group
		padded := append(make([]byte, shift), text...)
		forms = append(forms, []byte(base64.StdEncoding.EncodeToString(padded[:len(padded)/3*3])[4:]))
	}
	at := h.l.Host(host)
	dirs := []string{filepath.Join(h.l.Dir(), host, "upper"), at.Log()}
	for _, dir := range []string{"disk", "tmp", "run"} {
		path, err := at.Path(dir)
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, path)
	}
	var out []string
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return nil // it has gone meanwhile
			case err != nil:
				return err
			case e.IsDir() && path == filepath.Join(dir, "lan"): // what all hosts share
				return fs.SkipDir
			case !e.Type().IsRegular():
				return nil
			}
			raw, err := os.ReadFile(path)
			if slices.ContainsFunc(forms, func(form []byte) bool { return bytes.Contains(raw, form) }) {
				out = append(out, path)
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Crashes reads what the agents' logs have got since the last time for what Go says when a program breaks.
func (h *hosts) Crashes() ([]string, error) {
	var out []string
	for _, host := range h.l.Hosts() {
		raw, err := os.ReadFile(host.Log())
		if err != nil {
			return nil, err
		}
		fresh := raw[min(h.read[host.Name()], int64(len(raw))):]
		h.read[host.Name()] = int64(len(raw))
		if text := crash(string(fresh)); text != "" {
			out = append(out, host.Name()+": "+text)
		}
	}
	return out, nil
}

// crash finds the first words of a panic in a log.
func crash(log string) string {
	for _, word := range []string{"panic: ", "fatal error: ", "WARNING: DATA RACE", "SIGSEGV", "unexpected fault address"} {
		at := strings.Index("\n"+log, "\n"+word)
		if at < 0 {
			continue
		}
		lines := strings.SplitN(log[at:], "\n", 13)
		return strings.Join(lines[:min(len(lines), 12)], "\n")
	}
	return ""
}

func (h *hosts) Keep(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var errs []error
	for _, host := range h.l.Hosts() {
		raw, err := os.ReadFile(host.Log())
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, host.Name()+".log"), raw, 0o644)
		}
		text, err2 := h.Notes(context.Background(), host.Name())
		if err2 == nil {
			err2 = os.WriteFile(filepath.Join(dir, host.Name()+".notes"), []byte(text), 0o644)
		}
		errs = append(errs, err, err2)
	}
	return errors.Join(errs...)
}

func (h *hosts) Close() error { return h.l.Down() }

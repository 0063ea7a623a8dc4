package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// usedCommands is how many commands the agent of a used folder has run.
const usedCommands = 1000

// started is what a start of an agent took, from exec on.
type started struct {
	ready  time.Duration // it tells the service manager that it is up
	answer time.Duration // it answers on its socket
	leads  time.Duration // it knows a leader: here itself, so that commands are taken
}

// measureStartup starts the agent of a fleet of one on a folder that was never used, and on one of many commands.
func measureStartup(ctx context.Context, p place) ([]figure, error) {
	return startupAfter(ctx, p, usedCommands)
}

func startupAfter(ctx context.Context, p place, commands int) (out []figure, err error) {
	fresh, err := freshStarts(ctx, p)
	if err != nil {
		return nil, err
	}
	out = startFigures("fresh", "a new folder", fresh)
	used, err := usedStarts(ctx, p, commands)
	return append(out, startFigures("used", fmt.Sprintf("after %d commands", commands), used)...), err
}

func startFigures(key, name string, starts []started) []figure {
	of := func(stage func(started) time.Duration) (values []time.Duration) {
		for _, s := range starts {
			values = append(values, stage(s))
		}
		return values
	}
	ready := inSeconds(of(func(s started) time.Duration { return s.ready }))
	return []figure{
		{key: "startup_" + key + "_ready_p50_seconds", name: name + ": exec to ready, p50", unit: seconds, value: median(ready),
			note: "READY=1 to the service manager; the program is in the page cache"},
		{key: "startup_" + key + "_ready_max_seconds", name: name + ": exec to ready, slowest", unit: seconds, value: largest(ready)},
		{key: "startup_" + key + "_answer_p50_seconds", name: name + ": exec to the first answer, p50", unit: seconds,
			value: median(inSeconds(of(func(s started) time.Duration { return s.answer })))},
		{key: "startup_" + key + "_leads_p50_seconds", name: name + ": exec to a leader, p50", unit: seconds,
			value: median(inSeconds(of(func(s started) time.Duration { return s.leads }))), note: "the only server elects itself"},
	}
}

// freshStarts founds a fleet each time.
func freshStarts(ctx context.Context, p place) (out []started, err error) {
	for range p.runs {
		f := &plain{muster: p.muster}
		if f.dir, err = os.MkdirTemp(p.folder, "f"); err != nil {
			return nil, err
		}
		a, err := f.init(ctx)
		if err == nil {
			var s started
			s, err = f.startTimed(ctx, a)
			out = append(out, s)
		}
		if err = errors.Join(err, f.end()); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// usedStarts runs commands, and then starts the agent anew again and again.
func usedStarts(ctx context.Context, p place, commands int) (out []started, err error) {
	f, err := startPlain(ctx, p, 1)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.end()) }()
	a := f.agents[0]
	if err := f.useUp(ctx, a, commands); err != nil {
		return nil, err
	}
	for range p.runs {
		if err := a.stop(); err != nil {
			return nil, err
		}
		s, err := f.startTimed(ctx, a)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// useUp runs commands, some at a time.
func (f *plain) useUp(ctx context.Context, a *plainAgent, commands int) error {
	const atATime = 4
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	done := make(chan struct{})
	for worker := range atATime {
		go func() {
			for i := worker; i < commands && ctx.Err() == nil; i += atATime {
				if _, err := f.say(ctx, a, "run", "--all", "--", "true"); err != nil {
					stop(err)
				}
			}
			done <- struct{}{}
		}()
	}
	for range atATime {
		<-done
	}
	return context.Cause(ctx)
}

// stop ends an agent as a service manager does.
func (a *plainAgent) stop() error {
	a.client.Close()
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	err := <-a.ended
	a.ended = nil
	return err
}

// startTimed starts an agent in the place of the service manager.
func (f *plain) startTimed(ctx context.Context, a *plainAgent) (s started, err error) {
	path := filepath.Join(f.dir, "notify")
	defer os.Remove(path)
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return s, err
	}
	defer manager.Close()
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	began := time.Now()
	defer context.AfterFunc(ctx, func() { _ = manager.SetReadDeadline(began) })()
	type heard struct {
		after time.Duration
		err   error
	}
	ready := make(chan heard, 1)
	go func() {
		note := make([]byte, 4096)
		for {
			n, err := manager.Read(note)
			if err == nil && !strings.Contains(string(note[:n]), "READY=1") {
				continue
			}
			ready <- heard{time.Since(began), err}
			return
		}
	}()
	if err := f.launch(ctx, a, []string{"NOTIFY_SOCKET=" + path}); err != nil {
		return s, err
	}
	err = until(ctx, time.Millisecond, a.name+" comes up", func() (bool, error) {
		status, err := a.client.Status(ctx)
		if err != nil || status.Fleet.IsZero() {
			return false, a.runs()
		}
		if s.answer == 0 {
			s.answer = time.Since(began)
		}
		if status.Quorum.Leader.IsZero() {
			return false, nil
		}
		s.leads = time.Since(began)
		return true, nil
	})
	if err != nil {
		return s, err
	}
	h := <-ready
	if s.ready = h.after; h.err != nil {
		return s, fmt.Errorf("%s leads, and does not say that it is up: %w", a.name, h.err)
	}
	return s, nil
}

package main

import (
	"context"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// What a service manager is told, as sd_notify(3) has it.
const (
	readyNote    = "READY=1\n"
	stoppingNote = "STOPPING=1\n"
	watchdogNote = "WATCHDOG=1\n"
)

// notify sends a note to the service manager, if one started this process and wants to hear. A note that is lost is no
// reason to stop: a manager that misses it says so itself.
func (a *app) notify(note string) {
	path := a.getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"}) // @… is an abstract one
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = conn.Write([]byte(note))
}

// watchdogTime is how long the service manager waits for a sign of life of this process; 0: it does not.
func watchdogTime(getenv func(string) string, pid int) time.Duration {
	if of := getenv("WATCHDOG_PID"); of != "" && of != strconv.Itoa(pid) {
		return 0
	}
	microseconds, err := strconv.ParseUint(getenv("WATCHDOG_USEC"), 10, 43) // up to 100 days
	if err != nil {
		return 0
	}
	return time.Duration(microseconds) * time.Microsecond
}

// heart is what beats as long as an agent works.
type heart interface {
	// Beat returns when the agent's loop has ended a turn, or with the error of ctx.
	Beat(ctx context.Context) error
}

// keepAlive tells the service manager that the agent is up, and then, as often as it wants, that its loop still turns. A
// loop that hangs is told by silence. It ends with ctx.
func (a *app) keepAlive(ctx context.Context, h heart, status string) {
	a.notify(readyNote + "STATUS=" + strings.ReplaceAll(status, "\n", " ") + "\n")
	limit := watchdogTime(a.getenv, os.Getpid())
	if limit == 0 {
		return
	}
	every := time.NewTicker(limit / 4)
	defer every.Stop()
	for h.Beat(ctx) == nil {
		a.notify(watchdogNote)
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
	}
}

// tireless is a heart that always beats: of what waits for others, and may wait for long.
type tireless struct{}

// Beat is nil until ctx ends.
func (tireless) Beat(ctx context.Context) error { return ctx.Err() }

// patientStart is how long a service manager that starts the agent waits for its enrolment. Beyond it the agent counts as
// started, and goes on asking: a fleet that cannot be reached now must not hold up a boot, or a package's installation.
const patientStart = 20 * time.Second

// aliveWhile tells the service manager, if it takes long, that this process is well, until the returned function is called.
func (a *app) aliveWhile(ctx context.Context, status string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		select {
		case <-ctx.Done():
		case <-time.After(patientStart):
			a.keepAlive(ctx, tireless{}, status)
		}
	}()
	return func() {
		cancel()
		<-over
	}
}

package cagetest

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/muster-fleet/muster/exec/cage"
)

// The first arguments of a test binary that is to play.
const (
	HideArg   = "hide"   // Hide
	HiddenArg = "hidden" // Hidden
)

// Marker returns one that nobody else has.
func Marker() string { return "marker-" + rand.Text() }

// Hide starts processes that try not to be found, says so, and waits. The test binary is to call Hidden when its first argument is
// HiddenArg.
func Hide(marker string) {
	for _, how := range []string{"setsid", "double", "clean", "ignore"} {
		start(how+":"+marker, how != "ignore", how == "clean")
	}
	fmt.Println("hiding")
	select {}
}

// Hidden hides in its own way; the arguments stay as a marker for the test.
func Hidden(what string) {
	if how, _, _ := strings.Cut(what, ":"); how == "double" {
		start("orphan"+what, true, true)
		os.Exit(0)
	}
	IgnoreAll()
	time.Sleep(time.Hour)
	os.Exit(0)
}

func start(what string, leads, clean bool) {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(exe, HiddenArg, what)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: leads}
	if clean {
		cmd.Env = []string{}
	}
	if err := cmd.Start(); err != nil {
		panic(err)
	}
}

// IgnoreAll ignores what asks a process to end.
func IgnoreAll() { signal.Ignore(syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT) }

// WithMarker lists the living processes whose command line holds the marker, whatever their environment or session.
func WithMarker(marker string) []string {
	var out []string
	for _, pid := range cage.Processes() {
		line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		if err == nil && bytes.Contains(line, []byte(marker)) && pid != os.Getpid() {
			out = append(out, strconv.Itoa(pid)+" "+string(bytes.ReplaceAll(line, []byte{0}, []byte(" "))))
		}
	}
	return out
}

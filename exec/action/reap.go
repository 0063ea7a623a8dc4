package action

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	prSetChildSubreaper = 36 // linux/prctl.h
	killRounds          = 100
	killPause           = 20 * time.Millisecond
)

// becomeReaper makes orphans of what this process starts its own children, so that they can be found.
func becomeReaper() error {
	if _, _, errno := syscall.Syscall6(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// children lists this process's children.
func children() []int {
	var out []int
	files, _ := filepath.Glob("/proc/self/task/*/children")
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		for word := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(word); err == nil {
				out = append(out, pid)
			}
		}
	}
	return out
}

// killRest ends what is left of a step whose program is gone: its process group after the rest of its mercy, and whatever
// left the group. Children that were there before the step are not the step's.
func (h host) killRest(group int, before []int) {
	left := func() []int {
		var out []int
		for _, pid := range children() { // a child that was not waited for keeps its PID
			if slices.Contains(before, pid) {
				continue
			}
			if got, err := syscall.Wait4(pid, nil, syscall.WNOHANG, nil); err == nil && got == 0 {
				out = append(out, pid)
			}
		}
		return out
	}
	for range int(mercy / killPause) {
		if left(); syscall.Kill(-group, 0) != nil {
			break
		}
		h.pause(context.Background(), killPause)
	}
	syscall.Kill(-group, syscall.SIGKILL)
	for range killRounds {
		pids := left()
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		h.pause(context.Background(), killPause)
	}
	h.say("some processes of the step cannot be killed")
}

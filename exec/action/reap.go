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
	for range int(mercy / killPause) {
		if syscall.Kill(-group, 0) != nil {
			break
		}
		h.pause(context.Background(), killPause)
	}
	syscall.Kill(-group, syscall.SIGKILL)
	for range killRounds {
		left := slices.DeleteFunc(children(), func(pid int) bool { return slices.Contains(before, pid) })
		if len(left) == 0 {
			return
		}
		for _, pid := range left { // a child that was not waited for keeps its PID
			syscall.Kill(pid, syscall.SIGKILL)
			syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
		}
		h.pause(context.Background(), killPause)
	}
	h.say("some processes of the step cannot be killed")
}

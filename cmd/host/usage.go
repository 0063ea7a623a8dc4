package host

import (
	"bytes"
	"os"
	"runtime"
	"strconv"

	"github.com/muster-fleet/muster/node"
)

// usage reads what this process takes. What cannot be read is 0: the answer is for people, and no decision hangs on it.
func usage() node.Usage {
	u := node.Usage{Goroutines: runtime.NumGoroutine()}
	if files, err := os.ReadDir("/proc/self/fd"); err == nil {
		u.Files = len(files)
	}
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		if fields := bytes.Fields(statm); len(fields) > 1 {
			pages, _ := strconv.ParseUint(string(fields[1]), 10, 64)
			u.RSS = pages * uint64(os.Getpagesize())
		}
	}
	return u
}

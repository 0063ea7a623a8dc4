package host

import (
	"bytes"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/upgrade"
)

// Bounds of looking at a host.
const (
	fsyncTries    = 7
	fsyncBytes    = 4 << 10
	fsyncPatience = 3 * time.Second // a disk that is slower has told enough
	looseShown    = 5
	looseLooked   = 5000 // files of the data folder that are looked at
)

// Examine looks at a host without any agent: the disk of the data folder, what its network and clock are. It writes one small
// file into the data folder and removes it. What cannot be read is left at zero, and said where that matters.
func Examine(dir string) shape.HostCheck {
	h := shape.HostCheck{Dir: dir, FreeFiles: -1, Loose: []string{}, Interfaces: interfaces(), Routes: hasRoute(), ClockKept: clockKept(),
		RmemMax: procInt("/proc/sys/net/core/rmem_max"), WmemMax: procInt("/proc/sys/net/core/wmem_max"), Kernel: kernel()}
	h.MemTotal, h.MemFree = memory()
	if _, err := os.Stat(dir); err != nil {
		h.DirError = err.Error()
		return h
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err == nil {
		h.Free, h.Total = int64(disk.Bavail)*int64(disk.Bsize), int64(disk.Blocks)*int64(disk.Bsize)
		h.ReadOnly = disk.Flags&unix.ST_RDONLY != 0
		if disk.Files > 0 {
			h.FreeFiles = int64(disk.Ffree)
		}
	}
	h.Fsync, h.FsyncWorst, h.FsyncError = fsyncTime(dir)
	h.Loose, h.LooseMore = loose(dir)
	if t, ok, err := upgrade.Read(dir); err == nil && ok {
		h.Upgrade = &shape.UpgradeCheck{Stage: string(t.Stage), From: t.From.Version, To: t.To.Version, Why: t.Why}
	}
	return h
}

// fsyncTime measures how long the disk takes to keep a small file: the median and the worst of a few, in microseconds.
func fsyncTime(dir string) (median, worst int64, failed string) {
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return 0, 0, err.Error()
	}
	defer os.Remove(f.Name())
	defer f.Close()
	var took []int64
	for begin := time.Now(); len(took) < fsyncTries && time.Since(begin) < fsyncPatience; {
		at := time.Now()
		if _, err := f.WriteAt(bytes.Repeat([]byte{byte(len(took))}, fsyncBytes), 0); err != nil {
			return 0, 0, err.Error()
		}
		if err := f.Sync(); err != nil {
			return 0, 0, err.Error()
		}
		took = append(took, time.Since(at).Microseconds())
	}
	slices.Sort(took)
	return took[len(took)/2], took[len(took)-1], ""
}

// loose lists what others than its owner can read or write of the data folder: the folder itself, or, where it is closed as it should
// be, nothing, for nobody gets at what is in it.
func loose(dir string) (shown []string, more int) {
	shown = []string{}
	top, err := os.Stat(dir)
	if err != nil || top.Mode().Perm()&0o077 == 0 && ownedByUs(top) {
		return shown, 0
	}
	looked := 0
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if looked++; err != nil || looked > looseLooked {
			return errors.Join(err, fs.SkipAll)
		}
		info, err := entry.Info()
		if err != nil || info.Mode()&fs.ModeSymlink != 0 || info.Mode()&fs.ModeSocket != 0 {
			return nil
		}
		if info.Mode().Perm()&0o077 == 0 && ownedByUs(info) {
			return nil
		}
		if len(shown) < looseShown {
			shown = append(shown, path)
		} else {
			more++
		}
		return nil
	})
	return shown, more
}

// ownedByUs reports whether a file is this account's, or root's.
func ownedByUs(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return !ok || stat.Uid == 0 || int(stat.Uid) == os.Geteuid()
}

func interfaces() []shape.InterfaceCheck {
	out := []shape.InterfaceCheck{}
	all, err := net.Interfaces()
	if err != nil {
		return out
	}
	for _, i := range all {
		if i.Flags&net.FlagUp != 0 && i.Flags&net.FlagLoopback == 0 {
			out = append(out, shape.InterfaceCheck{Name: i.Name, MTU: i.MTU})
		}
	}
	return out
}

// hasRoute reports whether the kernel knows any way out: a line beyond the head in the table of version 4, or one of version 6 that
// is not loopback's.
func hasRoute() bool {
	four, _ := os.ReadFile("/proc/self/net/route")
	if bytes.Count(four, []byte("\n")) > 1 {
		return true
	}
	six, _ := os.ReadFile("/proc/self/net/ipv6_route")
	for line := range strings.Lines(string(six)) {
		if fields := strings.Fields(line); len(fields) == 10 && fields[9] != "lo" {
			return true
		}
	}
	return false
}

// clockKept says whether something keeps the kernel's clock right, as NTP's daemons tell it; "" where the kernel does not say.
func clockKept() string {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	switch {
	case err != nil:
		return ""
	case state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0:
		return "no"
	}
	return "yes"
}

func memory() (total, free int64) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		n, _ := strconv.ParseInt(fields[1], 10, 64)
		switch fields[0] {
		case "MemTotal:":
			total = n << 10
		case "MemAvailable:":
			free = n << 10
		}
	}
	return total, free
}

func kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Machine[:])
}

func procInt(path string) int {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return n
}

func addrPortOf(ip []byte, port int) string {
	addr, ok := netip.AddrFromSlice(ip)
	if !ok {
		return ""
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)).String()
}

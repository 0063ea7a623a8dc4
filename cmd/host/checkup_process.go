package host

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node/api/shape"
)

// fileLimit returns how many descriptors this process may have; 0: it is not known.
func fileLimit() int64 {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return int64(limit.Cur)
}

// dumpable reports whether the kernel may write this process's memory into a file when it crashes.
func dumpable() bool {
	on, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	return err == nil && on != 0
}

// replaced reports whether the file that this process was started from is gone, or another by now.
func replaced() bool {
	path, err := os.Readlink("/proc/self/exe")
	return err == nil && strings.HasSuffix(path, " (deleted)")
}

// ownSockets lists this process's sockets of the internet that wait for others: UDP, and TCP that listens.
func ownSockets() []shape.SocketCheck {
	out := []shape.SocketCheck{}
	drops := dropsByInode()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return out
	}
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if s, ok := socketAt(fd, drops); ok {
			out = append(out, s)
		}
	}
	return out
}

func socketAt(fd int, drops map[string]int64) (s shape.SocketCheck, ok bool) {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil || domain != unix.AF_INET && domain != unix.AF_INET6 {
		return s, false
	}
	kind, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	listens, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if _, err := unix.Getpeername(fd); err == nil || kind == unix.SOCK_STREAM && listens == 0 {
		return s, false // a connection, not a door
	}
	s = shape.SocketCheck{Proto: "udp", Listening: true, Drops: -1}
	if kind == unix.SOCK_STREAM {
		s.Proto = "tcp"
	}
	if at, err := unix.Getsockname(fd); err == nil {
		s.Local = addrText(at)
	}
	s.RecvBytes, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	s.SendBytes, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
	var stat unix.Stat_t
	if unix.Fstat(fd, &stat) == nil {
		if n, known := drops[strconv.FormatUint(stat.Ino, 10)]; known {
			s.Drops = n
		}
	}
	return s, true
}

func addrText(at unix.Sockaddr) string {
	switch a := at.(type) {
	case *unix.SockaddrInet4:
		return addrPortOf(a.Addr[:], a.Port)
	case *unix.SockaddrInet6:
		return addrPortOf(a.Addr[:], a.Port)
	}
	return ""
}

// dropsByInode returns how many packets each UDP socket of this network namespace has lost for a full buffer, as
// /proc/net/udp has it: the column inode, and the last one.
func dropsByInode() map[string]int64 {
	out := map[string]int64{}
	for _, path := range []string{"/proc/self/net/udp", "/proc/self/net/udp6"} {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if len(fields) < 13 {
				continue
			}
			if n, err := strconv.ParseInt(fields[12], 10, 64); err == nil {
				out[fields[9]] = n
			}
		}
	}
	return out
}

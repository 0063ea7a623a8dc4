package host

import (
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of SO_MEMINFO (linux/sock_diag.h): how many numbers there are, and which of them counts datagrams without room.
const (
	memoryNumbers = 9
	memoryDrops   = 8
)

// socketDrops asks the kernel how many datagrams found no room in a socket's buffer; 0 where it does not say.
func socketDrops(conn net.PacketConn) uint64 {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	var numbers [memoryNumbers]uint32
	_ = raw.Control(func(fd uintptr) {
		size := uint32(unsafe.Sizeof(numbers))
		_, _, _ = unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&numbers)), uintptr(unsafe.Pointer(&size)), 0)
	})
	return uint64(numbers[memoryDrops])
}

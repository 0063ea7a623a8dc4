package cage

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// BootNow reads the boot clock.
func BootNow() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0 // before Linux 2.6.39
	}
	return time.Duration(t.Nano())
}

// BootTimer fires after d on the boot clock, which goes on while the host sleeps and which nobody can set.
func BootTimer(d time.Duration) <-chan struct{} {
	fired := make(chan struct{})
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err == nil {
		err = unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(max(1, int64(d)))}, nil)
	}
	if err != nil {
		time.AfterFunc(d, func() { close(fired) })
		return fired
	}
	f := os.NewFile(uintptr(fd), "timer")
	go func() {
		f.Read(make([]byte, 8))
		close(fired)
	}()
	return fired
}
